"""Being one of the services that have a durable store open: what an engine may ask of its store for that.

::

    join ──> registered, the dead recovered ──> look (every renewal, and when somebody is gone) ──> Looked
                                            └─> follow (when the bell rings) ─────────────────────> News
    leave <── stop

- A member holds a lease, renewed by each look, and a lock that whatever belongs to it inherits (`lock`): once that is free,
  nothing of it runs any more.
- Who looks gives the tasks of members that are no more back to the queue (rxtasks.stores.recovery).
- A member that stood still for longer than its lease has been taken for dead: its next look says so (`void`), and has
  registered it anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import attrs

from rxtasks.lifecycle.events import TaskEvent
from rxtasks.stores.base import Ending

__all__ = ["Interest", "Looked", "Membership", "News", "Recovery"]


@attrs.frozen
class Recovery:
    """What was done for members that are no more."""

    #: Members that were found dead, or whose lease had lapsed.
    services: int = 0
    #: Tasks that are in the queue again; that had been interrupted too often; that were to be cancelled.
    recovered: int = 0
    failed: int = 0
    cancelled: int = 0
    seconds: float = 0.0
    #: There may be more to recover.
    more: bool = False

    def __bool__(self) -> bool:
        return bool(self.services or self.recovered or self.failed or self.cancelled)

    def and_then(self, other: Recovery) -> Recovery:
        """Return both as one."""
        return Recovery(
            self.services + other.services,
            self.recovered + other.recovered,
            self.failed + other.failed,
            self.cancelled + other.cancelled,
            self.seconds + other.seconds,
            other.more,
        )


@attrs.frozen
class Looked:
    """What a look has found and done."""

    recovery: Recovery
    #: This member had been taken for dead: claims with tokens up to this one are void, and it is registered anew.
    void: int | None = None


@attrs.frozen
class Interest:
    """Which events of others a member wants."""

    #: Those of all tasks; else those of tasks for which `of` is true.
    everything: bool
    of: Callable[[str], bool]


@attrs.frozen
class News:
    """What others have done since the last time."""

    events: list[TaskEvent]
    #: Bytes of them, about.
    size: int
    #: How tasks ended for which `Interest.of` is true.
    endings: dict[str, Ending]
    #: Tasks of this member that others want cancelled, and why.
    asked: list[tuple[str, str | None]]
    #: There may be more.
    more: bool = False


class Membership(Protocol):
    """One member. Any thread, unless said otherwise; `done` is called on another one."""

    #: A descriptor for everything that belongs to the service to inherit, -1 = there is none.
    lock: int
    #: A descriptor that is readable when somebody has rung, -1 = nothing can be waited for: follow now and then.
    bell: int

    def heard(self) -> bool:
        """Take note of the bell (one thread); return whether a member may be gone (without a bell: there is one)."""
        ...

    def recover(self) -> Recovery:
        """Give back the tasks of all members that are no more; waits for the disk.

        Raises:
            StoreError: the store failed.
        """
        ...

    def look_later(self, done: Callable[[Looked | None, BaseException | None], None]) -> None:
        """Renew the lease, look after the others, then call done(what was found or None, error or None).

        Raises:
            StoreError: the store is closed.
        """
        ...

    def listen(self, interest: Callable[[], Interest | None], tell: Callable[[News], None]) -> None:
        """From now on tell what others do, as far as it is of interest (None: their events are passed over).

        In the right order: the commits of this member that came before have been answered before, and what others did with a
        task before it was claimed here is told before the claim is.
        """
        ...

    def follow(self) -> None:
        """Have told soon what others have done; many calls are one."""
        ...

    def leave(self) -> None:
        """Be a member no more; idempotent."""
        ...
