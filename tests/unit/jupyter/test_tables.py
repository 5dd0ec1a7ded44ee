"""Tables of what ran: the same columns and types whatever there is."""

from __future__ import annotations

from typing import Any

import pytest
import reactivex.operators as ops

import rxtasks.jupyter as rxj
from rxtasks import RetryPolicy, SettingsError, TaskContext, TaskExecutor
from tests.acceptance.support import SOON, Gate, service

TYPES = {
    **dict.fromkeys(("task_id", "name", "status", "worker", "error_type", "error"), "string"),
    **dict.fromkeys(("attempt", "crashes"), "int64"),
    **dict.fromkeys(("created", "started", "finished"), "datetime64[us, UTC]"),
    **dict.fromkeys(("waited", "seconds"), "float64"),
    "tags": "object",
}
ATTEMPTS = {
    **dict.fromkeys(("task_id", "name", "worker", "outcome", "error"), "string"),
    "attempt": "int64",
    **dict.fromkeys(("started", "finished"), "datetime64[us, UTC]"),
    "seconds": "float64",
}


def types(frame: Any) -> dict[str, str]:
    return {name: str(kind) for name, kind in frame.dtypes.items()}


def again(ctx: TaskContext) -> int:
    if ctx.attempt == 1:
        raise OSError("once")
    return ctx.attempt


def stop_at(path: str) -> None:
    open(path, encoding="utf-8").close()


def test_types_do_not_depend_on_what_ran(tmp_path: Any) -> None:
    """N-01: of nothing, of tasks that wait, run, failed, and of some that never had a worker."""
    made = service()
    assert (TYPES, 0) == (types(rxj.frame(made)), len(rxj.frame(made)))
    assert (ATTEMPTS, 0) == (types(rxj.attempts(made)), len(rxj.attempts(made)))
    assert 0.0 == rxj.frame(made).seconds.sum()
    gate = Gate(tmp_path)
    with made:
        rxj.record(made)
        made.with_options(retry=RetryPolicy(max_attempts=2, base=0.01)).submit(again).result(SOON)
        with pytest.raises(ValueError, match="invalid"):
            made.submit(int, "x").result(SOON)
        made.submit(stop_at, gate.path).statuses.pipe(ops.first()).run()  # it runs
        made.submit(len, "abc").cancel()
        assert made.flush(SOON)
        frame = rxj.frame(made)
        assert TYPES == types(frame)
        assert ["succeeded", "failed", "running", "cancelled"] == frame.status.tolist()
        assert [False, True, False] == (frame.error_type == "ValueError").fillna(False).tolist()[:3]
        assert [True, True] == frame.finished.isna().tolist()[2:3] + frame.worker.isna().tolist()[3:]
        assert ATTEMPTS == types(rxj.attempts(made))
        assert ["retrying", "succeeded", "failed"] == rxj.attempts(made).outcome.tolist()[:3]
        assert ["cancelled"] == rxj.frame(made, limit=1).status.tolist()
        assert 1 == len(rxj.frame(made, status="failed"))
        gate.open()


def test_a_recorded_attempt_keeps_the_name_of_its_task() -> None:
    """N-01: though the service has forgotten the task (retain) by then."""
    with service(retain=2) as made:
        rxj.record(made)
        for text in "abcdef":
            made.submit(len, text).result(SOON)
            assert made.flush(SOON)
        assert 2 == len(rxj.frame(made))
        assert ["builtins:len"] * 6 == rxj.attempts(made).name.tolist()
        assert ["len"] * 6 == [value["name"] for value in rxj.timeline(made).to_dict()["data"]["values"]]


def test_an_executor_is_taken_for_its_service() -> None:
    """N-01, N-03: what ran through it, as tables and as a chart."""
    with TaskExecutor(1, isolation="thread", echo=None) as executor:
        rxj.record(executor)
        assert [1, 2] == list(executor.map(len, ["a", "bb"]))
        assert 0 < len(rxj.frame(executor)) == len(rxj.attempts(executor))
        assert "bar" == rxj.timeline(executor).to_dict()["mark"]["type"]


def test_a_timeline_of_nothing_is_an_empty_chart() -> None:
    """N-01: not an error."""
    chart = rxj.timeline(service()).to_dict()
    assert "bar" == chart["mark"]["type"]
    assert "0 attempts" in str(chart["title"])


@pytest.mark.parametrize("call", [rxj.frame, rxj.attempts, rxj.timeline, rxj.record])
def test_anything_else_is_refused(call: Any) -> None:
    """N-01: with what is taken."""
    with pytest.raises(SettingsError, match="takes a service or an executor, not 'x'"):
        call("x")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda made: rxj.frame(made, limit=-1), "frame: limit"),
        (lambda made: rxj.frame(made, status="over"), "there is no status 'over'"),
        (lambda made: rxj.timeline(made, limit=0), "timeline: limit"),
        (lambda made: rxj.record(made, limit=True), "record: limit"),
        (lambda made: rxj.watch(made.map(len, ["a"]), total="1"), "watch: total"),
    ],
)
def test_a_wrong_number_or_filter_is_named(call: Any, words: str) -> None:
    """N-01: not an error of pandas or of a deque."""
    with pytest.raises(SettingsError, match=words):
        call(service())
