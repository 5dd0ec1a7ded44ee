"""Observers are called with the context variables with which they subscribed."""

from __future__ import annotations

import threading
from contextvars import Context, ContextVar, copy_context
from typing import Any

import pytest
import reactivex.operators as ops

from rxtasks.reactive.subject import RxSubject

WHERE: ContextVar[str] = ContextVar("where", default="nowhere")


def subscribed_in(where: str, subject: Any, got: list[Any]) -> Any:
    """Subscribe in a context of its own; `got` gets (what came, the variable at that time)."""

    def subscribe() -> Any:
        WHERE.set(where)
        return subject.subscribe(
            lambda value: got.append((value, WHERE.get())),
            lambda error: got.append((str(error), WHERE.get())),
            lambda: got.append(("over", WHERE.get())),
        )

    return copy_context().run(subscribe)


@pytest.mark.parametrize("end", ["over", "bad"])
def test_each_observer_sees_its_own_variables_whoever_emits(end: str) -> None:
    """N-01: what depends on the subscriber's context (the cell that prints) is not the emitter's."""
    subject: RxSubject[int] = RxSubject()
    first: list[Any] = []
    second: list[Any] = []
    subscribed_in("first", subject, first)
    subscribed_in("second", subject.pipe(ops.map(lambda value: value + 1)), second)

    def emit() -> None:
        subject.on_next(1)
        if end == "over":
            subject.on_completed()
        else:
            subject.on_error(ValueError("bad"))

    thread = threading.Thread(target=emit)
    thread.start()
    thread.join(10)
    assert first == [(1, "first"), (end, "first")]
    assert second == [(2, "second"), (end, "second")]


def test_what_an_observer_sets_stays_with_it() -> None:
    """A variable set in on_next is there in the next call, and nowhere else."""
    subject: RxSubject[str] = RxSubject()
    seen: list[str] = []

    def take(value: str) -> None:
        seen.append(WHERE.get())
        WHERE.set(value)

    def subscribe() -> None:
        WHERE.set("at first")
        subject.subscribe(take)

    copy_context().run(subscribe)
    subject.on_next("one")
    subject.on_next("two")
    assert seen == ["at first", "one"]
    assert WHERE.get() == "nowhere"


def test_an_observer_that_ends_its_own_stream_is_told_the_end() -> None:
    """on_completed inside on_next, with variables set, reaches every observer."""
    subject: RxSubject[int] = RxSubject()
    got: list[Any] = []

    def subscribe() -> None:
        WHERE.set("here")
        subject.subscribe(lambda value: subject.on_completed())
        subject.pipe(ops.take(1)).subscribe(got.append, None, lambda: got.append(("over", WHERE.get())))

    copy_context().run(subscribe)
    subject.on_next(1)
    assert got == [1, ("over", "here")]


def test_without_variables_an_observer_is_called_as_it_is() -> None:
    """No context is entered where there is nothing in it: the hot path stays one call."""
    subject: RxSubject[int] = RxSubject()
    got: list[int] = []
    Context().run(lambda: subject.subscribe(got.append))
    (target,) = subject._targets
    assert getattr(target.push, "__name__", "") == "on_next"
