"""Credit: how far a task's logs and outputs may run ahead of their acknowledgement (R1, R2); pure.

A window of W units is open when a task starts. Each credited event costs at least one unit, or one for each KiB. Both
sides count from the task's start and never down: the sender what it has spent, the receiver what it has accepted; a
grant is the receiver's count plus W. So a grant that is lost, repeated or late does no harm.

Grants are sent when a quarter of the window has been accepted since the last one. Therefore an event may cost at most
the window less that quarter: with everything accepted and no grant due, that much is always open, and no event waits
for ever.
"""

from __future__ import annotations

from rxtasks.errors import ProtocolError

__all__ = ["UNIT", "ReceiveCredit", "SendCredit", "event_cost"]

#: Bytes that one unit stands for.
UNIT = 1024


def _quarter(window: int) -> int:
    return max(1, window // 4)


def event_cost(size: int, window: int) -> int:
    """Return the units that an event of `size` bytes costs under a window of `window` units (at least 1)."""
    return max(1, min(-(-size // UNIT), window - _quarter(window)))


class SendCredit:
    """The sender's side of one task: may this event leave now?"""

    __slots__ = ("granted", "spent")

    def __init__(self, granted: int) -> None:
        #: Units that may be spent in all, cumulative.
        self.granted = granted
        #: Units spent in all.
        self.spent = 0

    def can(self, cost: int) -> bool:
        """Say whether an event of `cost` units may leave now."""
        return self.spent + cost <= self.granted

    def spend(self, cost: int) -> None:
        """Count an event that leaves.

        Raises:
            ValueError: there is not that much credit; ask can() first.
        """
        if self.spent + cost > self.granted:
            raise ValueError(f"{cost} units of credit asked, {self.granted - self.spent} left")
        self.spent += cost

    def grant(self, cumulative: int) -> bool:
        """Take over a grant; return whether it opens more than there was. A repeat changes nothing.

        Raises:
            ProtocolError: it is lower than an earlier one.
        """
        if cumulative < self.granted:
            raise ProtocolError(f"credit was decreased from {self.granted} to {cumulative}")
        more = cumulative > self.granted
        self.granted = cumulative
        return more


class ReceiveCredit:
    """The receiver's side of one task: what has come, and what to grant."""

    __slots__ = ("accepted", "granted", "window")

    def __init__(self, window: int) -> None:
        if window < 1:
            raise ValueError(f"a window of credit is at least 1 unit, not {window}")
        self.window = window
        #: Units of the events accepted in all.
        self.accepted = 0
        #: The last grant, cumulative; the first is the window itself and goes with the assignment.
        self.granted = window

    def accept(self, cost: int) -> None:
        """Count an event that has been taken over.

        Raises:
            ProtocolError: the sender spent more than it was granted.
        """
        if self.accepted + cost > self.granted:
            raise ProtocolError(f"{self.accepted + cost} units of events came; {self.granted} were granted")
        self.accepted += cost

    def due(self) -> int | None:
        """Return the grant to send now, or None while less than a quarter of the window is to be granted.

        What it returns counts as granted. Not calling it withholds the credit.
        """
        grant = self.accepted + self.window
        if grant - self.granted < _quarter(self.window):
            return None
        self.granted = grant
        return grant
