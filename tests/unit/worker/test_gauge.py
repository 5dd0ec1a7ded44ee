"""A worker's look at its own memory (W-11)."""

from __future__ import annotations

import pytest

from rxtasks.worker.gauge import Gauge


class Held:
    """A worker's memory and clock; counts how often it was measured and what was told."""

    def __init__(self) -> None:
        self.used = 10
        self.now = 0.0
        self.looks = 0
        self.told: list[tuple[int, int]] = []
        self.gauge = Gauge(100, self.measure, lambda ended: self.told.append((ended, self.used)), lambda: self.now)

    def measure(self) -> int:
        self.looks += 1
        return self.used


@pytest.fixture
def held() -> Held:
    return Held()


def test_many_short_attempts_are_measured_now_and_then(held: Held) -> None:
    """W-11: not more often than every 10 ms, however short they are."""
    for number in range(1000):
        held.now = number / 10_000
        held.gauge.ended()
    assert 10 == held.looks


def test_the_last_of_them_is_measured_when_nothing_follows(held: Held) -> None:
    """W-11: what the last attempt left behind does not stay unseen; and once is enough."""
    held.gauge.ended()
    held.used = 200
    held.gauge.ended()
    assert not held.told
    held.gauge.rest()
    held.gauge.rest()
    assert ([(2, 200)], 2) == (held.told, held.looks)


def test_it_is_told_once_and_again_when_it_has_grown_by_a_quarter(held: Held) -> None:
    """W-11: a worker that stays above the limit does not tell of it after every attempt."""
    for used in (90, 101, 110, 126, 127, 130, 160, 150, 50, 160):
        held.used = used
        held.now += 1
        held.gauge.ended()
    assert [(2, 101), (5, 127), (7, 160)] == held.told
