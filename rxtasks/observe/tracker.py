"""`TaskTracker`: one task, as its caller sees it.

The core folds each event into the tracker (`observe`) and sets the outcome (`settle`) before it publishes the event;
status, log_tail and result() never wait for the delivery. Subscribers are served by the delivery thread:

::

    subscribe ── delivery.call ──> [ join: be routed, then take what is held, then live events ]

A subscriber first gets what is held and has been handed out to others already, then, as they come, the events that
wait or are folded but not published yet (which the delivery's count of batches tells); each subscription takes a seq
once (TaskTarget). So there is neither gap nor duplicate whatever the core adds meanwhile, and nobody sees an event
before those that were published before it.

A tracker is made for every task: it has four attributes of its own, everything else is made on use.

Without a control it works alone: subscribe it to any stream of events, and it picks out those of its task.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from reactivex import Observable, abc
from reactivex.internal import DisposedException

from rxtasks.displayed import Displayed
from rxtasks.errors import LogTruncated, ServiceStopped
from rxtasks.lifecycle.errorinfo import TaskErrorInfo
from rxtasks.lifecycle.events import LogEvent, OutputEvent, ProgressEvent, StatusEvent, TaskEvent
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.observe.calls import CallPair, Ending, endings, run_calls
from rxtasks.observe.forward import forward_to
from rxtasks.observe.history import Packed, Tail, unpack_status
from rxtasks.observe.settling import Settling
from rxtasks.observe.streams import KindStream, OutcomeStream, TaskTarget
from rxtasks.reactive.subject import RxSubject, log_problem
from rxtasks.wire.outcome import Ended, Outcome

if TYPE_CHECKING:
    from rxtasks.observe.delivery import Delivery
    from rxtasks.observe.future import TaskFuture

__all__ = ["TaskTracker", "TrackerControl"]

_SUCCEEDED = TaskStatus.SUCCEEDED


class TrackerControl(Protocol):
    """What a tracker asks of its service."""

    @property
    def delivery(self) -> Delivery | None:
        """The delivery of the service's events."""

    def cancel(self, task_id: str, reason: str | None) -> bool:
        """Ask for the task to be cancelled; False when it has ended."""

    def report(self, what: str, error: BaseException | None) -> None:
        """Take note of a subscriber that raised."""


class TaskTracker(Settling, Displayed, RxSubject[TaskEvent]):
    """One task: where it stands, what it did, how it ended. An observable of its events, from the first one on.

    The event stream never errors because the task failed: it emits the failed StatusEvent and completes. `outcome`
    and `result()` are where failure raises.
    """

    #: Of what repeats: the schedule that it follows (rxtasks.observe.schedule).
    schedule_id: str | None = None
    _status: TaskStatus = TaskStatus.PENDING
    #: The first status event, the last one if there are two, and those between.
    _first: Packed | None = None
    _last: Packed | None = None
    _between: list[Packed] | None = None
    _tail: Tail | None = None
    _progress: ProgressEvent | None = None
    _last_seq: int = 0
    #: The number of the batch into which the last events go, and the last seq before those.
    _batch: int = -1
    _before_batch: int = 0
    _future: TaskFuture | None = None

    def __init__(self, task_id: str, *, name: str = "", control: TrackerControl | None = None) -> None:
        self.task_id = task_id
        self.name = name
        self._control = control

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.task_id} {self.name or '-'} {self.status.value}>"

    # -- the task -----------------------------------------------------------------------------------------------------

    @property
    def status(self) -> TaskStatus:
        """Where the task stands now, whatever has been delivered."""
        return self._status

    @property
    def done(self) -> bool:
        """True when the task has ended and result() returns or raises at once."""
        return self._settled

    @property
    def error(self) -> TaskErrorInfo | None:
        """The error with which the task ended, or the last attempt did; None where there is none."""
        outcome = self._outcome
        if outcome is not None:
            return outcome.error
        for event in reversed(self._statuses):
            if event.error is not None:
                return event.error
        return None

    @property
    def last_status(self) -> StatusEvent | None:
        """The latest status event, or None."""
        last = self._last or self._first
        return None if last is None else unpack_status(self.task_id, last)

    @property
    def last_progress(self) -> ProgressEvent | None:
        """The latest progress, or None."""
        return self._progress

    @property
    def log_tail(self) -> list[LogEvent]:
        """The last log events (1,000, at most 1 MiB), oldest first."""
        tail = self._tail
        return [] if tail is None else list(tail.logs.events)

    def result(self, timeout: float | None = None) -> Any:
        """Return the task's result; wait for it for at most `timeout` seconds (None: for ever).

        Waits for the task only, never for a subscriber.

        Raises:
            TimeoutError: the task has not ended within `timeout`; it goes on.
            TaskCancelled: it was cancelled.
            ServiceStopped: the service stopped first.
            Exception: the handler's own, where it can be rebuilt here; else TaskFailed.
        """
        if not self._settled:
            self._wait(timeout, f"task {self.task_id} ({self.name or 'no name'})")
        outcome = self._kept
        if outcome is None:
            value = self._value
            return None if value is None else value[1]
        return outcome.result()

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait for the result on a running event loop; cancelling the wait does not cancel the task."""
        return self._result_async().__await__()

    @property
    def future(self) -> TaskFuture:
        """The task as a concurrent.futures.Future: for wait, as_completed, callbacks, asyncio.wrap_future."""
        future = self._future
        if future is None:
            from rxtasks.observe.future import TaskFuture

            made = TaskFuture(self)
            future = self.__dict__.setdefault("_future", made)
            if future is made and not self._when_done(self._settle_future):
                self._settle_future()
        return future

    def _settle_future(self) -> None:
        outcome = self._outcome
        if self._future is not None and outcome is not None:
            self._future._settled(outcome.status)

    def cancel(self, reason: str | None = None) -> bool:
        """Ask for the task to be cancelled; False when it has ended already. It ends when its attempt has ended."""
        control = self._control
        return False if control is None or self._settled else control.cancel(self.task_id, reason)

    def resumed(self, from_seq: int) -> TaskTracker:
        """Return the same task as a tracker whose subscribers get its events from `from_seq` on; all held for 1.

        Raises:
            LogTruncated: some of them are no longer held.
        """
        from rxtasks.observe.resumed import ResumedTracker

        if from_seq <= 1:
            return self
        tail = self._tail
        if tail is not None and tail.lost >= from_seq:
            raise LogTruncated(tail.lost + 1)
        return ResumedTracker(self, from_seq)

    def attach(self, logger: Any) -> abc.DisposableBase:
        """Write the task's log events, those held and those to come, to a loguru or logging logger.

        Returns what ends it when disposed.

        Raises:
            TypeError: `logger` is neither.
        """
        return self.logs.subscribe(forward_to(logger, self.name), lambda _: None)

    # -- its streams --------------------------------------------------------------------------------------------------

    @property
    def statuses(self) -> Observable[StatusEvent]:
        """The status events."""
        return KindStream(self, "status")

    @property
    def logs(self) -> Observable[LogEvent]:
        """The log events; a late subscriber gets the last 1,000 (at most 1 MiB) first."""
        return KindStream(self, "log")

    @property
    def progress(self) -> Observable[ProgressEvent]:
        """The progress events; a late subscriber gets the latest first."""
        return KindStream(self, "progress")

    @property
    def outputs(self) -> Observable[OutputEvent]:
        """The output events; a late subscriber gets the last 1,000 (at most 1 MiB) first."""
        return KindStream(self, "output")

    @property
    def outcome(self) -> Observable[Any]:
        """The result, then completion; or on_error with what result() raises."""
        return OutcomeStream(self)

    # -- from the core ------------------------------------------------------------------------------------------------

    @property
    def last_seq(self) -> int:
        """Seq of the last event that was noted, 0 = none was."""
        return self._last_seq

    def observe(self, event: TaskEvent, size: int = -1, batches: int | None = None) -> None:
        """Take note of the task's next event, in order of seq; the core does so before it publishes it.

        `size` is the bytes of a log or output; -1 = not known, then they are estimated. `batches` is how many batches
        the delivery has published; None = to be looked up, -1 = the event was published before all of them.

        All events noted since a publish of the delivery go into the next one.
        """
        if batches is None:
            delivery = self._delivery()
            batches = -1 if delivery is None else delivery._backlog.batches
        if batches != self._batch:
            self._before_batch = self._last_seq  # in this order: see _published
            self._batch = batches
        if type(event) is StatusEvent:
            status = event.status
            # `_value_` is what `value` returns, without the call of a descriptor in Python.
            packed = (event.seq, event.attempt, event.worker_id, event.time, status._value_, event.result, event.error)
            if self._first is None:
                self._first = packed
            else:
                if self._last is not None:
                    self._keep_between()
                self._last = packed
            self._status = status
        elif isinstance(event, ProgressEvent):
            self._progress = event
        else:
            tail = self._tail
            if tail is None:
                tail = self._tail = Tail()
            tail.add(event, size)
        self._last_seq = event.seq

    def end_whole(self, begun: StatusEvent, ended: StatusEvent, value: Ended, batches: int) -> bool:
        """Do as observe for both events, an attempt's first and last, and settle with `wake` False; return what that does."""
        if self._first is not None or self._settled:
            self.observe(begun, 0, batches)
            self.observe(ended, 0, batches)
            return self.settle(value, wake=False)
        if batches != self._batch:
            self._before_batch = self._last_seq
            self._batch = batches
        worker_id, attempt = begun.worker_id, begun.attempt
        self._first = (begun.seq, attempt, worker_id, begun.time, begun.status._value_, None, None)
        self._last = (ended.seq, attempt, worker_id, ended.time, ended.status._value_, ended.result, None)
        self._last_seq = ended.seq
        self._value = value  # type: ignore[assignment] # no Outcome
        self._settled = True
        self._status = _SUCCEEDED
        return self._waiters is not None

    def observe_run(self, events: list[TaskEvent], sizes: list[int], batches: int) -> None:
        """Do as observe for each of `events`: logs only, or outputs only, in order; `sizes` are their bytes."""
        if batches != self._batch:
            self._before_batch = self._last_seq
            self._batch = batches
        tail = self._tail
        if tail is None:
            tail = self._tail = Tail()
        tail.add_run(events, sizes)
        self._last_seq = events[-1].seq

    def _keep_between(self) -> None:
        """Put the last status to those between: another one comes. In this order: who looks meanwhile misses none."""
        last = self._last
        assert last is not None
        if self._between is None:
            self._between = [last]
        else:
            self._between.append(last)

    @property
    def statuses_so_far(self) -> list[StatusEvent]:
        """All status events up to now."""
        return list(self._statuses)

    @property
    def _statuses(self) -> list[StatusEvent]:
        """The status events so far, in order; for any thread."""
        last, between, first = self._last, self._between, self._first
        packed = [] if first is None else [first, *(between or ())]
        if last is not None and packed[-1] is not last:
            packed.append(last)
        return [unpack_status(self.task_id, item) for item in packed]

    def settle(self, ended: Ended, *, wake: bool = True) -> bool:
        """Set the outcome and wake who waits for it; the first one wins. Before the terminal event is published.

        Return whether somebody waits who has not been woken (with `wake` False): call `wake_waiters` then.
        """
        if not self._settled:
            if isinstance(ended, Outcome):
                if ended.plain:
                    self._value = ended.value
                else:
                    self._kept = ended
                self._settled = True
                self._status = ended.status
            else:
                self._value = ended
                self._settled = True
                self._status = _SUCCEEDED
            if self._waiters is not None:
                if not wake:
                    return True
                self._wake_waiters()
        return False

    def wake_waiters(self) -> None:
        """Wake who waits for the outcome."""
        self._wake_waiters()

    def note_status(self, status: TaskStatus) -> None:
        """Show `status` where it has no event of its own (scheduled, blocked, pending again)."""
        if not self._settled:
            self._status = status

    # -- as an observer, without a service ----------------------------------------------------------------------------

    def on_next(self, event: TaskEvent) -> None:
        """Take `event` if it is the task's next one; where a service feeds the tracker, nothing is to be done."""
        if self._control is None and isinstance(event, TaskEvent) and event.task_id == self.task_id:
            self._in_turn(lambda: self._take(event))

    def on_error(self, error: Exception) -> None:
        """The source failed: so has the task, unless it has ended."""
        self._source_ended(error)

    def on_completed(self) -> None:
        """The source ended: result() raises ServiceStopped, unless the task has ended."""
        self._source_ended(ServiceStopped("the stream of events ended before the task did"))

    def _take(self, event: TaskEvent) -> None:
        if event.seq <= self._last_seq or self._settled:
            return
        self.observe(event)
        ended = isinstance(event, StatusEvent) and event.status.terminal
        if isinstance(event, StatusEvent) and ended:
            self.settle(Outcome(event.status, ["j", event.result], error=event.error))
        run_calls((target, event) for target in self._targets)
        if ended:
            run_calls(endings(self))

    def _source_ended(self, error: Exception) -> None:
        if self._control is None and not self._settled:
            self.settle(Outcome(TaskStatus.FAILED, error_object=error))
            self._in_turn(lambda: run_calls(endings(self, error)) if self._stop(error) else None)

    # -- subscribing --------------------------------------------------------------------------------------------------

    @property
    def _flow(self) -> Delivery | None:
        delivery = self._delivery()
        return None if delivery is None or delivery.closed else delivery

    def _delivery(self) -> Delivery | None:
        control = self._control
        return None if control is None else control.delivery

    def _subscribe_core(
        self, observer: abc.ObserverBase[TaskEvent], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        return self._join(self._target(observer, ""))

    def _target(self, observer: abc.ObserverBase[Any], kind: str) -> TaskTarget:
        return TaskTarget(self, observer, kind)

    def _join(self, target: TaskTarget) -> abc.DisposableBase:
        """Let `target` have what is held, then what comes."""
        if self.is_disposed:
            raise DisposedException()
        self._on_stream(lambda: self._catch_up(target))
        return target

    def _on_stream(self, calls: Callable[[], Iterator[CallPair]]) -> None:
        """Make the calls in the order of the stream: on the delivery thread, or here where there is none."""
        delivery = self._flow
        if delivery is None:
            self._in_turn(lambda: run_calls(calls()))
        else:
            delivery.call(calls)

    def _catch_up(self, target: TaskTarget) -> Iterator[CallPair]:
        # Routed first, then looked at what is held: an event folded in between is in both, and taken once.
        if not self._add(target):
            return
        delivery = self._delivery()
        last = self._last_seq if delivery is None else self._published(delivery.admit(self.task_id, self))
        held = self._held(target, last)
        if isinstance(held, LogTruncated):
            yield Ending(target, held), None
            return
        first = None if delivery is None else delivery.first_waiting(self.task_id)
        for event in held:
            if first is not None and event.seq >= first:
                return  # it waits in the backlog and comes in its place
            yield target, event
        ended = self._last or self._first
        # Not what is held: of a task that ended before the seq asked for, nothing is.
        if self._error is not None or (ended is not None and ended[0] <= last and TaskStatus(ended[4]).terminal):
            yield Ending(target, self._error), None

    def _published(self, batches: int) -> int:
        """Return the last seq that was surely published when `batches` batches were.

        Read in the reverse of the order in which observe() writes: a batch not seen here has not moved `last`.
        """
        last = self._last_seq
        return last if self._batch < batches else min(last, self._before_batch)

    def _held(self, target: TaskTarget, last: int) -> list[TaskEvent] | LogTruncated:
        """Return the events that are held and wanted, in order, up to seq `last`."""
        events: list[TaskEvent] = list(self._statuses)
        tail = self._tail
        if tail is not None:
            if target.seq and tail.lost > target.seq:
                return LogTruncated(tail.lost + 1)
            events += list(tail.logs.events)
            events += list(tail.outputs.events)
        progress = self._progress
        if progress is not None:
            events.append(progress)
        after = target.seq
        events = [event for event in events if after < event.seq <= last]
        events.sort(key=_seq)
        return events

    def _detached(self, target: Any) -> None:
        delivery = self._delivery()
        if delivery is not None and not self._targets:
            delivery.routes.unwatch(self.task_id, self)

    def _report(self, what: str, error: BaseException | None) -> None:
        control = self._control
        (log_problem if control is None else control.report)(what, error)


def _seq(event: TaskEvent) -> int:
    return event.seq


def _lay_out() -> None:
    """Give the attributes that most trackers get their place in the object, beside those of __init__.

    CPython keeps in the object itself what its class's first instances had (PEP 412, and since 3.11 without a dict); for an
    attribute that comes up later each tracker would be given a dict of its own, and the garbage collector one more object.
    """
    first = TaskTracker("")
    for name in (
        "_before_batch",
        "_batch",
        "_first",
        "_status",
        "_last_seq",
        "_last",
        "_value",
        "_settled",
        "_waiters",
        "_kept",
        "_tail",
        "_progress",
    ):
        setattr(first, name, getattr(first, name))


_lay_out()
