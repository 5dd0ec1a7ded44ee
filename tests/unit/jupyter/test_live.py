"""Live views and the thread that looks at them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import pytest

from rxtasks.jupyter.card import Card
from rxtasks.jupyter.live import LiveView, Pulse

SOON = 20.0


class Shown:
    """A thing that changes when told to, and a listener that waits for what is shown of it."""

    def __init__(self) -> None:
        self.card = Card("at first", over=False)
        self.looks = 0
        self.seen: list[str] = []
        self._changed = threading.Condition()

    def look(self) -> Card:
        with self._changed:
            self.looks += 1
            self._changed.notify_all()
        return self.card

    def listen(self, card: Card) -> None:
        with self._changed:
            self.seen.append(card.title)
            self._changed.notify_all()

    def wait(self, until: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(until, SOON), (self.looks, self.seen)


def test_a_change_is_shown_once_and_an_end_ends_it() -> None:
    """N-01: equal cards are not sent again; after its end a thing is let go and the thread ends."""
    shown, pulse = Shown(), Pulse(0.001, 0.002)
    view = LiveView(shown.look)
    view.listen(shown.listen)
    pulse.add(view)
    shown.wait(lambda: shown.looks > 5)
    assert [] == shown.seen
    shown.card = Card("then", over=False)
    shown.wait(lambda: shown.seen == ["then"])
    shown.card = Card("at last")
    shown.wait(lambda: shown.seen == ["then", "at last"])
    for thread in threading.enumerate():
        if thread.name == "rxtasks-display":
            thread.join(SOON)
            assert not thread.is_alive()
    assert view.over
    looks = shown.looks
    assert not view.refresh() and looks == shown.looks


def test_a_wake_shortens_a_long_wait() -> None:
    """N-01: what has been quiet for long is looked at soon after something has happened."""
    shown, pulse = Shown(), Pulse(3600, 3600)
    view = LiveView(shown.look)
    view.listen(shown.listen)
    pulse.add(view)
    shown.card = Card("woken")
    pulse.interval = 0.001
    pulse.wake(view)
    shown.wait(lambda: shown.seen == ["woken"])


def test_it_is_looked_at_once_more_after_its_end() -> None:
    """What was on its way when the end was seen is not missed."""
    cards = [Card("a", over=False), Card("b"), Card("b", "late"), Card("b", "too late")]
    view = LiveView(lambda: cards.pop(0))
    seen: list[str] = []
    view.listen(lambda card: seen.append(card.status))
    while not view.over:
        view.refresh()
    assert ["", "late"] == seen
    assert 1 == len(cards)


def test_a_listener_that_raises_is_reported_and_hears_no_more(caplog: pytest.LogCaptureFixture) -> None:
    """Others are told all the same."""
    cards = [Card(str(number), over=False) for number in range(3)]
    view = LiveView(lambda: cards.pop(0))
    seen: list[str] = []

    def boom(card: Card) -> None:
        raise OSError("no frontend")

    view.listen(boom)
    view.listen(lambda card: seen.append(card.title))
    with caplog.at_level(logging.ERROR, "rxtasks"):
        view.refresh()
        view.refresh()
    assert ["1", "2"] == seen
    assert 1 == sum("could not be updated" in record.message for record in caplog.records)
