"""defer: a cold Observable of one result: submits on subscribe, cancels on dispose."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from reactivex import Observable, abc
from reactivex.disposable import Disposable

from rxtasks.reactive.notiterable import NotIterable

if TYPE_CHECKING:
    from rxtasks.observe.tracker import TaskTracker

__all__ = ["DeferredTask"]


class DeferredTask(NotIterable, Observable[Any]):
    """The result of a call that is made at each subscription: retry, switch_map and concat_map work on it."""

    def __init__(self, submit: Callable[[], TaskTracker]) -> None:
        super().__init__()
        self._submit = submit

    def _subscribe_core(
        self, observer: abc.ObserverBase[Any], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        try:
            tracker = self._submit()
        except Exception as error:
            observer.on_error(error)
            return Disposable()
        subscription = tracker.outcome.subscribe(observer, scheduler=scheduler)

        def dispose() -> None:
            subscription.dispose()
            if not tracker.done:
                tracker._control.cancel_quietly(tracker.task_id, "the subscription was disposed")  # type: ignore[union-attr]

        return Disposable(dispose)
