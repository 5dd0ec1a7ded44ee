"""What a handler does to its process does not reach the next task (W-17)."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import pytest

from rxtasks import TaskCancelled
from tests.chaos import handlers
from tests.chaos.handlers import add, spoil, spoil_deeper, state
from tests.chaos.support import LONG, service


@pytest.mark.parametrize("spoil", [spoil, spoil_deeper])
def test_a_spoilt_process_is_restored(spoil: Callable[[str], int], tmp_path: object) -> None:
    """W-17: cwd, umask, environment, signals, streams, children and limits are as before the attempt."""
    with service(1) as (tasks, witness):
        before = tasks.submit(state).result(LONG)
        for _ in range(3):
            assert before["pid"] == tasks.submit(spoil, str(tmp_path)).result(LONG)
            assert before == tasks.submit(state).result(LONG)
        tracker = tasks.submit(print, "still heard")
        tracker.result(LONG)
        assert tasks.flush(LONG)
        assert ["still heard"] == witness.lines(tracker.task_id, "stdout")
        assert not witness.failures()


def test_a_watchdog_that_was_left_ends_nobody() -> None:
    """W-17: faulthandler's watchdog does not outlive the attempt that set it."""
    with service(1) as (tasks, witness):
        tasks.submit(handlers.leave_watchdog).result(LONG)
        assert "past" == tasks.submit(handlers.wait_past, 0.5).result(LONG)
        assert not witness.failures()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_of_multiprocessing_are_ended(method: str) -> None:
    """W-17: a child that holds the resource tracker's pipe holds up nothing, and multiprocessing works on."""
    with service(1) as (tasks, witness):
        for _ in range(2):
            child = tasks.submit(handlers.leave_multiprocessing, method).result(LONG)
            assert not os.path.exists(f"/proc/{child}")
        assert 3 == tasks.submit(add, 1, 2).result(LONG)
        assert not witness.failures()


def test_descriptors_made_blocking_hold_up_nobody() -> None:
    """W-05, R20: what a handler makes blocking is so for nobody else, and not for the next task."""
    with service(1) as (tasks, witness):
        pid = tasks.submit(handlers.make_all_blocking).result(LONG)
        assert [3] * 50 == [tracker.result(LONG) for tracker in [tasks.submit(add, 1, 2) for _ in range(50)]]
        assert pid == tasks.submit(os.getpid).result(LONG)
        stays = tasks.with_options(grace=0.1).submit(handlers.make_all_blocking_and_block)
        witness.wait_output(stays.task_id, "here")
        assert stays.cancel()
        with pytest.raises(TaskCancelled):
            stays.result(LONG)
        assert 3 == tasks.submit(add, 1, 2).result(LONG)


def test_what_is_called_in_every_worker_stays(tmp_path: object) -> None:
    """W-14, W-17: what pool.call changes of the process is there for every task to come."""
    with service(1) as (tasks, _):
        tasks.pool.call(os.chdir, str(tmp_path))
        tasks.pool.call(sys.setrecursionlimit, 2345)
        for _ in range(3):
            assert str(tmp_path) == tasks.submit(os.getcwd).result(LONG)
            assert 2345 == tasks.submit(sys.getrecursionlimit).result(LONG)
