"""What waits in the merger: lines of many workers on their way into one order, and equal lines on their way into one.

::

    offer (as they come) ──> [ within the window, sorted by time ] ──> [ equal ones counted ] ──take──> a list of them

A worker sends what it has to say in batches, so lines of two workers do not come in the order of their times. A line
waits for at most `window` seconds, and at least two thirds of that: what comes meanwhile with an earlier time goes
before it, and several are given out together, so that the taker wakes a few hundred times a second at most. A line that
comes later still is marked late.
The lines of one task keep their order whatever its clock does.

Of lines of one source that are equal in all but the time the first is given out, the others are counted: "last message
repeated 57 times", as syslog does. That is told before the source's next other line, after `patience` seconds, and at
the end. Its time is that at which it is told, so that order is kept; of which time the lines were is in its fields.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final, NamedTuple

import attrs

from rxtasks.lifecycle.events import LogEvent
from rxtasks.logs.line import LogLine
from rxtasks.pool.events import WorkerEvent
from rxtasks.reactive.waiting import EARLY, FULL, KEPT, NOTHING, WAKE

__all__ = ["BYTES", "LINES", "Entry", "Reordering", "Said"]

#: Lines, and bytes of their messages, that wait for the merger; then the oldest is dropped and counted (R6).
LINES: Final = 20_000
BYTES: Final = 16 * 2**20
#: Sources whose last line is remembered (R6); of others equal lines are not noticed.
_SOURCES: Final = 1000
#: Seconds for which equal lines are counted before it is told.
PATIENCE: Final = 2.0
#: The part of a window that a line waits for at least; the rest is there so that several go together.
_LEAST: Final = 2 / 3

#: What is merged.
Said = LogEvent | WorkerEvent | LogLine
_DAWN: Final = datetime.min.replace(tzinfo=UTC)
#: What is later than this was said after a clock was set back: what follows is compared with it, and not marked too.
_SET_BACK: Final = timedelta(seconds=10)


class Entry(NamedTuple):
    """A line that is given out."""

    said: Said
    #: Its time has passed when it came.
    late: bool = False
    #: How many lines like it there have been since the last one given out; 0: it is one itself.
    repeated: int = 0
    #: Of those the times of the first and the last, and the time at which it is told.
    first: datetime = _DAWN
    last: datetime = _DAWN
    told: datetime = _DAWN


class _Waiting(NamedTuple):
    key: datetime
    number: int
    came: float
    said: Said


@attrs.define(eq=False)
class _Source:
    """The last line of one source, and how often it has been said again."""

    said: Said
    count: int = 0
    first: datetime = _DAWN
    last: datetime = _DAWN
    since: float = 0.0
    number: int = 0


class Reordering:
    """A bounded place for log events and events of the pool that gives them out in lists; a `Store` of a strategy.

    Args:
        window: seconds that a line waits for earlier ones, at most.
        duplicates: count equal lines instead of giving them out.
        now: seconds of a clock that never goes back.
        patience: seconds after which repetitions are told.
    """

    def __init__(
        self,
        window: float,
        duplicates: bool,
        now: Callable[[], float],
        *,
        patience: float = PATIENCE,
        capacity: int = LINES,
        size: int = BYTES,
    ) -> None:
        self._window = window
        self._now = now
        self._duplicates = duplicates
        self._patience = patience
        self._most_bytes = size
        self._waiting: deque[_Waiting] = deque()
        #: The latest key of each task that has lines here.
        self._keys: dict[str, datetime] = {}
        self._bytes = 0
        self._hurried = 0
        #: The latest time given out.
        self._given = _DAWN
        self._sources: OrderedDict[tuple[str | None, str | None], _Source] = OrderedDict()
        #: Those of them that have something to tell, since when: the longest first.
        self._repeating: dict[tuple[str | None, str | None], _Source] = {}
        self.puts = 0
        self.capacity = capacity
        self.lost: list[Any] = []

    # -- the store's protocol ------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        return len(self._waiting) + len(self._repeating)

    @property
    def oldest(self) -> int:
        oldest = min((each.number for each in self._repeating.values()), default=self.puts + 1)
        return min(oldest, self._waiting[0].number) if self._waiting else oldest

    @property
    def first(self) -> Any:
        return self._waiting[0].said if self._waiting else NOTHING

    def offer(self, said: Said, /) -> int:
        """Put it, unless there are too many, or too many bytes."""
        if len(self._waiting) >= self.capacity or self._bytes >= self._most_bytes:
            return FULL
        return self.force(said)

    def force(self, said: Said, /) -> int:
        """Put it."""
        wakes = not self._waiting
        self.puts += 1
        key = said.time
        if isinstance(said, LogEvent):
            before = self._keys.get(said.task_id)
            if before is not None and key < before:
                key = before
            self._keys[said.task_id] = key
        self._waiting.append(_Waiting(key, self.puts, self._now(), said))
        self._bytes += len(said.message)
        return WAKE if wakes else KEPT

    def evict(self) -> None:
        """Move the oldest lines to `lost` until there is room."""
        while self._waiting and (len(self._waiting) >= self.capacity or self._bytes >= self._most_bytes):
            said = self._waiting.popleft().said
            self._bytes -= len(said.message)
            self.lost.append(said)
        if not self._waiting:
            self._keys.clear()

    def take(self, flush: bool, /) -> Any:
        """Return the lines that are next, in order, or NOTHING."""
        now = self._now()
        flush = flush or self._hurried >= self.oldest
        entries: list[Entry] = []
        if self._waiting and (flush or self._left(now) <= EARLY):
            for each in self._due(now, flush):
                self._pass_on(each, now, entries)
        if self._repeating:
            self._tell_repetitions(now, flush, entries)
        return entries or NOTHING

    def due(self) -> float | None:
        """Return the seconds until the next lines are."""
        now = self._now()
        found = []
        if self._waiting:
            found.append(self._left(now))
        for source in self._repeating.values():
            found.append(source.since + self._patience - now)
            break
        return max(0.0, min(found)) if found else None

    def hurry(self) -> bool:
        """Let everything that is here go at once."""
        self._hurried = self.puts
        return self.waiting > 0

    def clear(self) -> list[Any]:
        """Remove all that waits."""
        said = [each.said for each in self._waiting]
        self._waiting.clear()
        self._keys.clear()
        self._repeating.clear()
        self._sources.clear()
        self._bytes = 0
        return said

    # -- order ---------------------------------------------------------------------------------------------------------

    def _left(self, now: float) -> float:
        return self._waiting[0].came + self._window - now

    def _due(self, now: float, flush: bool) -> list[_Waiting]:
        """Take out, sorted by time, the lines that have waited long enough, and those that go before them."""
        waiting = self._waiting
        ready = len(waiting)
        if not flush:
            until = now - _LEAST * self._window + EARLY
            ready = 0
            for each in waiting:
                if each.came > until:
                    break
                ready += 1
        if ready == len(waiting):
            due = sorted(waiting)
            waiting.clear()
            self._keys.clear()
            self._bytes = 0
            return due
        last = max(islice(waiting, ready))
        due = sorted(each for each in waiting if each <= last)
        self._waiting = deque(each for each in waiting if each > last)
        self._bytes -= sum(len(each.said.message) for each in due)
        for each in due:
            said = each.said
            if isinstance(said, LogEvent) and self._keys.get(said.task_id) == each.key:
                self._keys.pop(said.task_id)
        for each in self._waiting:  # two lines of one time: what is left of the task goes by it still
            if isinstance(each.said, LogEvent):
                self._keys[each.said.task_id] = each.key
        return due

    # -- repetitions ---------------------------------------------------------------------------------------------------

    def _pass_on(self, each: _Waiting, now: float, entries: list[Entry]) -> None:
        said = each.said
        if self._duplicates:
            name = (None if isinstance(said, WorkerEvent) else said.task_id, said.worker_id)
            source = self._sources.get(name)
            if source is not None and _equal(source.said, said):
                if not source.count:
                    source.since, source.first = now, said.time
                    self._repeating[name] = source
                source.count += 1
                source.last = said.time
                source.number = each.number
                return
            if source is None:
                self._remember(name, said, entries)
            else:
                if source.count:
                    entries.append(self._told(name, source))
                source.said = said
        late = said.time < self._given
        if not late or self._given - said.time > _SET_BACK:
            self._given = said.time
        entries.append(Entry(said, late))

    def _remember(self, name: tuple[str | None, str | None], said: Said, entries: list[Entry]) -> None:
        if len(self._sources) >= _SOURCES:
            forgotten, source = self._sources.popitem(last=False)
            if source.count:
                entries.append(self._told(forgotten, source))
        self._sources[name] = _Source(said)

    def _tell_repetitions(self, now: float, flush: bool, entries: list[Entry]) -> None:
        for name, source in list(self._repeating.items()):
            if not flush and source.since + self._patience > now + EARLY:
                break
            entries.append(self._told(name, source))

    def _told(self, name: tuple[str | None, str | None], source: _Source) -> Entry:
        self._repeating.pop(name, None)
        told = max(self._given, source.last)
        self._given = told
        entry = Entry(source.said, False, source.count, source.first, source.last, told)
        source.count = 0
        return entry


def _equal(one: Said, other: Said) -> bool:
    """Say whether two lines of one source differ in nothing but their time and number."""
    if one.message != other.message:
        return False
    if isinstance(one, LogEvent):
        return (
            isinstance(other, LogEvent)
            and one.level == other.level
            and one.stream == other.stream
            and one.fields == other.fields
            and one.attempt == other.attempt
        )
    if isinstance(one, WorkerEvent):
        return isinstance(other, WorkerEvent) and one.kind == other.kind and one.data == other.data
    return isinstance(other, LogLine) and attrs.evolve(one, time=other.time) == other
