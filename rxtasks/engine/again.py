"""An operator's retry: a task that has ended, once more as a task of its own (E-02).

::

    ended task ── its request, as the store has it ──> new task: same function, arguments, options ── retry_of ──> ended task

It is to run now, so what was said of its time is left out: delay, run_at, and cron (what follows an occurrence is its
schedule's affair). Of what it depended on it waits for what has not ended, and for retries that have not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

from rxtasks.errors import PayloadError, RxTasksError, SettingsError, TaskCancelled, UnknownTask
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.lifecycle.task import RetryRequest, TaskRecord, TaskRequest, new_id
from rxtasks.stores.base import Envelope
from rxtasks.stores.noting import REFUSED
from rxtasks.wire.tagged import load_tagged_args

if TYPE_CHECKING:
    from rxtasks.engine.engine import TaskEngine
    from rxtasks.observe.tracker import TaskTracker

__all__ = ["retry", "retry_many"]


def retry(engine: TaskEngine, task_id: str, reason: str | None = None) -> TaskTracker:
    """Put the request of an ended task in again, as a new task, and return its tracker; that of the task which stands for it
    where one with the same dedup_key has not ended.

    Raises:
        UnknownTask: there is no such task.
        SettingsError: it has not ended, its arguments are not held any more, or it depends on one that has failed.
        ServiceStopped, QueueFull, TaskCancelled (by a hook), StoreError: as push.
    """
    envelope, seen = _made(engine, task_id, reason)
    tracker = engine.accept(envelope)
    if seen is not None:
        engine.after_push(seen, tracker)
    return tracker


def retry_many(engine: TaskEngine, task_ids: Sequence[str], reason: str | None = None) -> list[str | RxTasksError]:
    """Do as retry for each of these, in one go where that can be, and return the id of the task that runs it, or why there
    is none. No trackers are made: who wants to follow them asks for them.

    Raises:
        ServiceStopped, QueueFull, StoreError: as push; none of them was put in.
    """
    found: dict[str, RxTasksError] = {}
    made: dict[str, tuple[Envelope, TaskRequest | None]] = {}
    for task_id in task_ids:
        try:
            made[task_id] = _made(engine, task_id, reason)
        except (UnknownTask, SettingsError, TaskCancelled) as error:
            found[task_id] = error
    others: dict[str, str | None] = {}
    envelopes = {task_id: envelope for task_id, (envelope, _) in made.items()}
    try:
        others = dict(zip(envelopes, engine.put(list(envelopes.values())), strict=True))
    except SettingsError:  # one of them: what it depends on is forgotten meanwhile
        for task_id, envelope in envelopes.items():
            try:
                (others[task_id],) = engine.put([envelope])
            except SettingsError as error:
                found[task_id] = error
    for task_id in others:
        seen = made[task_id][1]
        if seen is not None:
            engine.after_push(seen, None)
    return [
        found[task_id] if task_id in found else others[task_id] or envelopes[task_id].task_id for task_id in task_ids
    ]


def _made(engine: TaskEngine, task_id: str, reason: str | None) -> tuple[Envelope, TaskRequest | None]:
    """Return the new task, and what hooks have seen of it, if there are any."""
    record = engine.store.get(task_id)
    if record is None:
        raise UnknownTask(task_id)
    if not record.status.terminal:
        raise SettingsError(
            f"task {task_id} is {record.status}: only a task that has ended can be retried;"
            " wait for its end, or cancel it first"
        )
    before = _request(engine, record)
    needs = _needs(engine, record, before.options.depends_on)
    options = before.options
    if options.delay or options.run_at or options.cron or tuple(needs) != options.depends_on:
        options = attrs.evolve(options, delay=None, run_at=None, cron=None, tz=None, depends_on=needs)
    now_us = engine._clock.wall_us()
    made = attrs.evolve(
        before, task_id=new_id(), created_us=now_us, options=options, due_us=0, hold=False, related=None
    )
    seen: TaskRequest | None = None
    if engine.hooks is not None and engine.hooks.watches_pushes:
        request = _seen(made, task_id, reason)
        seen = engine.hooks.before_request("push", request, engine)
        if seen is not request:
            made = engine._intake.envelope(
                seen.task, seen.args, seen.kwargs, seen.options, task_id=seen.task_id, trace=seen.trace
            )
    engine._intake.repeats(made, task_id, reason)
    return made, seen


def _request(engine: TaskEngine, record: TaskRecord) -> Envelope:
    find = getattr(engine.store, "request", None)  # a store of one's own may keep none
    found: Envelope | None = None if find is None else find(record.task_id)
    if found is None:
        kept = "are not kept" if engine.durable is not None else "are not kept by the memory store"
        raise SettingsError(
            f"task {record.task_id} cannot be retried: arguments of tasks that have ended {kept}; submit it again"
            + ("" if engine.durable is not None else ", or use a durable store (store='sqlite:///path')")
        )
    if found.function == REFUSED and record.attempt == 0 and record.status is TaskStatus.FAILED:
        raise SettingsError(
            f"task {record.task_id} cannot be retried: it was refused when it was pushed, so its arguments were not kept;"
            " push it again"
        )
    return found


def _needs(engine: TaskEngine, record: TaskRecord, depends_on: Sequence[str]) -> list[str]:
    """Return what a retry has to wait for.

    Raises:
        SettingsError: one has failed or was cancelled, and nobody has retried it with success.
    """
    needs: list[str] = []
    for task_id in depends_on:
        latest, state = _latest(engine, task_id)
        if state is None or state.status is TaskStatus.SUCCEEDED:
            continue
        if not state.status.terminal:
            needs.append(latest)
        elif record.options.on_dependency_failure == "cancel":
            raise SettingsError(
                f"task {record.task_id} cannot be retried: it depends on task {latest}, which has ended as {state.status};"
                " retry that one first"
            )
    return needs


def _latest(engine: TaskEngine, task_id: str) -> tuple[str, TaskRecord | None]:
    """Return the newest retry of a task, and of that, or the task itself; None: it is known no more."""
    find = getattr(engine.store, "retries", None)
    while find is not None and (newer := find([task_id]).get(task_id)) is not None:
        task_id = newer
    return task_id, engine.store.get(task_id)


def _seen(made: Envelope, task_id: str, reason: str | None) -> RetryRequest:
    """Return what hooks get to see."""
    try:
        args, kwargs = load_tagged_args(made.payload)
    except PayloadError as error:
        raise SettingsError(
            f"task {task_id} cannot be retried here: this service has hooks on push, and they cannot be shown its arguments"
            f" ({error})"
        ) from error
    return RetryRequest(
        made.function, args, kwargs, made.options, made.task_id, made.trace, retry_of=task_id, reason=reason
    )
