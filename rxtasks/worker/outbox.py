"""The way out of a worker for what its tasks do: rows put by handlers, numbered when they leave.

::

    handler ── lane.log / output ── credit? ──┐
    handler ── lane.progress (latest wins) ───┼─> rows ── flush: number, drop overwritten progress ──> sink
    executor ── lane.running / end ───────────┘

Rows wait so that many leave together. With a `wake` they wait until somebody calls flush(): wake() is called when the
first one comes, and a flush happens by itself at 256 rows or about 64 KiB. Without one each put is a flush.

Bounds: logs and outputs by their task's credit, statuses and results by the assignments, progress by one row a task,
lines of the worker's own log by WORKER_LINES (then dropped and counted).

One reentrant lock guards it all. Reentrant, because a finalizer or signal handler may print while this thread is
putting or flushing; such a put finds consistent state, and never waits for credit inside a flush.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

import orjson

from rxtasks.clock import Clock, SystemClock
from rxtasks.errors import StoreError
from rxtasks.lifecycle.signals import Cancelled
from rxtasks.wire.credit import UNIT, event_cost
from rxtasks.wire.message import END, LOG, OUTPUT, PROGRESS, RUNNING, Assignment, Request
from rxtasks.worker.values import encode_value

__all__ = ["Lane", "Outbox"]

Row = list[Any]
Sink = Callable[[list[Row], list[bytes], int], None]

#: Rows after which a flush happens by itself.
FLUSH_ROWS: Final = 256
#: KiB of texts and values after which a flush happens by itself.
FLUSH_KIB: Final = 64
#: Lines of the worker's own log that may wait.
WORKER_LINES: Final = 1000

_GONE: Final = -1


class Lane:
    """One attempt's way out: numbers its rows and keeps its credit."""

    __slots__ = (
        "_box",
        "cancelled",
        "closed",
        "granted",
        "reason",
        "reserve",
        "seq",
        "spent",
        "token",
        "unsent",
        "window",
    )

    def __init__(self, box: Outbox, assignment: Assignment) -> None:
        self._box = box
        self.token = assignment.token
        #: The number of the next row that leaves.
        self.seq = assignment.first_seq
        #: Units that may be spent in all (cumulative), that have been, and that are kept for the executor.
        self.window = self.granted = assignment.credit
        self.spent = 0
        self.reserve = 0
        #: The progress row that has not left yet.
        self.unsent: Row | None = None
        #: The attempt has ended: nothing is taken any more.
        self.closed = False
        self.cancelled = False
        self.reason: str | None = None

    def running(self) -> None:
        """Say that the attempt runs."""
        box = self._box
        with box.lock:
            box.add([RUNNING, self, 0, box.now()], 0)

    def log(self, level: str, message: str, stream: str, fields: dict[str, Any] | None = None) -> bool:
        """Put a log line, waiting for credit; return False if the lane is closed. All is clean and within limits."""
        box = self._box
        size = len(message)
        if fields is not None:
            size += len(orjson.dumps(fields))
        row: Row = [LOG, self, 0, box.now(), level, message, stream, fields, size]
        cost = 1 if size <= UNIT else event_cost(size, self.window)
        with box.lock:
            if self.spent + cost > self.granted - self.reserve and not box.wait(self, cost, breakable=False):
                return False
            if self.closed:
                return False
            self.spent += cost
            box.add(row, size >> 10)
        return True

    def progress(self, current: float, total: float | None, message: str | None, data: dict[str, Any] | None) -> None:
        """Put progress; it replaces what has not left yet."""
        box = self._box
        now = box.now()
        with box.lock:
            if self.closed:
                return
            old = self.unsent
            if old is not None and not box.flushing:
                box.conflated += 1
                if box.rows[-1] is old:
                    old[3:] = (now, current, total, message, data)
                    return
                old[0] = _GONE
                box.gone += 1
            row: Row = [PROGRESS, self, 0, now, current, total, message, data]
            self.unsent = row
            box.add(row, 0)

    def output(self, value: Any) -> None:
        """Put an output, waiting for credit.

        Raises:
            PayloadError: the value cannot travel.
            Cancelled: the task was cancelled while this waited.
        """
        box = self._box
        form, blob, size = encode_value(value, "output", in_process=box.in_process)
        cost = 1 if size <= UNIT else event_cost(size, self.window)
        row: Row = [OUTPUT, self, 0, box.now(), form, size]
        with box.lock:
            if self.spent + cost > self.granted - self.reserve and not box.wait(self, cost, breakable=True):
                raise RuntimeError("a value was emitted in a finalizer or signal handler while no credit was left")
            if self.closed:
                return
            self.spent += cost
            if blob is not None:
                box.blobs.append(blob)
            box.add(row, size >> 10)

    def flush(self) -> None:
        """Hand on what waits, of all lanes."""
        self._box.flush()

    def end(
        self,
        status: str,
        value: list[Any] | None = None,
        value_blob: bytes | None = None,
        error: dict[str, Any] | None = None,
        error_blob: bytes | None = None,
        delay: float | None = None,
        ran_us: int = 0,
    ) -> None:
        """Say how the attempt ended; the lane is closed by it."""
        box = self._box
        with box.lock:
            if self.closed:
                return
            self.closed = True
            box.lanes.pop(self.token, None)
            weight = 0 if error is None else 8
            if value_blob is not None:
                box.blobs.append(value_blob)
                weight += len(value_blob) >> 10
            elif value is not None and value[0] == "j" and type(value[1]) not in _SMALL:
                weight += 1
            if error_blob is not None:
                box.blobs.append(error_blob)
                weight += len(error_blob) >> 10
            box.add([END, self, 0, box.now(), status, value, error, delay, ran_us], weight)


_SMALL = frozenset({type(None), bool, int, float})


class Outbox:
    """Takes the rows of all attempts of one worker and hands them on, numbered, to `sink(rows, blobs, conflated)`.

    Args:
        sink: called with the outbox's lock held, one call at a time; must neither block nor raise.
        in_process: values are handed over as objects.
        clock: stamps the rows.
        ask: sends a Request up; without one, requests are answered at once (nothing is stored).
        wake: called when rows wait for a flush; without one each put is a flush.
        lock: the reentrant lock to use, where the sink has one: two would deadlock when a finalizer prints.
        ready: says whether the sink takes rows now; while not, rows wait here and progress is overwritten.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        in_process: bool,
        clock: Clock | None = None,
        ask: Callable[[Request], None] | None = None,
        wake: Callable[[], None] | None = None,
        ready: Callable[[], bool] | None = None,
        lock: Any = None,
    ) -> None:
        self._sink = sink
        self.in_process = in_process
        self.now = (clock or SystemClock()).wall_us
        self._ask = ask
        self._wake = wake
        self._ready = ready
        self.lock = threading.RLock() if lock is None else lock
        self._changed = threading.Condition(self.lock)
        self._waiting = 0
        self.rows: list[Row] = []
        self.blobs: list[bytes] = []
        self.lanes: dict[int, Lane] = {}
        #: Progress rows overwritten since the last flush, and of them those that still lie in `rows`.
        self.conflated = 0
        self.gone = 0
        self._kib = 0
        self.flushing = False
        self._worker_lines = 0
        self._worker_dropped = 0
        self._requests: dict[int, list[Any]] = {}
        self._last_request = 0

    # -- from the executor --

    def open(self, assignment: Assignment) -> Lane:
        """Return the lane of a new attempt."""
        lane = Lane(self, assignment)
        self.lanes[assignment.token] = lane
        return lane

    def close(self, token: int) -> None:
        """Abandon an attempt: what it still does goes nowhere, and nothing of it waits any more."""
        with self.lock:
            lane = self.lanes.pop(token, None)
            if lane is not None:
                lane.closed = True
            self._changed.notify_all()

    def worker_log(self, level: str, message: str, stream: str, fields: dict[str, Any] | None = None) -> None:
        """Put a line of the worker's own log; never waits."""
        with self.lock:
            if self._worker_lines >= WORKER_LINES:
                self._worker_dropped += 1
                return
            self._worker_lines += 1
            self.add([LOG, 0, 0, self.now(), level, message, stream, fields, len(message)], len(message) >> 10)

    def add(self, row: Row, kib: int) -> None:
        """Append a row. The lock is held."""
        rows = self.rows
        rows.append(row)
        self._kib += kib
        count = len(rows)
        wake = self._wake
        if wake is None:
            self.flush()
        elif count >= FLUSH_ROWS or self._kib >= FLUSH_KIB:
            self.flush()
            if self.gone > FLUSH_ROWS:
                self._compact()
        elif count == 1:
            wake()

    def wait(self, lane: Lane, cost: int, *, breakable: bool) -> bool:
        """Wait until `lane` has `cost` units; return False where it must not wait. The lock is held.

        Raises:
            Cancelled: the task is cancelled while this waits, if `breakable`.
        """
        if self.flushing:  # a finalizer or signal handler inside a flush of this very thread
            return False
        while lane.spent + cost > lane.granted - lane.reserve and not lane.closed:
            if breakable and lane.cancelled:
                raise Cancelled(lane.reason)
            self.flush()
            if self._wake is not None:
                self._wake()
            self._waiting += 1
            try:
                self._changed.wait()
            finally:
                self._waiting -= 1
        return True

    # -- outwards --

    def flush(self) -> None:
        """Number what waits and hand it to the sink."""
        with self.lock:
            while self.rows and not self.flushing and (self._ready is None or self._ready()):
                self._flush()

    def _flush(self) -> None:
        self.flushing = True
        try:
            rows, blobs, conflated = self.rows, self.blobs, self.conflated
            self.rows, self.blobs, self.conflated, self._kib = [], [], 0, 0
            if self.gone:
                rows = [row for row in rows if row[0] >= 0]
                self.gone = 0
            if self._worker_lines:
                self._count_worker_lines(rows)
            for row in rows:
                lane = row[1]
                if lane:
                    row[1] = lane.token
                    row[2] = lane.seq
                    lane.seq += 1
                    if lane.unsent is row:
                        lane.unsent = None
            self._sink(rows, blobs, conflated)
        finally:
            self.flushing = False

    def _count_worker_lines(self, rows: list[Row]) -> None:
        self._worker_lines = 0
        if self._worker_dropped:
            text = f"{self._worker_dropped} lines of this worker's log were dropped: they came faster than they left"
            rows.append([LOG, 0, 0, self.now(), "WARNING", text, "log", None, len(text)])
            self._worker_dropped = 0

    def _compact(self) -> None:
        self.rows = [row for row in self.rows if row[0] >= 0]
        self.gone = 0

    @property
    def pending(self) -> int:
        """How many rows wait."""
        return len(self.rows)

    # -- from the engine; any thread; no-ops for unknown tokens --

    def grant(self, token: int, credit: int) -> None:
        """Open a task's credit up to `credit` units in all; a repeat changes nothing."""
        lane = self.lanes.get(token)
        if lane is None:
            return
        with self.lock:
            if credit > lane.granted:
                lane.granted = credit
                if self._waiting:
                    self._changed.notify_all()

    def cancel(self, token: int, reason: str | None) -> None:
        """End the waits of a task that is cancelled."""
        with self.lock:
            lane = self.lanes.get(token)
            if lane is not None:
                lane.cancelled, lane.reason = True, reason
            self._changed.notify_all()

    def reply(self, request_id: int, ok: bool, error: str | None) -> None:
        """Answer a request."""
        with self.lock:
            request = self._requests.get(request_id)
            if request is not None:
                request[:] = [True, ok, error]
                self._changed.notify_all()

    # -- requests --

    def request(self, lane: Lane, op: str, blob: bytes) -> None:
        """Ask the engine for something durable and wait for its reply.

        Raises:
            StoreError: it could not be done.
            Cancelled: the task was cancelled while this waited.
        """
        if self._ask is None:
            return
        with self.lock:
            self._last_request += 1
            number = self._last_request
            state: list[Any] = [False, False, None]
            self._requests[number] = state
            try:
                self.flush()
                self.flushing, before = True, self.flushing
                try:
                    self._ask(Request(number, lane.token, op, blob))
                finally:
                    self.flushing = before
                if self._wake is not None:
                    self._wake()
                while not state[0]:
                    if lane.cancelled:
                        raise Cancelled(lane.reason)
                    if lane.closed:
                        return
                    self._waiting += 1
                    try:
                        self._changed.wait()
                    finally:
                        self._waiting -= 1
            finally:
                del self._requests[number]
        if not state[1]:
            raise StoreError(state[2] or f"{op} was refused")

    # -- after a fork --

    def silence(self) -> None:
        """In a forked child: take nothing any more, whoever held the lock at the fork."""
        self.lock = threading.RLock()
        self._changed = threading.Condition(self.lock)
        for lane in self.lanes.values():
            lane.closed = True
        self.lanes = {}
        self.rows, self.blobs = [], []
        self._sink = lambda rows, blobs, conflated: None
        self._ready = None
        self._wake = None
        self._ask = None
