"""What a running task says asks for an early flush, also where a later one has been asked for."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from rxtasks.wire.message import Configure
from rxtasks.worker.channel import Channel
from rxtasks.worker.control import FLUSH_DELAY, LONG_DELAY
from rxtasks.worker.runtime import Runtime

LATE, SOON = False, True


@pytest.fixture(params=[1])
def runtime(request: pytest.FixtureRequest) -> Iterator[Runtime]:
    ours, theirs = socket.socketpair()
    tokens, write = os.pipe()
    made = Runtime(Channel(theirs.detach()), tokens, Configure("w-1", concurrency=request.param))
    yield made
    made.after_fork()  # closes what it has opened
    ours.close()
    os.close(write)


@pytest.fixture
def armed(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What the alarm was set to, time by time."""
    calls: list[bool] = []
    arm = runtime.control._alarm.arm

    def note(which: int) -> None:
        calls.append(bool(which))
        arm(which)

    monkeypatch.setattr(runtime.control._alarm, "arm", note)
    assert FLUSH_DELAY < LONG_DELAY
    return calls


def test_a_log_is_not_held_back_by_the_news_that_its_task_runs(runtime: Runtime, armed: list[bool]) -> None:
    """R5: "running" may be 20 ms late; what a task says then leaves after 3 ms, not with it."""
    runtime._wake(LATE)
    assert armed == [LATE]
    runtime._wake(SOON)
    assert armed == [LATE, SOON]


def test_what_has_been_hurried_is_not_put_off(runtime: Runtime, armed: list[bool]) -> None:
    """R5: the next task that begins does not set the alarm anew, until what was hurried has left."""
    runtime._wake(SOON)
    runtime._wake(LATE)
    assert armed == [SOON]
    runtime.control.put_off()
    runtime._wake(LATE)
    assert armed == [SOON, LATE]


@pytest.mark.parametrize("runtime", [1, 3], indirect=True)
def test_only_who_runs_one_at_a_time_lets_ends_wait_for_each_other(runtime: Runtime) -> None:
    """R5: it flushes when it has no more to do; among several that run nobody would notice the last one's end."""
    assert runtime.outbox.patient == (runtime._limit == 1)
    assert runtime._limit in (1, 3)
