"""One attempt's way out: its rows, its numbers, its credit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeGuard

import orjson

from rxtasks.wire.credit import UNIT, event_cost
from rxtasks.wire.message import END, LOG, OUTPUT, OUTPUTS, PROGRESS, RUNNING, Assignment
from rxtasks.wire.payload import exact_bytes
from rxtasks.worker.values import encode_value

if TYPE_CHECKING:
    from rxtasks.worker.outbox import Outbox

__all__ = ["GONE", "Lane", "Row"]

Row = list[Any]

#: The kind of a progress row that was overwritten before it left.
GONE: Final = -1

#: Microseconds since the last flush after which the end of an attempt is one.
PACE_US: Final = 2000
#: The same for attempts of LONG_US and more: each report wakes three threads of the parent, and costs a worker beside it,
#: with what they leave of its caches, a third of a millisecond. Less than LONG_DELAY, so that ends are reported from here.
LONG_PACE_US: Final = 10_000
LONG_US: Final = 1000
#: Types of values that take no room to speak of.
_SMALL: Final = frozenset({type(None), bool, int, float})


class Lane:
    """One attempt's way out: numbers its rows and keeps its credit."""

    __slots__ = (
        "_box",
        "cancelled",
        "closed",
        "first",
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
        self.seq = self.first = assignment.first_seq
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
            box.add_begun([RUNNING, self, 0, box.now()])

    def log(self, level: str, message: str, stream: str, fields: dict[str, Any] | None = None) -> bool:
        """Put a log line, waiting for credit; return False if the lane is closed. All is clean and within limits."""
        box = self._box
        if box.redactor is not None:
            message, fields = box.redactor.text(message), box.redactor.data(fields)
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
        if box.redactor is not None:
            message, data = box.redactor.data(message), box.redactor.data(data)
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
                old[0] = GONE
                box.gone += 1
            row: Row = [PROGRESS, self, 0, now, current, total, message, data]
            self.unsent = row
            box.add(row, 0)

    def revealed(self, value: str) -> None:
        """Take this value out of all that is said from now on."""
        box = self._box
        with box.lock:
            if box.redactor is None:
                from rxtasks.worker.redaction import Redactor

                box.redactor = Redactor()
            box.redactor.add(value)

    def output(self, value: Any) -> None:
        """Put an output, waiting for credit.

        Raises:
            PayloadError: the value cannot travel.
            Cancelled: the task was cancelled while this waited.
        """
        box = self._box
        row: Row | None = None
        blob: bytes | None = None
        json: Any = None
        now = box.now()
        # What is most common first: encode_value would find the same.
        common = not box.in_process and (type(value) is dict or type(value) is list)
        exact = exact_bytes(value) if common else None
        if exact is not None:
            size = len(exact)
            json = orjson.Fragment(exact)
        else:
            form, blob, size = encode_value(
                value, "output", in_process=box.in_process, limit=box.max_payload, durable=box.durable
            )
            if form[0] == "j":
                json = form[1]
            else:
                row = [OUTPUT, self, 0, now, form, size]
        cost = 1 if size <= UNIT else event_cost(size, self.window)
        with box.lock:
            if self.spent + cost > self.granted - self.reserve and not box.wait(self, cost, breakable=True):
                raise RuntimeError("a value was emitted in a finalizer or signal handler while no credit was left")
            if self.closed:
                return
            self.spent += cost
            if row is None:
                last = box.rows[-1] if box.rows else None
                if last is not None and last[1] is self and last[0] == OUTPUTS:
                    last[3].append(now)
                    last[4].append(json)
                    last[5].append(size)
                    box.grew(size >> 10)
                    return
                row = [OUTPUTS, self, 0, [now], [json], [size]]
            elif blob is not None:
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
        if box.redactor is not None and error is not None:
            error, error_blob = box.redactor.error(error, error_blob)
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
            known = self.seq > self.first
            now = box.now()
            calm = ran_us >= LONG_US and box.patient
            begun = box.rows[-1] if box.rows else None
            if (
                begun is not None
                and begun[0] == RUNNING
                and begun[1] is self
                and status == "succeeded"
                and _is_json(value)
            ):
                box.add_whole(self, begun[3], now, value, ran_us, weight, calm=calm)
            else:
                box.add([END, self, 0, now, status, value, error, delay, ran_us], weight, calm=calm)
            if known or now - box.flushed_us >= (LONG_PACE_US if calm else PACE_US):
                # Known to run above, it gets what is written to descriptors 1 and 2: its end goes first.
                box.flush_ended()


def _is_json(value: list[Any] | None) -> TypeGuard[list[Any]]:
    """Say whether a result in row form stands in its row."""
    return value is not None and value[0] == "j"
