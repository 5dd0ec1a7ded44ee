"""Tasks come in and are looked up. Any thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import attrs

from rxtasks.engine.outlet import Sink
from rxtasks.engine.tracking import Tracking
from rxtasks.errors import (
    SettingsError,
)
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.lifecycle.task import TaskRequest
from rxtasks.observe.tracker import TaskTracker
from rxtasks.stores.base import Envelope

if TYPE_CHECKING:
    from rxtasks.engine.engine import TaskEngine
    from rxtasks.isolation.inline import InlineDesk

__all__ = ["Admission"]


class Admission(Tracking):
    """The part of an engine that takes tasks in."""

    def push(
        self, request: TaskRequest, changes: Mapping[str, Any] | None = None, *, hold: bool = False
    ) -> TaskTracker:
        """Take the request in and return its tracker; the task that has its id or dedup_key already, if there is one.

        Raises:
            ServiceStopped, QueueFull, SettingsError, UnknownHandler, PayloadError: it is not taken.
        """
        if not isinstance(request, TaskRequest):
            raise SettingsError(f"push takes a TaskRequest, not {request!r}; submit takes a function and its arguments")
        if self.hooks is not None and self.hooks.watches_pushes:
            return self._push_watched(request, changes, hold)
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
        if self.hooks is not None and self.hooks.watches_pushes:
            return self._push_watched(TaskRequest(function, args, kwargs), changes, False)
        return self.accept(self._intake.envelope(function, args, kwargs, None, changes))

    def before_push(
        self, request: TaskRequest, changes: Mapping[str, Any] | None, *, hold: bool = False
    ) -> tuple[TaskRequest, Envelope]:
        """Let the hooks see the request, with all its options; return what they make of it, and the envelope of that.

        Raises:
            TaskCancelled: a hook does not want it.
            SettingsError, UnknownHandler, PayloadError: it is not taken.
        """
        assert self.hooks is not None
        intake = self._intake
        request = attrs.evolve(request, options=intake.options_of(request.task, request.options, changes))
        request = self.hooks.before_request("create" if hold else "push", request, self._self)
        envelope = intake.envelope(
            request.task,
            request.args,
            request.kwargs,
            request.options,
            task_id=request.task_id,
            trace=request.trace,
            hold=hold,
        )
        return request, envelope

    def after_push(self, request: TaskRequest, tracker: TaskTracker | None, *, hold: bool = False) -> None:
        """Let the hooks see what was pushed."""
        assert self.hooks is not None
        self.hooks.after_request("create" if hold else "push", request, tracker, self._self)

    @property
    def _self(self) -> TaskEngine:
        return cast("TaskEngine", self)

    def _push_watched(self, request: TaskRequest, changes: Mapping[str, Any] | None, hold: bool) -> TaskTracker:
        request, envelope = self.before_push(request, changes, hold=hold)
        tracker = self.accept(envelope)
        self.after_push(request, tracker, hold=hold)
        return tracker

    def accept(self, envelope: Envelope) -> TaskTracker:
        """Put the envelope into the store and return its tracker."""
        driver = self.driver
        if self._stopping or driver.forked or driver.failed is not None:
            self._check_alive()
        if self.durable is not None and not (self._started or envelope.hold):
            self.start(wait=False)  # before it is stored: then nothing that others do with it is missed
        task_id = envelope.task_id
        trackers = self.outlet.trackers
        tracker = trackers.get(task_id)
        fresh = tracker is None
        if tracker is None:
            tracker = trackers[task_id] = self._new_tracker(task_id, envelope.name)
            if envelope.hold:
                tracker.note_status(TaskStatus.CREATED)
                self.outlet.created.add(task_id)
            elif envelope.due_us:
                tracker.note_status(TaskStatus.SCHEDULED)
        desk = None if envelope.hold or envelope.due_us or envelope.related else self._desk_for(envelope)
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
                if not (self._started or self._has_ended(other)):
                    self.start(wait=False)
            self.driver.arrived()
            return self._standing_for(envelope, other)
        if not self._started and not envelope.hold:
            self._start_for([task_id])
        if envelope.options.depends_on and fresh and not envelope.hold:
            self._note_blocked(tracker)
        self.driver.arrived()
        if desk is not None:
            desk.work_for(tracker)
        return tracker if envelope.related is None else self._following(tracker, envelope)

    def push_all(self, requests: Iterable[TaskRequest], changes: Mapping[str, Any] | None = None) -> list[TaskTracker]:
        """Take all the requests in, in one go, or none of them; return their trackers, in their order.

        Raises:
            ServiceStopped, QueueFull, SettingsError, UnknownHandler, PayloadError: none is taken.
        """
        envelopes: list[Envelope] = []
        watched: list[TaskRequest] = []
        hooks = self.hooks if self.hooks is not None and self.hooks.watches_pushes else None
        for at, request in enumerate(requests):
            if not isinstance(request, TaskRequest):
                raise SettingsError(f"push_all takes TaskRequests; the one at {at} is {request!r}")
            if hooks is not None:
                made, envelope = self.before_push(request, changes)
                watched.append(made)
                envelopes.append(envelope)
                continue
            envelopes.append(
                self._intake.envelope(
                    request.task,
                    request.args,
                    request.kwargs,
                    request.options,
                    changes,
                    task_id=request.task_id,
                    trace=request.trace,
                )
            )
        trackers = self._accept_all(envelopes) if envelopes else []
        for made, tracker in zip(watched, trackers, strict=False):
            self.after_push(made, tracker)
        return trackers

    def _accept_all(self, envelopes: list[Envelope]) -> list[TaskTracker]:
        self._check_alive()
        if self.durable is not None and not self._started:
            self.start(wait=False)
        trackers = self.outlet.trackers
        made: dict[str, TaskTracker] = {}
        for envelope in envelopes:
            task_id = envelope.task_id
            if task_id in trackers:
                continue
            tracker = trackers[task_id] = made[task_id] = self._new_tracker(task_id, envelope.name)
            if envelope.due_us:
                tracker.note_status(TaskStatus.SCHEDULED)
            elif not envelope.related and (desk := self._desk_for(envelope)) is not None:
                desk.expect(task_id)
        try:
            others = self.store.enqueue(envelopes)
        except BaseException:
            for task_id in made:
                self._forget_tracker(task_id)
                if self._desk is not None:
                    self._desk.forget(task_id)
            self._check_alive()
            raise
        desk = self._desk
        alive = list(made.values())  # of those that have ended meanwhile nobody else has the tracker
        for envelope, other in zip(envelopes, others, strict=True):
            if other is None:
                continue
            task_id = envelope.task_id
            # Of two with one id in here the second stands for the first, whose tracker stays.
            if task_id in made and (other != task_id or self._has_ended(task_id)):
                del made[task_id]
                self._forget_tracker(task_id)
                if desk is not None:
                    desk.forget(task_id)
            self._has_been_queued(other)
        if not self._started:
            self._start_for([envelope.task_id for envelope in envelopes])
        for envelope, other in zip(envelopes, others, strict=True):
            if other is None and envelope.options.depends_on and envelope.task_id in made:
                self._note_blocked(made[envelope.task_id])
        self.driver.arrived()
        found = [
            self.track(envelope.task_id) if other is None else self._standing_for(envelope, other)
            for envelope, other in zip(envelopes, others, strict=True)
        ]
        if desk is not None:
            for envelope, other, tracker in zip(envelopes, others, found, strict=True):
                if other is None and not (envelope.due_us or envelope.related) and self._desk_for(envelope):
                    desk.work_for(tracker)
        del alive
        for at, (envelope, other) in enumerate(zip(envelopes, others, strict=True)):
            if other is None and envelope.related is not None:
                found[at] = self._following(found[at], envelope)
        return found

    def _following(self, tracker: TaskTracker, envelope: Envelope) -> TaskTracker:
        """Return the tracker of a new task; of what repeats one that follows it."""
        schedule_id = None if envelope.related is None else envelope.related.schedule_id
        return tracker if schedule_id is None else self.follow_schedule(schedule_id, tracker)

    def _standing_for(self, envelope: Envelope, task_id: str) -> TaskTracker:
        """Return the tracker of the task that stands for one that was to be put in; of a schedule, if that repeats."""
        tracker = self.track(task_id)
        if envelope.options.cron is None:
            return tracker
        record = self.store.get(task_id)
        schedule_id = None if record is None else record.schedule_id
        return tracker if schedule_id is None else self.follow_schedule(schedule_id, tracker)

    def _desk_for(self, envelope: Envelope) -> InlineDesk | None:
        """Return where the caller is to wait for the task: not for one that other workers may take."""
        return self._desk if self._all_inline or envelope.options.isolation == "inline" else None

    def _note_blocked(self, tracker: TaskTracker) -> None:
        record = self.store.get(tracker.task_id)
        if record is not None and record.status in (TaskStatus.BLOCKED, TaskStatus.SCHEDULED):
            tracker.note_status(record.status)

    def _has_been_queued(self, task_id: str) -> None:
        """A task that was created is waited for from now on."""
        created = self.outlet.created
        if task_id in created:
            created.discard(task_id)
            tracker = self.outlet.trackers.get(task_id)
            if tracker is not None and tracker.status is TaskStatus.CREATED:
                record = self.store.get(task_id)
                tracker.note_status(TaskStatus.PENDING if record is None else record.status)

    def put(self, envelopes: Sequence[Envelope]) -> list[str | None]:
        """Put the envelopes into the store, for whoever runs them; return what the store does. No trackers are made, and the
        engine is not started.

        Raises:
            ServiceStopped, QueueFull, SettingsError: none is taken.
        """
        self._check_alive()
        others = self.store.enqueue(envelopes) if envelopes else []
        if self._started:
            self.driver.arrived()
        return others

    def leave(self, request: TaskRequest, changes: Mapping[str, Any] | None = None) -> str:
        """Put the request into a durable store, for whoever runs it; return the id of the task that does. No tracker is made,
        and the engine is not started.

        Raises:
            ServiceStopped, QueueFull, SettingsError, UnknownHandler, PayloadError: it is not taken.
        """
        if self.durable is None:
            raise SettingsError("leave: a store in memory is nobody else's; push() it")
        watched = self.hooks is not None and self.hooks.watches_pushes
        if watched:
            request, envelope = self.before_push(request, changes)
        else:
            envelope = self._intake.envelope(
                request.task,
                request.args,
                request.kwargs,
                request.options,
                changes,
                task_id=request.task_id,
                trace=request.trace,
            )
        (other,) = self.put([envelope])
        if watched:
            self.after_push(request, None)
        return other or envelope.task_id

    def sink(self, envelopes: Sequence[Envelope], sink: Sink) -> None:
        """Put the envelopes, at least one, into the store; `sink` gets their outcomes. No trackers are made.

        Raises:
            ServiceStopped, QueueFull: none is taken.
            SettingsError: some have a dedup_key that others have; those are not taken. Or they repeat: then none is.
        """
        self._check_alive()
        if envelopes[0].options.cron is not None:
            raise SettingsError("a map's items are run once each: leave TaskOptions.cron out, or schedule() them")
        if self.durable is not None and not self._started:
            self.start(wait=False)
        sinks, desk = self.outlet.sinks, self._desk_for(envelopes[0])
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
                if envelope.related:
                    desk.forget(envelope.task_id)
                    continue
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
                self._end_unstarted([claim], None)
                self.store.delete(task_id)
            raise
