"""What a store knows of a task that does not run, and of the services that share it: for explain()."""

from __future__ import annotations

import attrs

from rxtasks.stores.gates import Gate

__all__ = ["MOST_NAMED", "Service", "Waits"]

#: Tasks that are named of many.
MOST_NAMED = 10


@attrs.frozen
class Waits:
    """What a task waits for, as far as its store knows. Nothing of it: only for its turn, or it is claimed, or has ended."""

    #: Wall-clock microseconds before which it does not run, 0 = it is due.
    due_us: int = 0
    #: Tasks that have not ended and that it depends on: some of them, and how many there are.
    needs: tuple[str, ...] = ()
    needs_count: int = 0
    #: The gate at which it is held back, how many tasks hold a place there, and some of them (() = the store cannot tell).
    gate: Gate | None = None
    running: int = 0
    holders: tuple[str, ...] = ()
    #: The rate of that gate lets the next one pass then; 0 = it is not the rate that holds it back.
    rate_us: int = 0
    #: Tasks that go before it at that gate.
    before: int = 0
    #: Its cancel has been asked for: '' or the reason.
    asked: str | None = None
    #: Number of the service that has it claimed, 0 = none does.
    service: int = 0


@attrs.frozen
class Service:
    """One of the services that share a store."""

    number: int
    pid: int
    host: str
    #: It is the one that asks.
    own: bool
    #: Tasks that it has claimed.
    holds: int
    #: Seconds since its lease has lapsed, where that can be told; below 0: it holds that much longer.
    lapsed: float | None
