"""What a stop left behind."""

from __future__ import annotations

import attrs

from rxtasks.displayed import Displayed

__all__ = ["StopReport"]


@attrs.frozen
class StopReport(Displayed):
    """What a stop left behind."""

    #: Events not handed to every subscriber, by kind; empty when all were.
    undelivered: dict[str, int] = attrs.field(factory=dict)
    #: Subscribers whose call had not come back.
    stuck: tuple[str, ...] = ()
    #: Ids of tasks that this stop cut off or kept from starting.
    unfinished: tuple[str, ...] = ()
