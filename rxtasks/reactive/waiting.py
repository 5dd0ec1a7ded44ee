"""What waits between a source and a subscriber: three stores with a bound.

A store is used under the lock of the intake that owns it; it has no lock of its own and calls no foreign code (keys
are computed before). `puts` numbers the values from 1, so that "everything put until now has left" can be
told from `oldest`, whatever the order.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Any, Final, Generic, Protocol, TypeVar

__all__ = ["FULL", "KEPT", "NOTHING", "WAKE", "Batches", "Fifo", "LatestByKey", "Store"]

T = TypeVar("T")
A_contra = TypeVar("A_contra", contravariant=True)
B_co = TypeVar("B_co", covariant=True)


class _Nothing:
    __slots__ = ()

    def __repr__(self) -> str:
        return "NOTHING"


#: What `take` returns when there is nothing to take now.
NOTHING: Final = _Nothing()

#: What `offer` returns: no room; put, and no need to wake anybody; put, and whoever takes should look.
FULL, KEPT, WAKE = 0, 1, 2

#: Seconds by which a timer may be early: datetimes and virtual clocks round to microseconds.
EARLY: Final = 2e-6


class Store(Protocol[A_contra, B_co]):
    """A bounded place for values of A that gives them out as B."""

    #: Values put so far.
    puts: int
    #: Values that wait at most, except for those of `force`.
    capacity: int
    #: Values that left because a newer one took their place, until the owner counts and clears them.
    lost: list[Any]

    @property
    def waiting(self) -> int:
        """Values that wait."""

    @property
    def oldest(self) -> int:
        """The number of the oldest value that waits; puts + 1 when none does."""

    @property
    def first(self) -> Any:
        """The oldest value that waits, or NOTHING."""

    def offer(self, value: A_contra, /) -> int:
        """Put `value` if there is room; return FULL, KEPT or WAKE."""

    def force(self, value: A_contra, /) -> int:
        """Put `value` even where there is no room; return KEPT or WAKE."""

    def evict(self) -> None:
        """Move the oldest value to `lost`."""

    def take(self, flush: bool, /) -> Any:
        """Remove and return what is to be delivered next, or NOTHING; with `flush` nothing waits for more."""

    def due(self) -> float | None:
        """Return the seconds until `take` has something without a further put; None if it never will."""

    def hurry(self) -> bool:
        """Let what waits now be taken at once; True if that changed something."""

    def clear(self) -> list[Any]:
        """Remove and return all that waits, oldest first."""


class Fifo(Generic[T]):
    """At most `capacity` values, first in, first out."""

    __slots__ = ("_items", "capacity", "lost", "puts")

    def __init__(self, capacity: int) -> None:
        self._items: deque[T] = deque()
        self.capacity = capacity
        self.puts = 0
        self.lost: list[Any] = []

    @property
    def waiting(self) -> int:
        return len(self._items)

    @property
    def oldest(self) -> int:
        return self.puts - len(self._items) + 1

    @property
    def first(self) -> Any:
        return self._items[0] if self._items else NOTHING

    def offer(self, value: T, /) -> int:
        items = self._items
        if len(items) >= self.capacity:
            return FULL
        items.append(value)
        self.puts += 1
        return WAKE

    def force(self, value: T, /) -> int:
        self._items.append(value)
        self.puts += 1
        return WAKE

    def evict(self) -> None:
        self.lost.append(self._items.popleft())

    def take(self, flush: bool, /) -> Any:
        items = self._items
        return items.popleft() if items else NOTHING

    def due(self) -> float | None:
        return None

    def hurry(self) -> bool:
        return False

    def clear(self) -> list[Any]:
        items = list(self._items)
        self._items.clear()
        return items


class Batches(Generic[T]):
    """At most `capacity` values, given out as lists of `size`, or fewer once the first of them is `seconds` old.

    `_heads` has the time at which each list that is not complete, or waits, began: the list cut next begins at the
    first of them.
    """

    __slots__ = ("_fifo", "_heads", "_hurried", "_now", "capacity", "lost", "seconds", "size")

    def __init__(self, size: int, seconds: float, capacity: int, now: Callable[[], float]) -> None:
        self._fifo: Fifo[T] = Fifo(capacity)
        self._heads: deque[float] = deque()
        self._hurried = 0
        self._now = now
        self.capacity = capacity
        self.size = size
        self.seconds = seconds
        self.lost: list[Any] = []

    @property
    def puts(self) -> int:
        return self._fifo.puts

    @puts.setter
    def puts(self, value: int) -> None:
        self._fifo.puts = value

    @property
    def waiting(self) -> int:
        return self._fifo.waiting

    @property
    def oldest(self) -> int:
        return self._fifo.oldest

    @property
    def first(self) -> Any:
        return self._fifo.first

    def offer(self, value: T, /) -> int:
        return FULL if self._fifo.waiting >= self.capacity else self.force(value)

    def force(self, value: T, /) -> int:
        fifo = self._fifo
        place = fifo.waiting % self.size
        if place == 0:
            self._heads.append(self._now())
        fifo.force(value)
        # The first of a list starts the clock, the last completes the list.
        return WAKE if place == 0 or place == self.size - 1 else KEPT

    def evict(self) -> None:
        raise NotImplementedError("a batch drops nothing")

    def take(self, flush: bool, /) -> Any:
        fifo = self._fifo
        waiting = fifo.waiting
        if waiting >= self.size:
            self._heads.popleft()
            return [fifo.take(flush) for _ in range(self.size)]
        if waiting and (flush or self._hurried >= fifo.oldest or self._left() <= EARLY):
            self._heads.clear()
            return self._fifo.clear()
        return NOTHING

    def due(self) -> float | None:
        return max(0.0, self._left()) if self._heads else None

    def hurry(self) -> bool:
        self._hurried = self._fifo.puts
        return self._fifo.waiting > 0

    def clear(self) -> list[Any]:
        self._heads.clear()
        return self._fifo.clear()

    def _left(self) -> float:
        return self._heads[0] + self.seconds - self._now()


class LatestByKey(Generic[T]):
    """The last value of each of at most `capacity` keys, in the order of their arrival.

    It takes pairs of key and value, so that no foreign code runs under the owner's lock beside the key's hash and
    comparison. A value that replaces one goes to the end: what is given out is a subsequence of what came.
    """

    __slots__ = ("_values", "capacity", "lost", "puts")

    def __init__(self, capacity: int) -> None:
        # Not a dict: taking from the front of one gets slower with each that has left.
        self._values: OrderedDict[Hashable, tuple[int, T]] = OrderedDict()
        self.capacity = capacity
        self.puts = 0
        self.lost: list[Any] = []

    @property
    def waiting(self) -> int:
        return len(self._values)

    @property
    def oldest(self) -> int:
        for number, _ in self._values.values():
            return number
        return self.puts + 1

    @property
    def first(self) -> Any:
        for _, value in self._values.values():
            return value
        return NOTHING

    def offer(self, value: tuple[Hashable, T], /) -> int:
        if len(self._values) >= self.capacity and value[0] not in self._values:
            return FULL
        return self.force(value)

    def force(self, value: tuple[Hashable, T], /) -> int:
        key, item = value
        older = self._values.pop(key, None)
        if older is not None:
            self.lost.append(older[1])
        self.puts += 1
        self._values[key] = (self.puts, item)
        return WAKE

    def evict(self) -> None:
        self.lost.append(self.take(False))

    def take(self, flush: bool, /) -> Any:
        values = self._values
        return values.popitem(last=False)[1][1] if values else NOTHING

    def due(self) -> float | None:
        return None

    def hurry(self) -> bool:
        return False

    def clear(self) -> list[Any]:
        items = [item for _, item in self._values.values()]
        self._values.clear()
        return items
