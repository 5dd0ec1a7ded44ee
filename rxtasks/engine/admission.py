"""Tasks come in, are looked up and are cancelled. Any thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rxtasks.clock import utc_from_us
from rxtasks.engine.ending import info_of
from rxtasks.engine.outlet import Sink
from rxtasks.engine.parts import ANSWER, Parts
from rxtasks.errors import (
    SettingsError,
    TaskCancelled,
    UnknownTask,
)
from rxtasks.lifecycle.events import StatusEvent
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.lifecycle.task import TaskRequest
from rxtasks.observe.tracker import TaskTracker
from rxtasks.pool.words import CancelAsked
from rxtasks.stores.base import Change, Claim, Envelope
from rxtasks.wire.outcome import Outcome

__all__ = ["Admission"]


class Admission(Parts):
    """The part of an engine that takes tasks in."""

    def start(self, *, wait: bool = True) -> None:
        """Start what runs them."""
        raise NotImplementedError

    def push(
        self, request: TaskRequest, changes: Mapping[str, Any] | None = None, *, hold: bool = False
    ) -> TaskTracker:
        """Take the request in and return its tracker; the task that has its id or dedup_key already, if there is one.

        Raises:
            ServiceStopped, QueueFull, SettingsError, UnknownHandler, PayloadError: it is not taken.
        """
        if not isinstance(request, TaskRequest):
            raise SettingsError(f"push takes a TaskRequest, not {request!r}; submit takes a function and its arguments")
        envelope = self._intake.envelope(
            request.task,
            request.args,
            request.kwargs,
            request.options,
            changes,
            task_id=request.task_id,
            trace=request.trace,
            hold=hold,
        )
        return self.accept(envelope)

    def submit(
        self,
        function: Callable[..., Any] | str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        changes: Mapping[str, Any] | None = None,
    ) -> TaskTracker:
        """Take a call in and return its tracker."""
        return self.accept(self._intake.envelope(function, args, kwargs, None, changes))

    def accept(self, envelope: Envelope) -> TaskTracker:
        """Put the envelope into the store and return its tracker."""
        driver = self.driver
        if self._stopping or driver.forked or driver.failed is not None:
            self._check_alive()
        task_id = envelope.task_id
        trackers = self.outlet.trackers
        tracker = trackers.get(task_id)
        fresh = tracker is None
        if tracker is None:
            tracker = trackers[task_id] = TaskTracker(task_id, name=envelope.name, control=self)
            if envelope.hold:
                tracker.note_status(TaskStatus.CREATED)
                self.outlet.created.add(task_id)
            elif envelope.due_us:
                tracker.note_status(TaskStatus.SCHEDULED)
        desk = None if envelope.hold or envelope.due_us else self._desk
        if desk is not None:
            desk.expect(task_id)
        try:
            other = self.store.enqueue((envelope,))[0]
        except BaseException:
            if desk is not None:
                desk.forget(task_id)
            if fresh:
                self._forget_tracker(task_id)
            self._check_alive()
            raise
        if other is not None:
            if desk is not None:
                desk.forget(task_id)
            if fresh and (other != task_id or self._has_ended(task_id)):
                self._forget_tracker(task_id)
            if not envelope.hold:
                self._has_been_queued(other)
            self.driver.arrived()
            return self.track(other)
        if not self._started and not envelope.hold:
            self._start_for([task_id])
        self.driver.arrived()
        if desk is not None:
            desk.work_for(tracker)
        return tracker

    def _forget_tracker(self, task_id: str) -> TaskTracker | None:
        self.outlet.created.discard(task_id)
        return self.outlet.trackers.pop(task_id, None)

    def _has_been_queued(self, task_id: str) -> None:
        """A task that was created is waited for from now on."""
        created = self.outlet.created
        if task_id in created:
            created.discard(task_id)
            tracker = self.outlet.trackers.get(task_id)
            if tracker is not None and tracker.status is TaskStatus.CREATED:
                record = self.store.get(task_id)
                tracker.note_status(TaskStatus.PENDING if record is None else record.status)

    def sink(self, envelopes: Sequence[Envelope], sink: Sink) -> None:
        """Put the envelopes, at least one, into the store; `sink` gets their outcomes. No trackers are made.

        Raises:
            ServiceStopped, QueueFull: none is taken.
            SettingsError: some have a dedup_key that others have; those are not taken.
        """
        self._check_alive()
        sinks, desk = self.outlet.sinks, self._desk
        for envelope in envelopes:
            sinks[envelope.task_id] = sink
            if desk is not None:
                desk.expect(envelope.task_id)
        try:
            stand_ins = self.store.enqueue(envelopes)
        except BaseException:
            for envelope in envelopes:
                sinks.pop(envelope.task_id, None)
            raise
        if any(stand_ins):
            for envelope, other in zip(envelopes, stand_ins, strict=True):
                if other is not None:
                    sinks.pop(envelope.task_id, None)
                    if desk is not None:
                        desk.forget(envelope.task_id)
            self.driver.arrived()
            raise SettingsError("a map's items are tasks of their own: leave TaskOptions.dedup_key out, or submit them")
        if not self._started:
            self._start_for([envelope.task_id for envelope in envelopes])
        self.driver.arrived()
        if desk is not None:
            for envelope in envelopes:
                desk.run(envelope.task_id, lambda task_id=envelope.task_id: task_id not in sinks)  # type: ignore[misc]

    def _start_for(self, task_ids: Sequence[str]) -> None:
        """Start for the first tasks. Where that is impossible they are none: they are not in the store any more.

        Raises:
            OSError, RuntimeError: as start().
        """
        try:
            self.start(wait=False)
        except (OSError, RuntimeError):
            claims = [claim for task_id in task_ids if (claim := self.store.claim_one(task_id)) is not None]
            if not claims:  # somebody else could start, and they run
                return
            for claim in claims:
                task_id = claim.envelope.task_id
                self._forget_tracker(task_id)
                self.outlet.sinks.pop(task_id, None)
                if self._desk is not None:
                    self._desk.forget(task_id)
                self._end_unstarted(claim, None)
                self.store.delete(task_id)
            raise

    def track(self, task_id: str, from_seq: int = 1) -> TaskTracker:
        """Return the tracker of a task.

        Raises:
            UnknownTask: there is no such task.
            LogTruncated: the events from `from_seq` are no longer held.
        """
        tracker = self.outlet.trackers.get(task_id)
        if tracker is None:
            reference = self.outlet.ended.get(task_id)
            tracker = None if reference is None else reference()
        if tracker is not None:
            return tracker.resumed(from_seq)
        record = self.store.get(task_id)
        if record is None:
            raise UnknownTask(task_id)
        made = TaskTracker(task_id, name=record.name, control=self)
        if not record.status.terminal:
            made.note_status(record.status)
            if record.status is TaskStatus.CREATED:
                self.outlet.created.add(task_id)
            tracker = self.outlet.trackers.setdefault(task_id, made)
            if tracker is made and self._has_ended(task_id):
                # It ended between the two looks, and nobody would settle this one.
                self._forget_tracker(task_id)
                return self.track(task_id, from_seq)
            return tracker.resumed(from_seq)
        at = record.finished_at or record.created_at
        ended = StatusEvent(
            task_id, 1, max(1, record.attempt), record.worker_id, at, record.status, record.result, record.error
        )
        made.observe(ended, batches=-1)  # published long ago: it comes with none of the batches to come
        made.settle(Outcome(record.status, ["j", record.result], None, record.error))
        return made

    def _has_ended(self, task_id: str) -> bool:
        """Say whether the store knows the end already: a tracker that is made after that is settled by nobody."""
        record = self.store.get(task_id)
        return record is None or record.status.terminal

    def cancel(self, task_id: str, reason: str | None = None) -> bool:
        """Ask for the task to be cancelled; False when it has ended.

        Raises:
            UnknownTask: there is no such task.
        """
        if not self._started:
            return self._cancel_unstarted(task_id, reason)
        answer = self._ask(lambda ticket: CancelAsked(ticket, task_id, reason, self.store.claim_one(task_id)))
        if answer:
            return True
        if task_id not in self.outlet.trackers and self.store.get(task_id) is None:
            raise UnknownTask(task_id)
        return False

    def cancel_quietly(self, task_id: str, reason: str | None = None) -> None:
        """Ask for the task to be cancelled and wait for nothing; no error if it has ended or is not known."""
        if self._started:
            claim_one = self.store.claim_one
            self.driver.ask(lambda ticket: CancelAsked(ticket, task_id, reason, claim_one(task_id)), lambda _: None)

    def withdraw(self, task_ids: Sequence[str], reason: str | None = None) -> list[bool]:
        """Cancel the tasks that have not begun; return for each whether it was cancelled by this."""
        if not task_ids or not self._started:
            return [False for _ in task_ids]
        answers: dict[str, bool] = {}
        answered = threading.Event()
        wanted, claim_one = dict.fromkeys(task_ids), self.store.claim_one

        def ask(task_id: str) -> None:
            def take(answer: bool | None) -> None:
                answers[task_id] = bool(answer)
                if len(answers) == len(wanted):
                    answered.set()

            self.driver.ask(lambda ticket: CancelAsked(ticket, task_id, reason, claim_one(task_id), True), take)

        for task_id in wanted:
            ask(task_id)
        if not answered.wait(ANSWER):
            raise TimeoutError("the engine has not answered in time")
        return [answers[task_id] for task_id in task_ids]

    def _cancel_unstarted(self, task_id: str, reason: str | None) -> bool:
        claim = self.store.claim_one(task_id)
        if claim is None:
            if self.store.get(task_id) is None:
                raise UnknownTask(task_id)
            return False
        event, error = self._end_unstarted(claim, reason)
        tracker = self._forget_tracker(task_id)
        if tracker is not None:
            tracker.observe(event)
            tracker.settle(Outcome(TaskStatus.CANCELLED, None, None, event.error, None, error))
        self.delivery.publish([event], 200)
        return True

    def _end_unstarted(self, claim: Claim, reason: str | None) -> tuple[StatusEvent, TaskCancelled]:
        """End a task as cancelled while no core runs; return its event, to be published, and the error."""
        task_id = claim.envelope.task_id
        error = TaskCancelled(reason)
        info, now = info_of(error), self._clock.wall_us()
        change = Change(
            claim.token, task_id, TaskStatus.CANCELLED, claim.attempt, 0, 0, 0, 2, None, None, now, True, error=info
        )
        event = StatusEvent(task_id, 1, 1, None, utc_from_us(now), TaskStatus.CANCELLED, None, info)
        self.store.commit([change], [event], lambda refused, failure: None)
        return event, error
