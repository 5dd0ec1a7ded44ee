"""Waking the core thread: by an eventfd, and by a pipe where there is none."""

from __future__ import annotations

import os
import selectors
import threading

import pytest

from rxtasks.engine.readiness import make_readiness
from rxtasks.engine.wakeup import Wakeup

SOON = 20.0


@pytest.mark.parametrize("eventfd", [True, False])
def test_every_wake_ends_a_sleep(eventfd: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """W-12: also one that comes before the sleep begins, and thousands that nobody has looked at."""
    if not eventfd:
        monkeypatch.delattr(os, "eventfd", raising=False)
    elif not hasattr(os, "eventfd"):
        pytest.skip("no eventfd here")
    wakeup, readiness = Wakeup(), make_readiness()
    woken = []
    readiness.watch(wakeup.fd, selectors.EVENT_READ, lambda events: woken.append(events) or [], edge=wakeup.edge)

    def sleep(seconds: float) -> int:
        ready = readiness.wait(seconds)
        for reader, events in ready:
            reader(events)
            wakeup.seen()
        return len(ready)

    assert sleep(0.0) == 0
    wakeup.wake()
    assert sleep(SOON) == 1
    assert sleep(0.0) == 0, "it has been seen"
    for _ in range(70_000):  # more than a pipe holds
        wakeup.wake()
    assert sleep(SOON) == 1
    while sleep(0.0):
        pass
    other = threading.Thread(target=wakeup.wake)
    other.start()
    assert sleep(SOON) == 1
    other.join(SOON)
    readiness.close()
    wakeup.close()
    wakeup.close()
    wakeup.wake()  # nothing happens after close()
    assert len(woken) >= 3
