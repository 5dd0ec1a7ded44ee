"""Subscribing for somebody who takes on the same thread: sources that emit inside `subscribe` get a thread.

`reactivex.from_(range(10_000))` emits all it has before `subscribe` returns. Whoever would take the values is the
caller of subscribe, so a bounded buffer would fill and wait for ever. Two ways out:

- `feed_aside` subscribes on a thread of its own (for `iterate`, whose caller waits anyway);
- `FeederScheduler` is given to subscribe (for `aiterate`: sources that belong to the event loop have to be subscribed
  on it). Cold sources of RxPY emit on the scheduler they are given; sources that have one of their own do not care.

Both can end a source that never ends by itself, like `from_(itertools.count())`, which goes on after dispose: once
nobody listens, the next emission on such a thread raises `Unwind`, which leaves the source's own loop.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Protocol, TypeVar

from reactivex import abc, typing
from reactivex.scheduler import EventLoopScheduler

__all__ = ["Fed", "FeederScheduler", "Unwind", "feed_aside"]

_S = TypeVar("_S")


class Unwind(BaseException):
    """Leaves a source's loop; raised only on threads made here, and ends there."""


class Fed(Protocol):
    """What is fed."""

    @property
    def over(self) -> bool:
        """True once nothing is wanted any more."""

    def attach(self, source: abc.DisposableBase) -> None:
        """Keep the subscription."""

    def leave(self) -> None:
        """Dispose the subscription, if it is there."""

    def on_error(self, error: Exception) -> None:
        """Take the error of a subscribe that raised."""


def feed_aside(
    subscribe: Callable[[], abc.DisposableBase], fed: Fed, begin: Callable[[], None], name: str
) -> threading.Thread:
    """Call `subscribe` on a daemon thread, in a copy of the caller's context.

    Args:
        subscribe: subscribes and returns the subscription.
        fed: gets the subscription, or the error.
        begin: called when subscribe has returned or raised.
        name: the thread's name.
    """

    def run() -> None:
        try:
            fed.attach(subscribe())
        except Unwind:
            pass
        except Exception as error:
            fed.on_error(error)
        finally:
            begin()

    thread = threading.Thread(target=copy_context().run, args=(run,), name=name, daemon=True)
    thread.start()
    return thread


class FeederScheduler(EventLoopScheduler):
    """One thread for all that the source schedules, there while something is scheduled."""

    def __init__(self, fed: Fed) -> None:
        super().__init__(exit_if_empty=True)
        self._fed = fed
        self._runner = 0

    @property
    def running(self) -> bool:
        """Whether an action runs: then its next emission ends it, and after it the subscription is left."""
        return self._runner != 0

    @property
    def mine(self) -> bool:
        """True for what an action calls."""
        return self._runner == threading.get_ident()

    def schedule_absolute(
        self, duetime: typing.AbsoluteTime, action: typing.ScheduledAction[_S], state: _S | None = None
    ) -> abc.DisposableBase:
        fed = self._fed

        def run(scheduler: abc.SchedulerBase, state: _S | None = None) -> abc.DisposableBase | None:
            self._runner = threading.get_ident()
            try:
                return action(scheduler, state)
            except Unwind:
                return None
            except Exception as error:  # it would end the thread, and the source with it, in silence
                fed.on_error(error)
                return None
            finally:
                self._runner = 0
                if fed.over:
                    fed.leave()

        return super().schedule_absolute(duetime, run, state)
