"""Tasks are cancelled by their callers. Any thread.

In a store that other processes share, a cancel is written down before anything else (`cancel_later`): then it survives
whatever ends this process, and reaches whoever has the task.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from rxtasks.clock import utc_from_us
from rxtasks.engine.answers import Answers
from rxtasks.engine.ending import info_of
from rxtasks.engine.parts import ANSWER, Parts
from rxtasks.errors import StoreError, TaskCancelled, UnknownTask
from rxtasks.lifecycle.events import StatusEvent
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.observe.tracker import TaskTracker
from rxtasks.pool.words import CancelAsked
from rxtasks.reactive.subject import log_problem
from rxtasks.stores.base import Asked, Change, Claim, DurableStore, Successes
from rxtasks.wire.outcome import Outcome

__all__ = ["Cancelling"]


class Cancelling(Parts):
    """The part of an engine that cancels."""

    def cancel(self, task_id: str, reason: str | None = None, actor: str = "client") -> bool:
        """Ask for the task to be cancelled; False when it has ended. `actor`: who wants it, for its history.

        Raises:
            UnknownTask: there is no such task.
        """
        if not self._started or self.outlet.over.is_set():
            return self._cancel_unstarted(task_id, reason, actor)
        if self.durable is not None:
            return self._cancel_stored(task_id, reason, actor)
        note = getattr(self.store, "note_asked", None)
        if note is not None:
            note(task_id, reason, actor)
        answer = self._ask(lambda ticket: CancelAsked(ticket, task_id, reason, self.store.claim_one(task_id)))
        if answer:
            return True
        if task_id not in self.outlet.trackers and self.store.get(task_id) is None:
            raise UnknownTask(task_id)
        return False

    def cancel_many(self, task_ids: Sequence[str], reason: str | None = None, actor: str = "client") -> list[str]:
        """Ask for these tasks to be cancelled, in one go where that can be; return those that had not ended."""
        durable = self.durable
        if durable is None:
            return [task_id for task_id in task_ids if self._cancel_known(task_id, reason, actor)]
        if not self._started or self.outlet.over.is_set():
            return self._cancel_many_unstarted(durable, task_ids, reason, actor)
        answers = Answers[bool](len(task_ids))

        def take_for(at: int) -> Callable[[bool | BaseException], None]:
            return lambda answer: answers.take(at, False if isinstance(answer, UnknownTask) else answer)

        for at, task_id in enumerate(task_ids):
            self._cancel_later(task_id, reason, False, take_for(at), actor)
        return [task_id for task_id, asked in zip(task_ids, answers.wait(), strict=True) if asked]

    def _cancel_known(self, task_id: str, reason: str | None, actor: str) -> bool:
        try:
            return self.cancel(task_id, reason, actor)
        except UnknownTask:  # forgotten meanwhile
            return False

    def _cancel_many_unstarted(
        self, durable: DurableStore, task_ids: Sequence[str], reason: str | None, actor: str
    ) -> list[str]:
        found = _write_down(durable, task_ids, reason, actor)
        self._end_all_unstarted([claim for _, claim in found if claim is not None], reason)
        return [
            task_id for task_id, (asked, _) in zip(task_ids, found, strict=True) if asked not in (None, Asked.ENDED)
        ]

    def cancel_schedule(self, schedule_id: str, reason: str | None = None, actor: str = "client") -> bool:
        """Let nothing follow the schedule's present occurrence, and cancel that; False: there is no such schedule."""
        occurrence = self.store.end_schedule(schedule_id)
        if occurrence is None:
            return False
        self.cancel(occurrence, reason, actor)
        return True

    def _cancel_stored(self, task_id: str, reason: str | None, actor: str) -> bool:
        answered = threading.Event()
        answers: list[bool | BaseException] = []

        def take(answer: bool | BaseException) -> None:
            answers.append(answer)
            answered.set()

        self._cancel_later(task_id, reason, False, take, actor)
        if not answered.wait(ANSWER):
            raise TimeoutError("the store has not answered in time")
        (answer,) = answers
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _cancel_later(
        self,
        task_id: str,
        reason: str | None,
        unbegun: bool,
        take: Callable[[bool | BaseException], None],
        actor: str = "client",
    ) -> None:
        """Write the wish down, then see to it if the task is here; `take` is told whether it had not ended, or an error."""

        def written(asked: Asked | None, claim: Claim | None, error: BaseException | None) -> None:
            if error is not None:
                take(error)
            elif asked is None:
                take(UnknownTask(task_id))
            elif asked is Asked.ENDED:
                take(False)
            elif asked is Asked.ELSEWHERE:
                take(not unbegun)
            else:
                self.driver.ask(
                    lambda ticket: CancelAsked(ticket, task_id, reason, claim, unbegun),
                    # Its end may be on its way into the store already.
                    lambda answer: take(bool(answer)),
                )

        assert self.durable is not None
        try:
            self.durable.cancel_later(task_id, reason, unbegun, written, actor=actor)
        except StoreError as error:
            take(error)

    def cancel_quietly(self, task_id: str, reason: str | None = None) -> None:
        """Ask for the task to be cancelled and wait for nothing; no error if it has ended or is not known."""
        if self._started and self.durable is not None:
            self._cancel_later(task_id, reason, False, lambda answer: _note(task_id, answer))
        elif self._started:
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
            def take(answer: bool | BaseException | None) -> None:
                answers[task_id] = answer is True
                if len(answers) == len(wanted):
                    answered.set()

            if self.durable is not None:
                self._cancel_later(task_id, reason, True, take)
                return
            self.driver.ask(lambda ticket: CancelAsked(ticket, task_id, reason, claim_one(task_id), True), take)

        for task_id in wanted:
            ask(task_id)
        if not answered.wait(ANSWER):
            raise TimeoutError("the engine has not answered in time")
        return [answers[task_id] for task_id in task_ids]

    def _cancel_unstarted(self, task_id: str, reason: str | None, actor: str) -> bool:
        if self.durable is not None:
            ((asked, claim),) = _write_down(self.durable, [task_id], reason, actor)
            if asked is None:
                raise UnknownTask(task_id)
            if claim is None:
                return asked is not Asked.ENDED
        else:
            claim = self.store.claim_one(task_id)
        if claim is None:
            if self.store.get(task_id) is None:
                raise UnknownTask(task_id)
            return False
        self._end_all_unstarted([claim], reason)
        return True

    def _end_all_unstarted(self, claims: Sequence[Claim], reason: str | None) -> None:
        if not claims:
            return
        events, error = self._end_unstarted(claims, reason)
        for event in events:
            tracker = self._forget_tracker(event.task_id)
            if tracker is not None:
                tracker.observe(event)
                tracker.settle(Outcome(TaskStatus.CANCELLED, None, None, event.error, None, error))
        self.delivery.publish([*events], 200 * len(events))

    def _forget_tracker(self, task_id: str) -> TaskTracker | None:
        self.outlet.created.discard(task_id)
        return self.outlet.trackers.pop(task_id, None)

    def _end_unstarted(self, claims: Sequence[Claim], reason: str | None) -> tuple[list[StatusEvent], TaskCancelled]:
        """End tasks as cancelled while no core runs; return their events, to be published, and the error."""
        error = TaskCancelled(reason)
        info, now = info_of(error), self._clock.wall_us()
        changes: list[Change | Successes] = []
        events: list[StatusEvent] = []
        for claim in claims:
            task_id, seq, status = claim.envelope.task_id, claim.next_seq, TaskStatus.CANCELLED
            counts = (claim.attempt, claim.failures, claim.crashes, claim.interruptions, seq + 1)
            changes.append(Change(claim.token, task_id, status, *counts, finished_us=now, release=True, error=info))
            attempt = max(1, claim.attempt)
            events.append(StatusEvent(task_id, seq, attempt, None, utc_from_us(now), status, None, info))
        self._commit_now(changes, [*events])
        return events, error


def _write_down(
    store: DurableStore, task_ids: Sequence[str], reason: str | None, actor: str
) -> list[tuple[Asked | None, Claim | None]]:
    """Have the wishes written down, and wait for that."""
    answers = Answers[tuple[Asked | None, Claim | None]](len(task_ids))

    def take_for(at: int) -> Callable[[Asked | None, Claim | None, BaseException | None], None]:
        return lambda asked, claim, error: answers.take(at, (asked, claim) if error is None else error)

    for at, task_id in enumerate(task_ids):
        store.cancel_later(task_id, reason, False, take_for(at), actor=actor)
    return answers.wait()


def _note(task_id: str, answer: bool | BaseException) -> None:
    if isinstance(answer, Exception) and not isinstance(answer, UnknownTask):
        log_problem(f"task {task_id} could not be cancelled", answer)
