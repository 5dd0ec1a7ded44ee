"""`TaskEventBus`: every event of a service, as one stream."""

from __future__ import annotations

from rxtasks.lifecycle.events import TaskEvent
from rxtasks.observe.delivery import Delivery
from rxtasks.observe.published import Published

__all__ = ["TaskEventBus"]


class TaskEventBus(Published[TaskEvent]):
    """All events of all tasks, in one order.

    With a delivery it is one of the delivery's streams: what is published there reaches its observers on the delivery
    thread, and what is put in here goes the same way. Without one it is a plain subject.
    """

    def __init__(self, delivery: Delivery | None = None) -> None:
        super().__init__()
        self._delivery = delivery
        if delivery is not None:
            self._flow = delivery
            delivery.stream(self)

    def on_next(self, value: TaskEvent) -> None:
        """Give `value` to every observer, in its place in the order."""
        if self._delivery is None:
            super().on_next(value)
        elif not self._state:
            self._delivery.emit(self, value)

    def on_error(self, error: Exception) -> None:
        """End the stream with `error`, after what has been published."""
        if self._delivery is None:
            super().on_error(error)
        else:
            self._delivery.complete(self, error)

    def on_completed(self) -> None:
        """End the stream, after what has been published."""
        if self._delivery is None:
            super().on_completed()
        else:
            self._delivery.complete(self)

    def _report(self, what: str, error: BaseException | None) -> None:
        if self._delivery is None:
            super()._report(what, error)
        else:
            self._delivery.report(what, error)
