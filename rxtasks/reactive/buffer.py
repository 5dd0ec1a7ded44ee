"""`buffer_bounded`: a bounded buffer between a stream and a slow subscriber."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, get_args

from reactivex import Observable

from rxtasks.errors import SettingsError
from rxtasks.reactive.intake import OnFull
from rxtasks.reactive.lane import Strategy
from rxtasks.reactive.runner import SchedulerLike, needs_this_thread, runner_maker
from rxtasks.reactive.waiting import Fifo

__all__ = ["buffer_bounded", "check_observable", "whole_number"]

T = TypeVar("T")


def buffer_bounded(
    n: int, on_full: OnFull = "block", scheduler: SchedulerLike = None
) -> Callable[[Observable[T]], Strategy[T]]:
    """Let at most `n` values wait for the subscriber, beside the one it has in hand.

    Args:
        n: values that may wait; at least 1.
        on_full: what happens to a value that comes while n wait. "block": nothing is lost; directly on a service's
            stream the tasks behind it get no more credit, elsewhere the emitter waits. "drop_oldest": the one that
            has waited longest is dropped for it. "drop_newest": it is dropped. "error": the subscriber gets the n
            values, then on_error(QueueFull). What is dropped is counted in `.dropped`.
        scheduler: where the subscriber is called. None: a thread of its own, started by the subscription and ended
            by its end; or an asyncio loop, or a scheduler of RxPY.

    Raises:
        SettingsError: an argument is none of these.
    """
    capacity = whole_number("n", n)
    if on_full not in get_args(OnFull):
        raise SettingsError(f"on_full is {', '.join(map(repr, get_args(OnFull)))}, not {on_full!r}")
    make_runner = runner_maker(scheduler, f"rxtasks-buffer_bounded-{n}")

    def operator(source: Observable[T]) -> Strategy[T]:
        return Strategy(
            source,
            make_runner,
            lambda _: Fifo[Any](capacity),
            on_full=on_full,
            needs_this_thread=needs_this_thread(scheduler),
        )

    return operator


def whole_number(name: str, value: int) -> int:
    """Return `value` if it is a whole number from 1.

    Raises:
        SettingsError: it is not; the message has `name`.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise SettingsError(f"{name} is a whole number from 1, not {value!r}")
    return value


def check_observable(what: str, observable: object) -> None:
    """Refuse what cannot be subscribed to.

    Raises:
        SettingsError: `observable` is none.
    """
    if not hasattr(observable, "subscribe"):
        raise SettingsError(
            f"{what} takes an observable, such as tracker.outputs or service.events, not {observable!r}"
        )
