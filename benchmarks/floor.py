"""The floor: what the same work costs with nothing around it.

A bare parent and two forked children over socket pairs; batches of JSON, one array a line. No claims, records, retries,
credit, liveness, history or trackers: what we add above it is what those cost.
"""

from __future__ import annotations

import os
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import attrs
import orjson

__all__ = ["Batch", "Event", "Lines", "children", "event_time", "read_lines"]

_CHUNK = 1 << 18


@attrs.frozen
class Event:
    """An event as an observer of the raw loop gets it; the places of our own events."""

    task_id: str
    seq: int
    attempt: int
    worker_id: str
    time: datetime
    kind: str
    value: Any = None


def event_time(microseconds: int) -> datetime:
    """Return the aware UTC time."""
    return datetime.fromtimestamp(microseconds / 1e6, UTC)


class Lines:
    """Bytes in, JSON values out, one a line."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes | memoryview) -> list[Any]:
        """Return the values that are complete with `data`."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [orjson.loads(line) for line in lines]


class Batch:
    """Rows collected and written to the socket as one line of JSON, 256 at a time."""

    def __init__(self, sock: socket.socket, size: int = 256) -> None:
        self._sock = sock
        self._size = size
        self._rows: list[list[Any]] = []
        self._seq = 0

    def put(self, *values: Any) -> None:
        """Add the row [seq, time in us, *values]."""
        self._seq += 1
        self._rows.append([self._seq, time.time_ns() // 1000, *values])
        if len(self._rows) >= self._size:
            self.flush()

    def flush(self) -> None:
        """Send what is collected."""
        if self._rows:
            self._sock.sendall(orjson.dumps(self._rows) + b"\n")
            self._rows = []


@contextmanager
def children(count: int, work: Callable[[socket.socket], None]) -> Iterator[list[socket.socket]]:
    """Fork `count` children that each run `work` on their end of a socket pair; give the parent's ends."""
    ours: list[socket.socket] = []
    pids = []
    try:
        for _ in range(count):
            here, there = socket.socketpair()
            pid = os.fork()
            if pid == 0:
                _be_child(work, there, [*ours, here])
            there.close()
            ours.append(here)
            pids.append(pid)
        yield ours
    finally:
        for sock in ours:
            sock.close()
        for pid in pids:
            os.waitpid(pid, 0)


def _be_child(work: Callable[[socket.socket], None], sock: socket.socket, others: list[socket.socket]) -> None:
    try:
        for other in others:
            other.close()
        work(sock)
    except (BrokenPipeError, ConnectionResetError):
        os._exit(0)
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def read_lines(socks: list[socket.socket]) -> Iterator[tuple[socket.socket, list[Any]]]:
    """Give every line that arrives, until all ends are closed by their children."""
    buffer = memoryview(bytearray(_CHUNK))
    with selectors.DefaultSelector() as selector:
        for sock in socks:
            selector.register(sock, selectors.EVENT_READ, (sock, Lines()))
        while selector.get_map():
            for key, _ in selector.select():
                sock, lines = key.data
                size = sock.recv_into(buffer)
                if not size:
                    selector.unregister(sock)
                    continue
                for line in lines.feed(buffer[:size]):
                    yield sock, line
