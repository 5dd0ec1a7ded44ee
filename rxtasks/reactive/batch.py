"""`batch`: lists instead of single values, bounded in size and in time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, TypeVar

from reactivex import Observable

from rxtasks.errors import SettingsError
from rxtasks.reactive.buffer import whole_number
from rxtasks.reactive.lane import Strategy
from rxtasks.reactive.runner import Runner, SchedulerLike, needs_this_thread, runner_maker
from rxtasks.reactive.waiting import Batches

__all__ = ["batch"]

T = TypeVar("T")

#: Values that may wait for a subscriber that cannot keep up: at least so many, and at least four batches (R6). Then
#: as in buffer_bounded with on_full="block".
LEAST_ROOM: Final = 1024


def batch(
    n: int, seconds: float | timedelta, scheduler: SchedulerLike = None
) -> Callable[[Observable[T]], Strategy[list[T]]]:
    """Give the subscriber lists of `n` values; a shorter one when its first value has waited for `seconds`.

    Nothing is lost and the order is kept: the lists one after the other are the source. An empty list is never given.
    What is left when the source completes or fails comes before the end.

    Args:
        n: values in a list at most; at least 1.
        seconds: how long the first value of a list may wait for the list to fill; from 0 (what waits, at once).
        scheduler: see buffer_bounded; the time is that of the loop or of a virtual-time scheduler, else monotonic.

    Raises:
        SettingsError: an argument is none of these.
    """
    size = whole_number("n", n)
    if isinstance(seconds, timedelta):
        seconds = seconds.total_seconds()
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < float("inf"):
        raise SettingsError(f"seconds is a number from 0, or a timedelta, not {seconds!r}")
    patience = float(seconds)
    make_runner = runner_maker(scheduler, f"rxtasks-batch-{n}")

    def store(runner: Runner) -> Batches[Any]:
        return Batches(size, patience, max(4 * size, LEAST_ROOM), runner.now)

    def operator(source: Observable[T]) -> Strategy[list[T]]:
        return Strategy(source, make_runner, store, needs_this_thread=needs_this_thread(scheduler))

    return operator
