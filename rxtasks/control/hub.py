"""All events of all tasks, once for any number of readers: one subscription, and a log of the last of them that all read from.

::

    service.events ──> [ 1 2 3 ... the last EVENTS, at most BYTES ] <── a reader's place <── a client
                          overtaken: the reader is told, and closed

A reader that is slow costs nothing: it has a place in the log and no buffer. The first one subscribes; it ends LINGER seconds
after the last one has left, so that one that lost its connection can go on where it was. An event's id is the log's own number
with the number of the subscription, so a place in a log that is no more is never taken for one in this.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
from typing import Any, Final

from rxtasks.control.shown import as_json
from rxtasks.control.sse import frame
from rxtasks.lifecycle.events import TaskEvent
from rxtasks.service import TaskService

__all__ = ["Hub", "Overtaken", "Reader"]

#: Events, and bytes of them, that are kept for readers.
EVENTS: Final = 100_000
BYTES: Final = 32 * 2**20
#: Seconds for which they are kept when nobody reads.
LINGER: Final = 30.0
#: Events that a reader is given at once.
_TURN: Final = 512
#: Places of events that are no longer kept, after which the list is made shorter.
_DEAD: Final = 10_000


_NOTHING: Final = ("", b"")


class Overtaken(Exception):
    """The reader was slower than the events: some that it has not had are no longer kept."""


class Hub:
    """See the module. Of the loop's thread, but for what the service calls (_subscribe, _take, _stopped, _failed)."""

    def __init__(self, service: TaskService) -> None:
        self._service = service
        self._lock = threading.Lock()
        #: Kind and frame of each event; the first `_gone` of them are no longer kept.
        self._log: list[tuple[str, bytes]] = []
        self._gone = 0
        self._size = 0
        #: The number of the event behind the last one.
        self._next = 1
        self._epoch = ""
        self._readers: set[Reader] = set()
        self._told = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._subscription: Any = None
        self._hook: Any = None
        self._leaving: asyncio.TimerHandle | None = None

    # -- readers -------------------------------------------------------------------------------------------------------

    def enter(self, cursor: str | None) -> tuple[Reader, bool]:
        """Return a reader that goes on behind the event with this id (None: with what comes), and whether it misses some."""
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None
        if self._loop is None:
            self._begin()
        with self._lock:
            place = self._place_behind(cursor)
            reader = Reader(self, self._next if place is None else place)
        self._readers.add(reader)
        return reader, cursor is not None and place is None

    def _place_behind(self, cursor: str | None) -> int | None:
        epoch, _, number = (cursor or "").partition("-")
        if epoch != self._epoch or not number.isdigit() or len(number) > 15:
            return None
        place = int(number) + 1
        return place if self._first + self._gone <= place <= self._next else None

    @property
    def _first(self) -> int:
        """The number of the event that is first in the list, kept or not."""
        return self._next - len(self._log)

    def leave(self, reader: Reader) -> None:
        """It reads no more."""
        self._readers.discard(reader)
        if not self._readers and self._loop is not None and self._leaving is None:
            self._leaving = self._loop.call_later(LINGER, self.close)

    def read(self, place: int) -> list[tuple[str, bytes]]:
        """Return (kind, frame) of some events from this place on.

        Raises:
            Overtaken: the first of them is no longer kept.
        """
        with self._lock:
            at = place - self._first
            if at < self._gone:
                raise Overtaken
            return self._log[at : at + _TURN]

    # -- the one subscription ------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._epoch = secrets.token_hex(4)
        # A service that was stopped has another stream when it is started: subscribed to before its first event.
        self._hook = self._service.before("start").add(self._subscribe)
        self._subscribe()

    def _subscribe(self, _: object = None) -> None:
        if self._loop is None:
            return
        before, self._subscription = self._subscription, None
        if before is not None:
            before.dispose()
        self._subscription = self._service.events.subscribe(self._take, self._failed, self._stopped)

    def close(self) -> None:
        """End the subscription, and forget what was kept."""
        self._loop = self._leaving = None
        for part in (self._subscription, self._hook):
            with contextlib.suppress(Exception):
                if part is not None:
                    part.dispose()
        self._subscription = self._hook = None
        with self._lock:
            self._epoch = ""
            self._log.clear()
            self._size = self._gone = 0

    def _take(self, event: TaskEvent) -> None:
        try:
            data = event.to_json()
        except TypeError:
            data = as_json({"task_id": event.task_id, "seq": event.seq, "kind": event.kind})
        self._add(event.kind, data)

    def _failed(self, error: Exception) -> None:
        self._add("stopped", as_json({"message": f"the stream of events ended: {type(error).__name__}"}))

    def _stopped(self) -> None:
        self._add("stopped", as_json({"message": "processing was stopped; the stream goes on when it is started"}))

    def _add(self, kind: str, data: bytes) -> None:
        with self._lock:
            loop = self._loop
            if loop is None:
                return
            made = frame(kind, data, f"{self._epoch}-{self._next}")
            self._log.append((kind, made))
            self._next += 1
            self._size += len(made)
            self._trim()
            if self._told:
                return
            self._told = True
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(self._tell)

    def _trim(self) -> None:
        log = self._log
        while len(log) - self._gone > EVENTS or (self._size > BYTES and len(log) - self._gone > 1):
            self._size -= len(log[self._gone][1])
            log[self._gone] = _NOTHING
            self._gone += 1
        if self._gone >= _DEAD:
            del log[: self._gone]
            self._gone = 0

    def _tell(self) -> None:
        with self._lock:
            self._told = False
        for reader in self._readers:
            reader.there.set()


class Reader:
    """A place in the log."""

    def __init__(self, hub: Hub, place: int) -> None:
        self._hub = hub
        self._place = place
        self.there = asyncio.Event()
        self.closed = False

    async def take(self, seconds: float) -> list[tuple[str, bytes]] | None:
        """Return (kind, frame) of the next events, once there are some; [] = closed, None = none came in so many seconds.

        Raises:
            Overtaken: some were missed.
        """
        while not self.closed:
            self.there.clear()
            found = self._hub.read(self._place)
            if found:
                self._place += len(found)
                return found
            try:
                async with asyncio.timeout(seconds):
                    await self.there.wait()
            except TimeoutError:
                return None
        return []

    def close(self) -> None:
        """Let who waits in take() end."""
        self.closed = True
        self.there.set()
