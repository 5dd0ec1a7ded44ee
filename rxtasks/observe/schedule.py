"""`ScheduleTracker`: the tracker of what repeats. It follows its schedule from one occurrence to the next.

::

    occurrence 1 ──ended──> occurrence 2 ──ended──> occurrence 3 (runs, or is due next)
                            result(), future        task_id, status, last_progress, log_tail
    streams: events of each, in order, without an end between them ────────────────────────────> completed with the schedule

Each occurrence is a task of its own with a tracker of its own, in which one terminal status is followed by completion (R9);
a ScheduleTracker leads from one to the next, for itself and for each of its subscriptions. The events are the occurrences':
each with its own task's id, and numbered from 1 again.

What comes next is asked of the store when an occurrence has ended: by then it is there, put in with that end, whoever ran it.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from reactivex import Observable, abc

from rxtasks.errors import RxTasksError
from rxtasks.lifecycle.errorinfo import TaskErrorInfo
from rxtasks.lifecycle.events import LogEvent, ProgressEvent, StatusEvent
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.observe.calls import CallPair
from rxtasks.observe.streams import OutcomeTarget, TaskTarget
from rxtasks.observe.tracker import TaskTracker
from rxtasks.reactive.notiterable import NotIterable
from rxtasks.wire.outcome import Outcome

if TYPE_CHECKING:
    from rxtasks.observe.future import TaskFuture

__all__ = ["NextOf", "ScheduleTracker"]

#: Gives the tracker of the occurrence behind a schedule's one with this id; None: nothing follows that.
NextOf = Callable[[str, str], "TaskTracker | None"]


class _Occurrence:
    """One of them, and the next one once that is known."""

    __slots__ = ("after_seq", "following", "last", "tracker")

    def __init__(self, tracker: TaskTracker, after_seq: int = 0) -> None:
        self.tracker = tracker
        #: Its subscribers get the events behind this seq.
        self.after_seq = after_seq
        self.following: _Occurrence | None = None
        #: Nothing follows it.
        self.last = False


class ScheduleTracker(TaskTracker):
    """A schedule, as its caller sees it: where it stands, what its occurrences do, and how the last one ended.

    `task_id`, `status`, `last_progress` and `log_tail` are those of the occurrence that runs or is due next; `result()`,
    `await` and `future` those of the one that ended last, and until one has, of the first. Streams give the events of all
    occurrences from that one on and complete with the schedule. `cancel()` ends the schedule, `done` says that it has ended.
    """

    def __init__(
        self,
        schedule_id: str,
        first: TaskTracker,
        next_of: NextOf,
        cancel: Callable[[str, str | None], bool],
        *,
        from_seq: int = 1,
        at_once: bool = False,
    ) -> None:
        """Stand at `first`, whose events are given from `from_seq` on; `at_once`: what is next can be asked without waiting."""
        # Not super().__init__: its id is that of where it stands.
        self.name = first.name
        self._control = first._control
        #: The id by which track, get, update, history and cancel of a service find the present occurrence.
        self.schedule_id: str = schedule_id
        self._next_of = next_of
        self._cancel = cancel
        self._at_once = at_once
        self._moving = threading.RLock()
        self._at = _Occurrence(first, from_seq - 1)
        self._ended: _Occurrence | None = None
        self._watch(first)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.schedule_id} {self.name or '-'} {self.status.value}>"

    # -- where it stands -----------------------------------------------------------------------------------------------

    def _watch(self, tracker: TaskTracker) -> None:
        """Go on when it has ended, as long as somebody has this one. The core thread says so, and waits for no disk."""
        reference = weakref.ref(self)

        def ended() -> None:
            schedule = reference()
            if schedule is None:
                return
            if schedule._at_once:
                schedule._go_on()
            else:
                schedule._on_stream(schedule._go_on)

        if not tracker._when_done(ended):
            ended()

    def _go_on(self) -> Iterator[CallPair]:
        _ = self._now
        return iter(())

    def _after(self, occurrence: _Occurrence) -> _Occurrence | None:
        """Return the occurrence behind one that has ended; None: nothing follows.

        Raises:
            StoreError: that cannot be read.
        """
        with self._moving:
            if occurrence.tracker.done and occurrence.following is None and not occurrence.last:
                found = self._next_of(self.schedule_id, occurrence.tracker.task_id)
                if found is None:
                    occurrence.last = True
                else:
                    occurrence.following = _Occurrence(found)
                    self._watch(found)
            return occurrence.following

    @property
    def _now(self) -> _Occurrence:
        """The occurrence that runs or is due next; of a schedule that has ended the last one."""
        at = self._at
        if not at.tracker.done:
            return at
        with self._moving:
            try:
                while self._at.tracker.done and (following := self._after(self._at)) is not None:
                    self._ended, self._at = self._at, following
            except (RxTasksError, TimeoutError):  # asked again with the next look
                pass
            return self._at

    @property
    def _anchor(self) -> _Occurrence:
        """The occurrence that ended last; until one has, the first."""
        at = self._now
        return at if at.tracker.done or self._ended is None else self._ended

    # -- the tracker ---------------------------------------------------------------------------------------------------

    @property
    def task_id(self) -> str:  # type: ignore[override]
        """The id of the occurrence that runs or is due next; of a schedule that has ended the last one's."""
        return self._now.tracker.task_id

    @property
    def status(self) -> TaskStatus:
        """Where that occurrence stands."""
        return self._now.tracker.status

    @property
    def done(self) -> bool:
        """True when the schedule has ended: nothing follows any more."""
        at = self._now
        return at.last and at.tracker.done

    @property
    def error(self) -> TaskErrorInfo | None:
        """The error of the occurrence where it stands, else that with which the last one ended; None where there is none."""
        at = self._now
        return at.tracker.error or self._anchor.tracker.error

    @property
    def last_status(self) -> StatusEvent | None:
        """The latest status event of where it stands, else of the occurrence before, or None."""
        return self._now.tracker.last_status or self._anchor.tracker.last_status

    @property
    def last_progress(self) -> ProgressEvent | None:
        """The latest progress of where it stands, or None."""
        return self._now.tracker.last_progress

    @property
    def log_tail(self) -> list[LogEvent]:
        """The last log events of where it stands, oldest first."""
        return self._now.tracker.log_tail

    @property
    def statuses_so_far(self) -> list[StatusEvent]:
        """All status events of where it stands."""
        return self._now.tracker.statuses_so_far

    @property
    def last_seq(self) -> int:
        """Seq of the last event of where it stands, 0 = none was."""
        return self._now.tracker.last_seq

    def result(self, timeout: float | None = None) -> Any:
        """Return the result of the occurrence that ended last; until one has, wait for the first for at most `timeout` seconds.

        Raises:
            TimeoutError: none has ended within `timeout`.
            Exception: as a task's result().
        """
        return self._anchor.tracker.result(timeout)

    async def _result_async(self) -> Any:
        return await self._anchor.tracker

    @property
    def future(self) -> TaskFuture:
        """The occurrence that result() speaks of as a future: fixed once it is asked for."""
        return self._anchor.tracker.future

    def cancel(self, reason: str | None = None) -> bool:
        """End the schedule: cancel the occurrence that runs or is due next, and let nothing follow. False: it has ended."""
        return not self.done and self._cancel(self.schedule_id, reason)

    def resumed(self, from_seq: int) -> TaskTracker:
        """Return the schedule from where it stands on, that occurrence's events from `from_seq` on.

        Raises:
            LogTruncated: some of them are no longer held.
        """
        at = self._now.tracker
        at.resumed(from_seq)
        return ScheduleTracker(
            self.schedule_id, at, self._next_of, self._cancel, from_seq=from_seq, at_once=self._at_once
        )

    @property
    def outcome(self) -> Observable[Any]:
        """The results of the occurrences, the last one first if there is one already; or on_error when one fails.

        A failure ends the stream, not the schedule: whoever subscribes again gets the results from there on.
        """
        return _Outcomes(self)

    # -- waiting -------------------------------------------------------------------------------------------------------

    @property
    def _outcome(self) -> Outcome | None:
        return self._anchor.tracker._outcome

    def _when_done(self, wake: Callable[[], None]) -> bool:
        return self._anchor.tracker._when_done(wake)

    def _forget_waiter(self, wake: Callable[[], None]) -> bool:
        at, ended = self._at, self._ended
        return at.tracker._forget_waiter(wake) or (ended is not None and ended.tracker._forget_waiter(wake))

    def _wait(self, timeout: float | None, what: str) -> None:
        self._anchor.tracker._wait(timeout, what)

    # -- subscribing ---------------------------------------------------------------------------------------------------

    def _target(self, observer: abc.ObserverBase[Any], kind: str) -> TaskTarget:
        at = self._anchor
        return _Leg(_Relay(self, at), at.tracker, observer, kind, at.after_seq)

    def _join(self, target: TaskTarget) -> abc.DisposableBase:
        assert isinstance(target, _Leg | _OutcomeLeg)
        return target.relay.begin(target)


class _Relay(abc.DisposableBase):
    """A subscription to a schedule: leads its observer from the stream of one occurrence to that of the next."""

    def __init__(self, schedule: ScheduleTracker, at: _Occurrence) -> None:
        self._schedule = schedule
        self._at = at
        self._leg: _Leg | _OutcomeLeg | None = None
        self._disposed = False
        self._turning = threading.Lock()

    def begin(self, leg: _Leg | _OutcomeLeg) -> abc.DisposableBase:
        """Subscribe to the first one."""
        self._enter(leg)
        return self

    def _enter(self, leg: _Leg | _OutcomeLeg) -> None:
        with self._turning:
            self._leg = leg
            disposed = self._disposed
        if disposed:
            leg.dispose()
        else:
            leg.tracker._join(leg)

    def go_on(self, leg: _Leg | _OutcomeLeg) -> None:
        """An occurrence's stream is at its end: go on with the next, or end with the schedule."""
        if leg is not self._leg:
            return
        try:
            following = self._schedule._after(self._at)
        except Exception as error:  # the store, or the engine, is not there any more
            leg.fail(error)
            return
        if following is None:
            leg.finish()
            return
        self._at = following
        context = leg._context
        observer = leg._end()
        if observer is not None:
            make: Callable[[], _Leg | _OutcomeLeg] = partial(leg.again, following.tracker, observer)
            self._enter(make() if context is None else context.copy().run(make))

    def dispose(self) -> None:
        """End the subscription without a word to its observer."""
        with self._turning:
            self._disposed = True
            leg = self._leg
        if leg is not None:
            leg.dispose()


class _Leg(TaskTarget):
    """A subscription while it is with one occurrence."""

    __slots__ = ("relay", "tracker")

    def __init__(
        self, relay: _Relay, tracker: TaskTracker, observer: abc.ObserverBase[Any], kind: str, after_seq: int = 0
    ) -> None:
        super().__init__(tracker, observer, kind, after_seq)
        self.relay = relay
        self.tracker = tracker

    def again(self, tracker: TaskTracker, observer: abc.ObserverBase[Any]) -> _Leg:
        """Return the same with the next occurrence."""
        return _Leg(self.relay, tracker, observer, self.kind)

    def complete(self) -> None:
        """Go on."""
        self.relay.go_on(self)

    def finish(self) -> None:
        """The schedule has ended."""
        super().complete()


class _OutcomeLeg(OutcomeTarget):
    """A subscription to the results, while it is with one occurrence."""

    __slots__ = ("relay", "tracker")

    def __init__(self, relay: _Relay, tracker: TaskTracker, observer: abc.ObserverBase[Any]) -> None:
        super().__init__(tracker, observer)
        self.relay = relay
        self.tracker = tracker

    def again(self, tracker: TaskTracker, observer: abc.ObserverBase[Any]) -> _OutcomeLeg:
        """Return the same with the next occurrence."""
        return _OutcomeLeg(self.relay, tracker, observer)

    def complete(self) -> None:
        """Go on."""
        self.relay.go_on(self)

    def finish(self) -> None:
        """The schedule has ended."""
        super().complete()


class _Outcomes(NotIterable, Observable[Any]):
    """See ScheduleTracker.outcome."""

    def __init__(self, schedule: ScheduleTracker) -> None:
        super().__init__()
        self._schedule = schedule
        self._flow = schedule._flow

    def _subscribe_core(
        self, observer: abc.ObserverBase[Any], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        schedule = self._schedule
        at = schedule._anchor
        if at.tracker.status is not TaskStatus.SUCCEEDED:
            at = schedule._now  # a failure has been told to who was there: the next one counts
        return schedule._join(_OutcomeLeg(_Relay(schedule, at), at.tracker, observer))
