"""A caller's mark comes behind what was published before it."""

from __future__ import annotations

from collections import deque
from typing import Any

from rxtasks.clock import SystemClock
from rxtasks.engine.driver import Driver


def test_events_that_were_put_off_are_handed_over_before_a_mark() -> None:
    """E-06: flush() marks the place in the core's order; events of a turn that wait for the next one come before it."""
    order: list[str] = []

    class Outlet:
        held = 1

        def hand_over(self) -> bool:
            order.append("events")
            return False

    def mark() -> list[Any]:
        order.append("mark")
        return []

    driver: Any = Driver.__new__(Driver)
    driver.__dict__.update(
        _outlet=Outlet(), _clock=SystemClock(), _now_ns=0, _arrived=False, full=False, _check_ns=None, _inbox=None
    )
    driver._inbox = deque([mark])
    driver._wait = lambda: ([], 2**62)
    assert driver._gather() == []
    assert order == ["events", "mark"]


def test_handing_over_is_put_off_once_and_no_more() -> None:
    """E-18, R14: reports that never cease keep the events of earlier turns from nobody."""

    class Outlet:
        held = 1
        handed = 0

        def hand_over(self) -> bool:
            self.handed += 1
            return False

    class Readiness:
        """A worker always has something to say."""

        def wait(self, timeout: float) -> list[tuple[Any, int]]:
            return [(None, 1)]

    outlet = Outlet()
    driver: Any = Driver.__new__(Driver)
    driver.__dict__.update(
        _outlet=outlet,
        _readiness=Readiness(),
        _inbox=deque(),
        _arrived=False,
        _behind=False,
        _until=lambda: 2**62,
        _woke=False,
        _check_ns=None,
    )
    handed = []
    for _ in range(6):
        assert driver._wait() == ([(None, 1)], 2**62)
        handed.append(outlet.handed)
    assert handed == [0, 1, 1, 2, 2, 3]
