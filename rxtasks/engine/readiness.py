"""Which descriptors are ready: epoll itself where there is one, else the selectors module.

`selectors` wraps every answer in objects of its own, 3 us for each ready descriptor; a turn of the core handles one or two.
"""

from __future__ import annotations

import contextlib
import select
import selectors
from typing import Protocol

from rxtasks.isolation.base import Reader

__all__ = ["Readiness", "make_readiness"]


class Readiness(Protocol):
    """Descriptors, the events that matter for each, and who is called for it."""

    def watch(self, fd: int, events: int, reader: Reader, *, edge: bool = False) -> None:
        """Call for `reader` when `fd` is ready for any of `events` (bits of selectors.EVENT_READ, EVENT_WRITE).

        `edge`: only when it becomes ready anew (where the system can; else as long as it is).
        """

    def unwatch(self, fd: int) -> None:
        """Forget `fd`; no error if it is not watched."""

    def wait(self, timeout: float) -> list[tuple[Reader, int]]:
        """Wait at most `timeout` seconds; return who is to be called with which events."""

    def close(self) -> None:
        """Forget everything."""


class _Epoll:
    """Readiness by epoll (Linux)."""

    def __init__(self) -> None:
        self._epoll = select.epoll(sizehint=-1)
        self._readers: dict[int, Reader] = {}

    def watch(self, fd: int, events: int, reader: Reader, *, edge: bool = False) -> None:
        mask = (select.EPOLLIN if events & selectors.EVENT_READ else 0) | (
            select.EPOLLOUT if events & selectors.EVENT_WRITE else 0
        )
        if edge:
            mask |= select.EPOLLET
        if fd in self._readers:
            self._epoll.modify(fd, mask)
        else:
            self._epoll.register(fd, mask)
        self._readers[fd] = reader

    def unwatch(self, fd: int) -> None:
        if self._readers.pop(fd, None) is not None:
            with contextlib.suppress(OSError, ValueError):
                self._epoll.unregister(fd)

    def wait(self, timeout: float) -> list[tuple[Reader, int]]:
        ready: list[tuple[Reader, int]] = []
        for fd, mask in self._epoll.poll(timeout):
            reader = self._readers.get(fd)
            if reader is not None:
                # Errors and hang-ups are met by reading or writing.
                events = (selectors.EVENT_READ if mask & ~select.EPOLLOUT else 0) | (
                    selectors.EVENT_WRITE if mask & ~select.EPOLLIN else 0
                )
                ready.append((reader, events))
        return ready

    def close(self) -> None:
        self._readers.clear()
        self._epoll.close()


class _Selector:
    """Readiness by the selectors module (other systems)."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def watch(self, fd: int, events: int, reader: Reader, *, edge: bool = False) -> None:
        try:
            self._selector.modify(fd, events, reader)
        except KeyError:
            self._selector.register(fd, events, reader)

    def unwatch(self, fd: int) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(fd)

    def wait(self, timeout: float) -> list[tuple[Reader, int]]:
        return [(key.data, events) for key, events in self._selector.select(timeout)]

    def close(self) -> None:
        self._selector.close()


def make_readiness() -> Readiness:
    """Return the best there is on this system."""
    return _Epoll() if hasattr(select, "epoll") else _Selector()
