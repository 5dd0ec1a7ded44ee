"""The way out of a worker for what its tasks do: rows put by handlers, numbered when they leave.

::

    handler ── lane.log / output ── credit? ──┐
    handler ── lane.progress (latest wins) ───┼─> rows ── flush: number, drop overwritten progress ──> sink
    executor ── lane.running / end ───────────┘

Rows wait so that many leave together. With a `wake` they wait until somebody calls flush(): wake(soon) is called when the
first one comes, `soon` for all but the news that a task runs. A flush happens by itself at 256 events or about 64 KiB, and at
the end of an attempt if the last one is 2 ms ago; ends of attempts that took a millisecond or more wait 10 ms for each
other where the box is `patient`. Without a `wake` each put is a flush.

Bounds: logs and outputs by their task's credit, statuses and results by the assignments, progress by one row a task,
lines of the worker's own log by WORKER_LINES (then dropped and counted).

One reentrant lock guards it all. Reentrant, because a finalizer or signal handler may print while this thread is
putting or flushing; such a put finds consistent state, and never waits for credit inside a flush.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from rxtasks.clock import Clock, SystemClock
from rxtasks.errors import StoreError
from rxtasks.lifecycle.signals import Cancelled
from rxtasks.wire.message import LOG, OUTPUTS, WHOLE, Assignment, Request
from rxtasks.wire.payload import PAYLOAD_LIMIT
from rxtasks.worker.lane import Lane, Row

if TYPE_CHECKING:
    from rxtasks.worker.redaction import Redactor

__all__ = ["Lane", "Outbox"]

Sink = Callable[[list[Row], list[bytes], int], None]

#: Events after which a flush happens by itself.
FLUSH_ROWS: Final = 256
#: KiB of texts and values after which a flush happens by itself.
FLUSH_KIB: Final = 64
#: Lines of the worker's own log that may wait.
WORKER_LINES: Final = 1000


class Outbox:
    """Takes the rows of all attempts of one worker and hands them on, numbered, to `sink(rows, blobs, conflated)`.

    Args:
        sink: called with the outbox's lock held, one call at a time; must neither block nor raise.
        in_process: values are handed over as objects.
        clock: stamps the rows.
        ask: sends a Request up; without one, requests are answered at once (nothing is stored).
        wake: called with `soon` when rows wait for a flush; without one each put is a flush.
        calm: called after the flush at the end of an attempt.
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
        wake: Callable[[bool], None] | None = None,
        calm: Callable[[], None] = lambda: None,
        ready: Callable[[], bool] | None = None,
        lock: Any = None,
    ) -> None:
        self._sink = sink
        self.in_process = in_process
        #: Bytes that an output may take, pickled; set by the executor.
        self.max_payload = PAYLOAD_LIMIT
        self.durable = False
        self.now = (clock or SystemClock()).wall_us
        #: Ends of attempts of milliseconds may wait for each other: one runs at a time, and a flush follows the last one.
        self.patient = False
        self._ask = ask
        self._wake = wake
        self._calm = calm
        #: wake(True) was called since the last flush.
        self._hurried = False
        #: When that was, or when attempts began to be run again.
        self.flushed_us = self.now()
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
        #: Events in `rows`, and KiB of their texts and values.
        self._count = 0
        self._kib = 0
        self.flushing = False
        self._worker_lines = 0
        self._worker_dropped = 0
        #: Takes revealed secrets out of texts; None = none was.
        self.redactor: Redactor | None = None
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
        if self.redactor is not None:
            message, fields = self.redactor.text(message), self.redactor.data(fields)
        with self.lock:
            if self._worker_lines >= WORKER_LINES:
                self._worker_dropped += 1
                return
            self._worker_lines += 1
            self.add([LOG, 0, 0, self.now(), level, message, stream, fields, len(message)], len(message) >> 10)

    def begin(self) -> None:
        """Let the ends of short attempts wait for each other from now on, after nothing was to be done for a while.

        Else the first of each burst, for which the last flush is long ago, would be told of alone, and cost the parent as
        much as all the others together.
        """
        self.flushed_us = self.now()

    def add(self, row: Row, kib: int, *, calm: bool = False) -> None:
        """Append a row; `calm`: for which it is enough to leave with others. The lock is held."""
        self.rows.append(row)
        self._grew(kib, calm)

    def _grew(self, kib: int, calm: bool) -> None:
        self._count += 1
        self._kib += kib
        wake = self._wake
        if wake is None or self._count >= FLUSH_ROWS or self._kib >= FLUSH_KIB:
            self.flush()
            if self.gone > FLUSH_ROWS:
                self._compact()
        elif not (calm or self._hurried):
            self._hurried = True
            wake(True)

    def grew(self, kib: int) -> None:
        """The last row has got one more event. The lock is held."""
        self._count += 1
        self._kib += kib
        if self._count >= FLUSH_ROWS or self._kib >= FLUSH_KIB:
            self.flush()

    def add_begun(self, row: Row) -> None:
        """Append the row that says that an attempt runs: of all the least urgent. The lock is held."""
        self.rows.append(row)
        self._count += 1
        wake = self._wake
        if wake is None or self._count >= FLUSH_ROWS:
            self.flush()
        elif self._count == 1:
            wake(False)

    def add_whole(
        self, lane: Lane, began: int, now: int, value: list[Any], ran_us: int, kib: int, *, calm: bool = False
    ) -> None:
        """Make the last row, which says that the attempt runs, one of attempts that began and ended. The lock is held.

        Such rows are numbered here: of an attempt of which nothing has left yet, nothing else comes.
        """
        rows = self.rows
        rows.pop()
        last = rows[-1] if rows else None
        if last is not None and last[0] == WHOLE:
            _, tokens, seqs, begun, ended, values, rans = last
            tokens.append(lane.token)
            seqs.append(lane.seq)
            begun.append(began)
            ended.append(now)
            values.append(value[1])
            rans.append(ran_us)
        else:
            rows.append([WHOLE, [lane.token], [lane.seq], [began], [now], [value[1]], [ran_us]])
        self._grew(kib, calm)

    def flush_ended(self) -> None:
        """Flush at the end of an attempt. The lock is held."""
        self.flush()
        if not self.rows:
            self._calm()

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
                self._wake(True)
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
            self.rows, self.blobs, self.conflated, self._count, self._kib = [], [], 0, 0, 0
            self._hurried = False
            self.flushed_us = self.now()
            if self.gone:
                rows = [row for row in rows if row[0] >= 0]
                self.gone = 0
            if self._worker_lines:
                self._count_worker_lines(rows)
            for row in rows:
                lane = row[1]
                if lane and row[0] != WHOLE:
                    row[1] = lane.token
                    row[2] = lane.seq
                    lane.seq += 1 if row[0] != OUTPUTS else len(row[3])
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
        self._count -= self.gone
        self.gone = 0

    @property
    def pending(self) -> int:
        """How many events wait."""
        return self._count

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
                    self._wake(True)
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
        self.rows, self.blobs, self._count = [], [], 0
        self._sink = lambda rows, blobs, conflated: None
        self._ready = None
        self._wake = None
        self._calm = lambda: None
        self._ask = None
