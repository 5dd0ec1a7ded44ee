"""`Published`: the base of subjects whose values a delivery hands out: a subscriber gets what is published from then on.

A stream of a service is hot. What was published before a subscription may still wait to be handed out; the new
subscription stands among the others at once, shut, and is opened by a mark in the order of the stream:

::

    [event][event] <─ mark: open ─ [event] ...
     passed over                    taken

Who subscribes in an on_next of the delivery stands at a place in the order already, behind the event in hand: nothing
of what follows is passed over (so retry and repeat lose nothing).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from reactivex import abc

from rxtasks.reactive.subject import RxSubject, Target

if TYPE_CHECKING:
    from rxtasks.observe.delivery import Delivery

__all__ = ["Published"]

_T = TypeVar("_T")


class Published(RxSubject[_T]):
    """See the module. Without a delivery (`_flow` is None) it is a plain subject."""

    def _attach(self, target: Target[_T]) -> abc.DisposableBase:
        delivery: Delivery | None = self._flow
        if delivery is None or delivery.caught_up:
            return super()._attach(target)
        target.shut()
        attached = super()._attach(target)
        delivery.mark(target.open)
        return attached
