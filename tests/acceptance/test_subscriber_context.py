"""Subscribers of a service are called with the context variables with which they subscribed."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, copy_context
from typing import Any

import pytest

from rxtasks import TaskService, TaskTracker
from tests.acceptance.support import service

SPAN: ContextVar[str] = ContextVar("span", default="none")


def work(number: int) -> int:
    return number


STREAMS: dict[str, Callable[[TaskService, TaskTracker], Any]] = {
    "tracker": lambda made, tracker: tracker,
    "statuses": lambda made, tracker: tracker.statuses,
    "outcome": lambda made, tracker: tracker.outcome,
    "map": lambda made, tracker: made.map(work, range(3)),
    "defer": lambda made, tracker: made.defer(work, 1),
    "engine": lambda made, tracker: made.engine,
    "events": lambda made, tracker: made.events,
    "pool": lambda made, tracker: made.pool,
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_calls_its_subscriber_in_the_subscriber_s_context(name: str) -> None:
    """N-01: on the delivery thread too; the end included."""
    made = service(on_exit="finish")
    seen: list[tuple[str, str]] = []
    with made:
        tracker = made.submit(work, 1)
        tracker.result(20)

        def subscribe() -> None:
            SPAN.set(name)
            STREAMS[name](made, tracker).subscribe(
                lambda _: seen.append(("next", SPAN.get())), None, lambda: seen.append(("over", SPAN.get()))
            )

        copy_context().run(subscribe)
        made.submit(work, 2).result(20)
    assert {("next", name), ("over", name)} == set(seen)
