"""`deliver_on`: call the subscriber on the thread of a GUI or of any other loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from reactivex import Observable

from rxtasks.errors import SettingsError
from rxtasks.reactive.buffer import whole_number
from rxtasks.reactive.lane import Strategy
from rxtasks.reactive.runner import PostRunner
from rxtasks.reactive.waiting import Fifo

__all__ = ["deliver_on"]

T = TypeVar("T")

#: Values that may wait for the loop unless `n` says otherwise: as many as a plain subscriber of a service may have.
ROOM: Final = 10_000


def deliver_on(
    post: Callable[[Callable[[], None]], object], *, n: int = ROOM
) -> Callable[[Observable[T]], Strategy[T]]:
    """Call the subscriber where `post(callback)` calls its callback; nothing is lost and the order is kept.

    One callback delivers all that waits, for 5 ms at most; then it is posted again, so the loop stays responsive.
    At most `n` values wait, then as in buffer_bounded with on_full="block".

    Args:
        post: takes a function without arguments and has it called soon, once, on the loop's thread; it may be called
            on any thread. For example `GLib.idle_add`, `wx.CallAfter`, `loop.call_soon_threadsafe`,
            `lambda call: root.after(0, call)` for tkinter, the emit of a Qt signal.
        n: values that may wait; at least 1.

    Raises:
        SettingsError: `post` cannot be called, or `n` is no number from 1.
    """
    if not callable(post):
        raise SettingsError(f"post is a function that takes a callback, not {post!r}")
    capacity = whole_number("n", n)

    def operator(source: Observable[T]) -> Strategy[T]:
        return Strategy(source, lambda: PostRunner(post), lambda _: Fifo[Any](capacity))

    return operator
