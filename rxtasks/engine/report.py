"""What a stop left behind."""

from __future__ import annotations

import attrs

from rxtasks.displayed import Displayed
from rxtasks.observe.ledger import LedgerReport

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
    #: What became of every event, as the delivery ended; checked then: what does not add up is logged as an error. None: there
    #: was nothing to stop.
    ledger: LedgerReport | None = None
