"""The delivery as the `Flow` of its streams: who is held, what that withholds, and who has been held for too long."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from rxtasks.errors import SubscriberStalled
from rxtasks.observe.backlog import Backlog, Call
from rxtasks.observe.calls import CallPair
from rxtasks.observe.holds import Holds
from rxtasks.observe.ledger import Ledger
from rxtasks.reactive.flow import Buffer
from rxtasks.reactive.subject import Report, Target, name_of

__all__ = ["FlowControl"]


class FlowControl:
    """The part of a delivery that strategies talk to; see rxtasks.reactive.flow."""

    def __init__(
        self, *, buffer_events: int, buffer_bytes: int, on_relief: Callable[[], None] | None, report: Report
    ) -> None:
        self.ledger = Ledger()
        self.report = report
        self._relief = on_relief
        self._edit = threading.Lock()
        self._buffers: list[Buffer] = []
        self._backlog = Backlog(
            events=buffer_events, size=buffer_bytes, on_conflated=self.ledger.conflate, on_relief=self._relieved
        )
        self._holds = Holds(self._backlog, buffer_events, self.dropped)

    # -- what the delivery gives --------------------------------------------------------------------------------------

    def call(self, fn: Call) -> None:
        """Call `fn` on the delivery thread in its place in the order."""
        raise NotImplementedError

    def on_delivery_thread(self) -> bool:
        """True on the thread that hands out events now."""
        raise NotImplementedError

    def _call_here(self) -> CallPair | None:
        """Return the call in progress, on the delivery thread; None elsewhere."""
        raise NotImplementedError

    # -- for the core -------------------------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        """True from the moment when a bound of the buffer is reached until less than half of it waits."""
        return self._backlog.full

    @property
    def congested(self) -> bool:
        """True while no attempt should be assigned and no credit given: `full`, or a stream of many tasks is held."""
        holds = self._holds
        return self._backlog.full or (bool(holds._by_buffer) and holds.of_many())

    def withheld(self, task_id: str) -> bool:
        """True while this task should get no credit: `congested`, or its own stream is held by a full buffer."""
        return self._backlog.full or (bool(self._holds) and (self._holds.of_many() or self._holds.of_task(task_id)))

    # -- for strategies -----------------------------------------------------------------------------------------------

    def enlist(self, buffer: Buffer) -> None:
        """Take `buffer` into account in flush() and close(), from now on."""
        with self._edit:
            self._buffers = [*self._buffers, buffer]

    def discharge(self, buffer: Buffer) -> None:
        """Forget `buffer`; a hold of it ends."""
        with self._edit:
            self._buffers = [other for other in self._buffers if other is not buffer]
        held = self._holds.of(buffer)
        if held is not None:
            held.holding = False
            self.call(lambda: self._holds.discard(buffer))
            self._relieved()

    def hold(self, buffer: Buffer) -> bool:
        """Hand nothing more to the subscription that is being called here until release(buffer)."""
        call = self._call_here()
        if call is None or not isinstance(call[0], Target):
            return False
        self._holds.hold(buffer, call[0])
        return True

    def release(self, buffer: Buffer) -> None:
        """Go on with what waited, then with what comes."""
        held = self._holds.release(buffer)
        if held is not None:
            self.call(lambda: self._holds.resume(held))
            self._relieved()

    def dropped(self, event: Any) -> None:
        """Count `event` as dropped by a subscriber's own strategy."""
        self.ledger.drop(event, alone=len(self._buffers) < 2)

    def on_stream_thread(self) -> bool:
        """True on the thread that hands out events now."""
        return self.on_delivery_thread()

    # -- inside -------------------------------------------------------------------------------------------------------

    def _relieved(self) -> None:
        if self._relief is not None and not self.congested:
            self._relief()

    def _drop_stalled(self, now_ns: int, stall_ns: int) -> None:
        """Detach the held subscriptions whose buffer has given nothing away for stall_ns."""
        if not self._holds:
            return
        for held in self._holds.stalled(now_ns, stall_ns):
            name, target = name_of(held.target._observer), held.target
            self.ledger.stalled += 1
            target.dispose()
            self.call(lambda buffer=held.buffer: self._holds.discard(buffer, lost=True))  # type: ignore[misc]
            self.discharge(held.buffer)
            held.buffer.stall()
            self._tell_stalled(name, None, stall_ns)

    def _tell_stalled(self, name: str, seq: int | None, stall_ns: int) -> None:
        what = f"subscriber {name} took nothing for {stall_ns / 1e9:g} s and was detached"
        self.report(what, SubscriberStalled(seq))
