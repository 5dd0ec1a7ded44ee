"""Workers killed at any moment: their tasks are blamed or spared rightly, and run again; nobody else notices."""

from __future__ import annotations

import signal
import threading

import pytest

from rxtasks import TaskTracker, WorkerCrashed
from tests.chaos.conftest import Pool
from tests.chaos.handlers import (
    add,
    block,
    block_once,
    die_in_result,
    die_while_writing,
    forge,
    quick_then_block,
    wait_for,
)
from tests.chaos.support import LONG, kill, service


def test_a_task_whose_worker_is_killed_runs_again(shared: Pool, tmp_path: object) -> None:
    """W-07: a killed worker's task runs again and the crash is counted; another worker's task does not notice."""
    tasks, witness = shared
    flag = f"{tmp_path}/go"
    other = tasks.submit(wait_for, flag)
    witness.wait_output(other.task_id, "here")
    tracker = tasks.submit(block_once)
    witness.wait_output(tracker.task_id, "here")
    kill(witness.worker_of(tracker.task_id))
    assert 2 == tracker.result(LONG)
    record = tasks.get(tracker.task_id)
    assert (2, 1, 0) == (record.attempt, record.crashes, record.interruptions)
    witness.wait(lambda: len(witness.statuses(tracker.task_id)) == 4)
    assert ["running", "pending", "running", "succeeded"] == witness.statuses(tracker.task_id)
    open(flag, "w").close()
    assert flag == other.result(LONG)
    spared = tasks.get(other.task_id)
    assert (1, 0, 0) == (spared.attempt, spared.crashes, spared.interruptions)


def test_only_the_task_that_ran_is_blamed() -> None:
    """R20: what had not been begun in a killed worker goes back uncounted, what ran is recovered once."""
    with service(1) as (tasks, witness):
        for _ in range(3):  # it is known to be short from now on, and sent ahead
            tasks.submit(quick_then_block, 1).result(LONG)
        trackers = [tasks.submit(quick_then_block, number, at=5) for number in range(40)]
        witness.wait_output(trackers[5].task_id, "here")
        before = len(witness.failures())
        kill(witness.worker_of(trackers[5].task_id))
        assert list(range(40)) == [tracker.result(LONG) for tracker in trackers]
        records = [tasks.get(tracker.task_id) for tracker in trackers]
        assert [int(number == 5) for number in range(40)] == [record.crashes for record in records]
        assert [0] * 40 == [record.interruptions for record in records]
        assert [2 if number == 5 else 1 for number in range(40)] == [record.attempt for record in records]
        assert tasks.flush(LONG)
        assert before + 1 == len(witness.failures())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_task_that_must_not_run_again_fails_with_the_signal(shared: Pool, number: signal.Signals) -> None:
    """W-07: with max_crashes=1 the task fails with WorkerCrashed that names the signal and the likely cause."""
    tasks, witness = shared
    tracker = tasks.with_options(max_crashes=1).submit(block)
    witness.wait_output(tracker.task_id, "here")
    kill(witness.worker_of(tracker.task_id), number)
    with pytest.raises(WorkerCrashed) as caught:
        tracker.result(LONG)
    assert number == caught.value.signal
    assert number.name in str(caught.value)
    assert 3 == tasks.submit(add, 1, 2).result(LONG)


def test_a_task_that_kills_every_worker_fails_in_the_end(shared: Pool) -> None:
    """W-07: after max_crashes the task fails, and the workers are there for others."""
    tasks, _ = shared
    tracker = tasks.submit(forge, "noise")
    with pytest.raises(WorkerCrashed):
        tracker.result(LONG)
    record = tasks.get(tracker.task_id)
    assert (3, 3) == (record.crashes, record.attempt)
    assert 3 == tasks.submit(add, 1, 2).result(LONG)


def test_workers_killed_at_random_moments_of_their_writing() -> None:
    """R20: SIGKILL at any byte of any frame: every task ends once, in order, and the credit is reclaimed."""
    with service(2) as (tasks, witness):
        view = tasks.with_options(max_crashes=30)
        trackers = []
        for seed in range(15):
            trackers.append(view.submit(die_while_writing, seed, seed))
            trackers.append(view.submit(die_in_result, seed, 4 * 2**20))
        for seed in range(15):
            assert 16 + seed == trackers[2 * seed].result(LONG)
            assert 4 * 2**20 == len(trackers[2 * seed + 1].result(LONG))
        assert tasks.flush(LONG)
        crashes = [tasks.get(tracker.task_id).crashes for tracker in trackers]
        assert sum(crashes) <= len(witness.failures())  # some died when their task had ended
        assert sum(crashes) > 10
        assert [1] * 30 == [witness.statuses(tracker.task_id).count("succeeded") for tracker in trackers]


@pytest.mark.parametrize(
    "kind",
    [
        "noise",
        "oversized",
        "oversized head",
        "repeat",
        "gap",
        "damaged",
        "[99,null]",
        "[]",
        "{}",
        "nonsense",
    ],
)
def test_a_bad_frame_fails_its_worker_only(shared: Pool, kind: str, tmp_path: object) -> None:
    """R21, R4: a corrupt, oversized, lost or repeated frame fails its worker; the others go on."""
    tasks, witness = shared
    flag = f"{tmp_path}/go"
    other = tasks.submit(wait_for, flag)
    witness.wait_output(other.task_id, "here")
    tracker = tasks.with_options(max_crashes=1).submit(forge, kind)
    with pytest.raises(WorkerCrashed) as caught:
        tracker.result(LONG)
    assert "protocol error" in str(caught.value)
    open(flag, "w").close()
    assert flag == other.result(LONG)


#: Sound frames whose rows are nothing that a worker writes: [kind, sizes, fields...].
_ROWS = ["[[1]]", "[[9,1,1]]", '[["x"]]', "[[]]", "[1]", "null", '[[6,1,"a",null]]', "{}"]


@pytest.mark.parametrize("rows", _ROWS)
def test_a_frame_of_senseless_rows_fails_its_worker_only(shared: Pool, rows: str) -> None:
    """R21: a sound frame with senseless content never harms the engine."""
    from rxtasks.wire.message import Events
    from rxtasks.wire.shapes import SHAPE_OF

    tasks, _ = shared
    kind = SHAPE_OF[Events].kind
    tracker = tasks.with_options(max_crashes=1, timeout=1.0, grace=0.5).submit(forge, f"[{kind},null,{rows},0]")
    with pytest.raises(Exception):  # noqa: B017 - a crash, or the time limit where the rows were ignored
        tracker.result(LONG)
    assert 3 == tasks.submit(add, 1, 2).result(LONG)
    assert tasks.health()["core_alive"]


def test_killing_workers_while_submitting() -> None:
    """W-07: with workers killed as fast as they come, every task ends and none is lost."""
    with service(2) as (tasks, witness):
        trackers: list[TaskTracker] = []
        view = tasks.with_options(max_crashes=100)
        over = threading.Event()

        def killer() -> None:
            for _ in range(8):
                seen = len(witness.failures())
                for info in tasks.workers()[:1]:
                    if info.pid:
                        kill(info.pid)
                        witness.wait(lambda seen=seen: len(witness.failures()) > seen)  # type: ignore[misc]
            over.set()

        thread = threading.Thread(target=killer)
        thread.start()
        while not over.is_set() and len(trackers) < 20_000:
            trackers.append(view.submit(add, len(trackers), 1))
            if len(trackers) % 50 == 0:
                trackers[-1].result(LONG)
        assert [number + 1 for number in range(len(trackers))] == [tracker.result(LONG) for tracker in trackers]
        thread.join()


def test_a_worker_that_is_stopped_and_not_continued_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """W-06: a worker stopped from outside is killed after a while, and its task recovered; idle ones too."""
    monkeypatch.setattr("rxtasks.isolation.process._LOOK", 0.05)
    with service(1) as (tasks, witness):
        tracker = tasks.submit(block_once)
        witness.wait_output(tracker.task_id, "here")
        kill(tasks.workers()[0].pid or 0, signal.SIGSTOP)
        assert 2 == tracker.result(LONG)
        assert 1 == tasks.get(tracker.task_id).crashes
        kill(tasks.workers()[0].pid or 0, signal.SIGSTOP)
        witness.wait(lambda: 2 == len(witness.failures()), "the end of the idle worker")
        assert 3 == tasks.submit(add, 1, 2).result(LONG)
        warned = [event.message for event in witness.pool if event.kind == "warning"]
        assert ["it was stopped from outside (SIGSTOP) and not continued"] * 2 == warned
