"""`latest`: only the newest value, or the newest of each key, for a subscriber that cannot keep up."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Final, TypeVar

from reactivex import Observable

from rxtasks.errors import SettingsError
from rxtasks.reactive.lane import Strategy
from rxtasks.reactive.runner import SchedulerLike, needs_this_thread, runner_maker
from rxtasks.reactive.waiting import LatestByKey

__all__ = ["MAX_KEYS", "latest"]

T = TypeVar("T")

#: Keys whose values may wait at one time (R6). One more waits for room, as in buffer_bounded(MAX_KEYS, "block"): to
#: drop the last value of a key would break the promise.
MAX_KEYS: Final = 10_000


def latest(
    key: Callable[[Any], Hashable] | None = None, scheduler: SchedulerLike = None
) -> Callable[[Observable[T]], Strategy[T]]:
    """Give the subscriber, whenever it is free, the newest value that it has not had; older ones are dropped.

    The last value before the end is always delivered. With `key`, that holds for each key by itself: for example
    `latest(key=lambda event: event.task_id)` on progress events. What is dropped is counted in `.dropped`.

    Args:
        key: makes of a value what tells streams within the stream apart (hashable). What it raises ends the stream
            with on_error.
        scheduler: see buffer_bounded.

    Raises:
        SettingsError: an argument is none of these.
    """
    if key is not None and not callable(key):
        raise SettingsError(f"key is a function of one value or None, not {key!r}")
    make_runner = runner_maker(scheduler, "rxtasks-latest")

    def entry(value: Any) -> tuple[Hashable, Any]:
        if key is None:
            return None, value
        found = key(value)
        hash(found)  # raises here, where no lock is held
        return found, value

    def operator(source: Observable[T]) -> Strategy[T]:
        return Strategy(
            source,
            make_runner,
            lambda _: LatestByKey[Any](MAX_KEYS),
            entry=entry,
            needs_this_thread=needs_this_thread(scheduler),
        )

    return operator
