"""Handlers that do to their worker what they should not: the task's end tells it, and nobody else notices."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest

from rxtasks import RetryPolicy, TaskCancelled, TaskFailed, TaskTimeout, WorkerCrashed
from tests.chaos import handlers
from tests.chaos.conftest import Pool
from tests.chaos.handlers import add
from tests.chaos.support import LONG, Watched, service


def crash(shared: Pool, handler: object, *args: object) -> WorkerCrashed:
    """Run a handler that takes its worker down; return the error, and see that the others go on."""
    tasks, witness = shared
    tracker = tasks.with_options(max_crashes=1).submit(handler, *args)  # type: ignore[arg-type]
    with pytest.raises(WorkerCrashed) as caught:
        tracker.result(LONG)
    # Else the next test that counts descriptors would count those of a worker on its way.
    witness.wait(lambda: [w.status for w in tasks.workers()].count("idle") == 2, "the new worker")
    assert [3] * 20 == [each.result(LONG) for each in [tasks.submit(add, 1, 2) for _ in range(20)]]
    return caught.value


@pytest.mark.parametrize("code", [0, 3])
def test_os_exit_is_a_crash(shared: Pool, code: int) -> None:
    """W-07: any exit with a task unfinished is a crash, code 0 too."""
    assert code == crash(shared, handlers.leave, code).exit_code


def test_an_attempt_that_dies_at_once_is_told_whole(shared: Pool) -> None:
    """E-04, W-07: an attempt had begun even where its worker died before it could say so."""
    tasks, _ = shared
    tracker = tasks.with_options(max_crashes=3).submit(handlers.leave, 7)
    with pytest.raises(WorkerCrashed):
        tracker.result(LONG)
    told: list[tuple[int, int, str, bool]] = []
    tracker.statuses.subscribe(lambda e: told.append((e.seq, e.attempt, e.status.value, e.error is not None)))
    assert tasks.flush(LONG)
    assert [
        (1, 1, "running", False),
        (2, 1, "pending", True),
        (3, 2, "running", False),
        (4, 2, "pending", True),
        (5, 3, "running", False),
        (6, 3, "failed", True),
    ] == told
    assert (3, 3) == (tasks.get(tracker.task_id).attempt, tasks.get(tracker.task_id).crashes)


@pytest.mark.parametrize("code", [None, 0, 3, "text"])
def test_sys_exit_fails_the_task_only(shared: Pool, code: object) -> None:
    """R7: SystemExit in a handler is a failure of its task, never retried."""
    tasks, _ = shared
    tracker = tasks.submit(handlers.leave_by_exit, code)
    with pytest.raises(TaskFailed):
        tracker.result(LONG)
    assert tracker.error is not None
    assert tracker.error.type.endswith("SystemExit")
    assert (1, 0) == (tasks.get(tracker.task_id).attempt, tasks.get(tracker.task_id).crashes)


def test_keyboard_interrupt_fails_the_task_only(shared: Pool) -> None:
    """R7: KeyboardInterrupt in a handler is a failure of its task."""
    tasks, _ = shared
    tracker = tasks.submit(handlers.interrupt)
    with pytest.raises(TaskFailed):
        tracker.result(LONG)
    assert tracker.error is not None
    assert tracker.error.type.endswith("KeyboardInterrupt")


@pytest.mark.parametrize("low", [0, 3])
def test_closing_every_descriptor_is_a_crash(shared: Pool, low: int) -> None:
    """R20: a handler that closes every descriptor loses its worker, at once if it stays, at its end if it returns."""
    crash(shared, handlers.close_everything, low)
    crash(shared, handlers.close_everything_and_return, low)


def test_covering_the_channel_is_a_crash(shared: Pool) -> None:
    """R20: dup2 over the channel loses the worker, whether the handler stays or returns."""
    crash(shared, handlers.cover_channel)
    crash(shared, handlers.cover_channel_by_file)


def test_a_forked_child_does_not_speak_for_its_worker(shared: Pool) -> None:
    """E-03: a child forked by a handler writes into nothing that belongs to the worker."""
    tasks, witness = shared
    tracker = tasks.submit(handlers.fork_and_write)
    assert "parent" == tracker.result(LONG)
    assert tasks.flush(LONG)
    assert ["here"] == witness.outputs(tracker.task_id)
    assert "from the child" not in witness.lines(tracker.task_id, "log")
    assert (1, 0) == (tasks.get(tracker.task_id).attempt, tasks.get(tracker.task_id).crashes)


def test_a_forked_child_that_returns_ends(shared: Pool) -> None:
    """E-04: only the worker itself ends the attempt; its forked child ends when it comes back from the handler."""
    tasks, witness = shared
    tracker = tasks.submit(handlers.fork_and_return)
    child = tracker.result(LONG)
    assert child > 0
    assert not os.path.exists(f"/proc/{child}")
    assert tasks.flush(LONG)
    assert ["running", "succeeded"] == witness.statuses(tracker.task_id)


def test_a_daemon_that_keeps_stdout_is_ended_with_its_attempt(shared: Pool) -> None:
    """W-17: a daemonised child is ended after the attempt, and holds nothing back."""
    tasks, _ = shared
    begin = time.monotonic()
    pid = tasks.submit(handlers.daemonise).result(LONG)
    assert time.monotonic() - begin < 10
    assert not os.path.exists(f"/proc/{pid}")
    assert 3 == tasks.submit(add, 1, 2).result(LONG)


def test_output_of_a_left_over_thread_is_never_another_task_s() -> None:
    """W-17: a thread that outlives its task prints to the worker's log, not to the next task's."""
    with service(1) as (tasks, witness):
        first = tasks.submit(handlers.leave_thread, "first")
        second = tasks.submit(handlers.talk, "second", 50)
        assert ("first", 50) == (first.result(LONG), second.result(LONG))
        assert tasks.flush(LONG)
        assert "first from the task" in witness.lines(first.task_id)
        assert [f"second {number}" for number in range(50)] == witness.lines(second.task_id)
        witness.wait(lambda: [e for e in witness.pool if e.kind == "log" and "first from a thread" in e.message])


def test_endless_recursion_fails_the_task_only(shared: Pool) -> None:
    """E-13: recursion to the limit fails its task and leaves the worker as it was."""
    tasks, _ = shared
    before = {info.worker_id for info in tasks.workers()}
    trackers = [tasks.submit(handlers.recurse) for _ in range(4)]
    for tracker in trackers:
        with pytest.raises(RecursionError):
            tracker.result(LONG)
    assert before == {info.worker_id for info in tasks.workers()}


def test_running_out_of_descriptors_fails_the_task_only() -> None:
    """E-13: what its handler raised arrives although nothing can be opened any more, imports included."""
    with service(1) as (tasks, witness):
        for view in (tasks, tasks.with_options(retry=RetryPolicy(max_attempts=2, base=0.01))):
            tracker = view.submit(handlers.run_out_of_descriptors)
            with pytest.raises(OSError, match="Too many open files"):
                tracker.result(LONG)
            assert tracker.error is not None
            assert "run_out_of_descriptors" in tracker.error.traceback
        assert 3 == tasks.submit(add, 1, 2).result(LONG)
        assert not witness.failures()


# -- the interpreter held ----------------------------------------------------------------------------------------------


def test_a_handler_that_holds_the_interpreter_is_not_taken_for_dead() -> None:
    """W-06, W-13: a silent worker is not dead, what waits behind it goes to another one, other tasks run on."""
    with service(2, heartbeat=0.2) as (tasks, witness):
        tasks.submit(handlers.quick_then_block, 1).result(LONG)
        held = tasks.submit(handlers.hold_gil, 3)
        witness.wait(lambda: "holding" in witness.lines(held.task_id), "the handler")
        begin = time.monotonic()
        trackers = [tasks.submit(handlers.quick_then_block, number, at=-1) for number in range(100)]
        assert list(range(100)) == [tracker.result(LONG) for tracker in trackers]
        assert time.monotonic() - begin < 2.5, "tasks waited behind the one that holds the interpreter"
        assert not held.done
        assert "done" == held.result(LONG)
        assert (1, 0) == (tasks.get(held.task_id).attempt, tasks.get(held.task_id).crashes)
        assert not witness.failures()


def test_cancel_ends_a_handler_that_holds_the_interpreter() -> None:
    """W-09: when a cancelled handler cannot hear it, its worker is killed after grace."""
    with service(2) as (tasks, witness):
        held = tasks.with_options(grace=0.2).submit(handlers.hold_gil, 1000)
        witness.wait(lambda: "holding" in witness.lines(held.task_id), "the handler")
        pid = witness.worker_of(held.task_id)
        watched = Watched(pid)
        begin = time.monotonic()
        assert held.cancel("enough")
        with pytest.raises(TaskCancelled):
            held.result(LONG)
        assert time.monotonic() - begin < 5
        assert watched.gone(5)
        assert 3 == tasks.submit(add, 1, 2).result(LONG)


@pytest.mark.parametrize("handler", [handlers.hold_gil, handlers.hold_gil_at_once])
def test_a_time_limit_ends_a_handler_that_holds_the_interpreter(handler: Callable[..., object]) -> None:
    """W-08: whether or not its worker could report that it has begun, the limit comes, and no sooner than it says."""
    with service(1) as (tasks, _):
        begin = time.monotonic()
        held = tasks.with_options(timeout=0.3, grace=0.2).submit(handler, 1000)
        with pytest.raises(TaskTimeout) as caught:
            held.result(LONG)
        assert 0.5 <= time.monotonic() - begin < 5
        assert caught.value.elapsed >= 0.3
        assert (0, 0) == (tasks.get(held.task_id).crashes, tasks.get(held.task_id).interruptions)
        assert 3 == tasks.submit(add, 1, 2).result(LONG)


def test_cancel_ends_the_children_too() -> None:
    """W-09: the whole process tree ends, children in sessions of their own and daemons included."""
    with service(1) as (tasks, witness):
        tracker = tasks.with_options(grace=0.1).submit(handlers.start_children)
        witness.wait(lambda: witness.outputs(tracker.task_id))
        watched = [Watched(pid) for pid in witness.outputs(tracker.task_id)[0]]
        assert tracker.cancel()
        with pytest.raises(TaskCancelled):
            tracker.result(LONG)
        assert [True] * 4 == [each.gone(5) for each in watched]
