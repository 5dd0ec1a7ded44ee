"""Recorded runs of real services, replayed through the core: the same stimuli lead to the same instructions."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from rxtasks import RetryPolicy, SettingsError, TaskContext, TaskService, TaskTracker, task
from rxtasks.errors import ProtocolError, RxTasksError
from rxtasks.testing.recorded import Differs, check_recording, main


@task
def double(number: int) -> int:
    return 2 * number


@task(max_crashes=2)
def shot() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@task(timeout=0.2, grace=0.1)
def hangs() -> None:
    time.sleep(60)


@task(grace=0.2)
def waits(ctx: TaskContext) -> None:
    ctx.log.info("waits")
    while True:
        ctx.raise_if_cancelled()
        time.sleep(0.01)


@task(retry=RetryPolicy(max_attempts=3, backoff="fixed", base=0.01, jitter="none"))
def stubborn(ctx: TaskContext) -> int:
    ctx.progress(ctx.attempt, 3)
    ctx.checkpoint({"attempt": ctx.attempt})
    if ctx.attempt < 3:
        raise ValueError(f"attempt {ctx.attempt}")
    return ctx.attempt


@task
def large(ctx: TaskContext, values: list[int]) -> list[str]:
    ctx.emit(values)
    ctx.log.info("long " * 1000)
    return [str(value) * 100 for value in values]


@task(max_running=1)
def odd(text: str) -> Any:
    return {"is": text, "big": 2**80, "nan": float("nan")}


def _ended(trackers: list[TaskTracker]) -> None:
    for tracker in trackers:
        with contextlib.suppress(RxTasksError, ValueError):
            tracker.result(60)


def _chaos(service: TaskService) -> None:
    """Let workers be killed, time limits pass, callers cancel; scale and pause between."""
    trackers = [service.submit(double, number) for number in range(300)]
    trackers += [service.submit(function) for function in (shot, hangs, stubborn, stubborn)]
    long = [service.submit(waits) for _ in range(4)]
    service.scale(4)
    trackers += [
        service.submit(large, list(range(2000))),
        service.submit(odd, "tuple"),
        service.submit(odd, "x\U0001f600"),
    ]
    service.pause()
    trackers += [service.submit(double, number) for number in range(40)]
    service.scale(2)
    service.resume()
    for tracker in long:
        tracker.cancel("enough")
    _ended([*trackers, *long])


@pytest.mark.parametrize("store", ["memory", "sqlite"])
@pytest.mark.parametrize("isolation", ["process", "thread"])
def test_a_recorded_run_replays_to_the_same_instructions(store: str, isolation: str, tmp_path: Path) -> None:
    """N-05 Q-02: with kills, time limits, cancels, retries, scaling and a drain in it."""
    record = tmp_path / "run.jsonl"
    where = {} if store == "memory" else {"store": f"sqlite:///{tmp_path / 'tasks.db'}"}
    with TaskService(
        workers=3, isolation=isolation, record=str(record), echo=None, on_exit="drain", **where
    ) as service:
        if isolation == "process":
            _chaos(service)
        else:
            trackers = [service.submit(double, number) for number in range(100)]
            trackers += [service.submit(stubborn), service.submit(odd, "set"), service.submit(large, list(range(300)))]
            waiting = service.submit(waits)
            _ended(trackers)
            waiting.cancel()
            _ended([waiting])
    replayed = check_recording(record)
    assert (1, False) == (replayed.runs, replayed.cut)
    assert replayed.steps > 20 and replayed.stimuli > 50 and replayed.instructions > 50


def test_large_values_and_secrets_are_not_in_a_recording(tmp_path: Path) -> None:
    """A result or argument of megabytes is a word in it: its lines stay short, and none of its values are there."""
    record = tmp_path / "run.jsonl"
    with TaskService(workers=1, record=str(record), echo=None) as service:
        assert 2_000_001 == len(service.submit(_joined, ["hush"], 500_000).result(60))
    data = record.read_bytes()
    assert b"hush" not in data
    assert max(map(len, data.splitlines())) < 20_000
    check_recording(record)


def _joined(words: list[str], times: int) -> str:
    return "".join(words) * times + "!"


def test_two_services_may_write_one_recording(tmp_path: Path) -> None:
    """At once and one after another: each run stands for itself."""
    record = tmp_path / "run.jsonl"
    for _ in range(2):
        one = TaskService(workers=1, isolation="thread", record=str(record), echo=None)
        two = TaskService(workers=1, isolation="thread", record=str(record), echo=None)
        with one, two:
            assert [2, 4] == [service.submit(double, n).result(30) for n, service in enumerate((one, two), start=1)]
    assert 4 == check_recording(record).runs


_KILLED = """
import os, signal, sys
from rxtasks import TaskService
from tests.conformance.test_replay import double
if __name__ == "__main__":
    with TaskService(workers=2, record=sys.argv[1], echo=None) as service:
        for number in range(50):
            service.submit(double, number).result(30)
        print("there", flush=True)
        trackers = [service.submit(double, number) for number in range(2000)]
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_recording_of_a_service_that_was_killed_replays_up_to_there(tmp_path: Path) -> None:
    """N-05: every step that was taken is in it; a last line that is not whole is left out, and said so."""
    record = tmp_path / "run.jsonl"
    root = Path(__file__).resolve().parents[2]
    script = tmp_path / "killed.py"
    script.write_text(_KILLED)
    done = subprocess.run(
        [sys.executable, str(script), str(record)],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert (-signal.SIGKILL, "there\n") == (done.returncode, done.stdout), done.stderr
    whole = check_recording(record)
    assert whole.steps >= 50
    data = record.read_bytes()
    record.write_bytes(data[:-10])
    short = check_recording(record)
    assert (True, whole.steps - 1) == (short.cut, short.steps)
    record.write_bytes(data[:-10] + b"\n" + data.splitlines()[-1] + b"\n")
    with pytest.raises(ProtocolError, match="not whole, and others follow"):
        check_recording(record)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    record = tmp_path_factory.mktemp("recorded") / "run.jsonl"
    with TaskService(workers=1, isolation="thread", record=str(record), echo=None) as service:
        for number in range(5):
            service.submit(double, number).result(30)
    return record


def _change(record: Path, into: Path, change: Callable[[list[dict[str, Any]]], None]) -> Path:
    lines = [orjson.loads(line) for line in record.read_bytes().splitlines()]
    change(lines)
    into.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    return into


def test_a_run_that_goes_otherwise_is_told_with_its_step_and_difference(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The check can fail: an instruction too many, a stimulus left out."""

    def one_more(lines: list[dict[str, Any]]) -> None:
        lines[3]["out"].append({"is": "KillWorker", "worker_id": "w", "force": True})

    def one_less(lines: list[dict[str, Any]]) -> None:
        at = next(n for n, line in enumerate(lines) if any(word["is"] == "Happened" for word in line.get("in", [])))
        lines[at]["in"] = [word for word in lines[at]["in"] if word["is"] != "Happened"]

    with pytest.raises(Differs, match=r"(?s)line 4: step 3.*KillWorker"):
        check_recording(_change(recorded, tmp_path / "more.jsonl", one_more))
    changed = _change(recorded, tmp_path / "less.jsonl", one_less)
    with pytest.raises(Differs, match=r"(?s)recorded.*replayed"):
        check_recording(changed)
    with pytest.raises(SystemExit) as ended:
        main([str(recorded), str(changed)])
    said = capsys.readouterr()
    assert 1 == ended.value.code
    assert "led to the same" in said.out and "Differs" in said.err


def test_what_is_no_recording_is_told_so(recorded: Path, tmp_path: Path) -> None:
    """Bad input: another file, an empty one, one of another version."""
    other = tmp_path / "other.jsonl"
    for data, said in ((b"", "it has no run"), (b'{"a": 1}\n', "line 1: no line"), (b"[1]\n", "line 1: no line")):
        other.write_bytes(data)
        with pytest.raises(ProtocolError, match=said):
            check_recording(other)

    def newer(lines: list[dict[str, Any]]) -> None:
        lines[1]["in"].append({"is": "Teleported", "worker_id": "w"})

    with pytest.raises(ProtocolError, match="'Teleported', which this rxtasks does not know"):
        check_recording(_change(recorded, other, newer))
    with pytest.raises(FileNotFoundError):
        check_recording(tmp_path / "none.jsonl")


def test_a_recording_that_cannot_be_opened_is_a_clear_error_and_nothing_is_left(tmp_path: Path) -> None:
    """The setting names what is wrong; the service can be started without it."""
    with (
        pytest.raises(SettingsError, match=r"setting record.*cannot be written.*No such file"),
        TaskService(workers=1, isolation="thread", record=str(tmp_path / "no" / "run.jsonl"), echo=None) as service,
    ):
        service.submit(double, 1).result(10)


def test_a_recording_that_the_disk_does_not_take_costs_the_run_nothing() -> None:
    """/dev/full: the recording ends with a warning, the tasks go on."""
    with TaskService(workers=1, isolation="thread", record="/dev/full", echo=None) as service:
        assert 8 == service.submit(double, 4).result(30)
