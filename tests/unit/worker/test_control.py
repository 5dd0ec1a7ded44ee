"""The control thread's alarm: whoever sets it is heard, whenever the two threads are interrupted."""

from __future__ import annotations

import os
import select
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from rxtasks.worker.control import Control

SOON = 20.0

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="process workers need Linux"),
    # Threads end by SystemExit here.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]


class Heard:
    """What a control thread needs of a runtime: counts its alarms."""

    def __init__(self) -> None:
        self.alarms = threading.Semaphore(0)

    def on_alarm(self) -> None:
        self.alarms.release()

    def on_channel(self, readable: bool) -> None:
        """The test is over and has closed the channel: end the thread."""
        raise SystemExit


@pytest.fixture
def channel() -> Iterator[int]:
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            yield ours.fileno()
        # The other end is gone: the control thread hears it, and ends.
        for thread in threading.enumerate():
            if thread.name == "rxtasks-control":
                thread.join(SOON)
                assert not thread.is_alive()


def test_an_alarm_set_while_the_last_one_is_being_cleared_is_heard(channel: int) -> None:
    """R5: else rows of a running task would wait for ever, and with them every command to its worker.

    The control thread is interrupted just before it clears the alarm; meanwhile the main thread puts a row, as it does
    from task to task, and the alarm that it sets rings before the control thread goes on.
    """
    heard: Any = Heard()
    control = Control(heard, channel, 60.0)
    alarm = control._alarm
    clear = alarm.clear
    interrupted = threading.Event()

    def clear_late() -> None:
        if not interrupted.is_set():
            interrupted.set()
            if not control.soon:
                control.arm(soon=True)
            ready, _, _ = select.select([alarm.fd], [], [], SOON)
            assert ready
        clear()

    alarm.clear = clear_late  # type: ignore[method-assign]
    control.start()
    control.arm(soon=True)
    assert heard.alarms.acquire(timeout=SOON)
    if control.soon:
        assert heard.alarms.acquire(timeout=SOON), "the alarm is taken for set, and will never ring"
    control.arm(soon=False)
    assert heard.alarms.acquire(timeout=SOON)
    os.fstat(channel)
