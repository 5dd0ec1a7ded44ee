"""Tasks as rows: what goes into the statements' documents, and what comes back.

Texts of users (names, keys, arguments) stand in JSON inside JSON, so that nothing in them means anything to SQL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from rxtasks.clock import utc_from_us
from rxtasks.errors import PayloadError, SettingsError
from rxtasks.lifecycle.errorinfo import TaskErrorInfo
from rxtasks.lifecycle.events import ProgressEvent, ValueRef
from rxtasks.lifecycle.options import DEFAULT_OPTIONS, OPEN_OPTIONS, TaskOptions, filled
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.lifecycle.stored import options_from_json, options_to_json
from rxtasks.lifecycle.task import TaskRecord
from rxtasks.stores.base import Change, Claim, Envelope, Lane, Related, Successes

__all__ = [
    "GATES",
    "LONG_PAYLOAD",
    "OWN",
    "RELEASED",
    "SCHEDULE",
    "STEPS",
    "OptionTexts",
    "bucket_of",
    "change_row",
    "check_text",
    "claim_from",
    "is_unstored",
    "lane_takes",
    "record_from",
    "related_row",
    "status_from",
    "success_rows",
    "task_row",
]

#: What a row is marked with. The first three (OWN) have to be looked at more closely by a claim and by its end.
GATES, STEPS, SCHEDULE, DEPENDS = 1, 2, 4, 8
OWN = GATES | STEPS | SCHEDULE

#: Characters of arguments up to which they stand in the task's own row.
LONG_PAYLOAD = 1000

#: Where a change's row says that its claim ends.
RELEASED = 11

#: Forms of arguments (wire.message.Assignment.form) that a stored task can have.
_FORMS = frozenset({"t", "p"})

#: Between queue and isolation in a bucket's name; refused in either.
_BETWEEN = "\x1f"


class OptionTexts:
    """Options as text and back, each made once: most tasks share theirs. One thread at a time each way."""

    def __init__(self) -> None:
        self._texts: dict[int, tuple[TaskOptions, str | None]] = {}
        self._options: dict[str, TaskOptions] = {}

    def text(self, options: TaskOptions) -> str | None:
        """Return the options as JSON; None stands for the defaults."""
        known = self._texts.get(id(options))
        if known is not None and known[0] is options:
            return known[1]
        text = options_to_json(options)
        if len(self._texts) > 1000:
            self._texts.clear()
        self._texts[id(options)] = (options, text)
        return text

    def options(self, text: str | None) -> TaskOptions:
        """Return what the text says."""
        if text is None:
            return DEFAULT_OPTIONS
        known = self._options.get(text)
        if known is None:
            if len(self._options) > 1000:
                self._options.clear()
            known = self._options[text] = options_from_json(text)
        return known


def bucket_of(options: TaskOptions) -> str:
    """Return the name of the tasks that the same lanes take.

    Raises:
        SettingsError: the queue's name has a control character.
    """
    queue, isolation = options.queue or "default", options.isolation or ""
    if _BETWEEN in queue or "\0" in queue:
        raise SettingsError(f"TaskOptions.queue has no control characters, not {queue!r}")
    return f"{queue}{_BETWEEN}{isolation}"


def lane_takes(lane: Lane, bucket: str) -> bool:
    """Say whether the lane takes the tasks of this bucket."""
    queue, _, isolation = bucket.partition(_BETWEEN)
    return lane.takes(isolation or None, queue)


def task_row(task: Envelope, texts: OptionTexts) -> list[Any]:
    """Return the row of a new task, arguments included.

    Raises:
        PayloadError: the arguments are no stored ones.
        SettingsError: an option cannot be stored.
    """
    payload = task.payload
    if type(payload) is not bytes:
        raise PayloadError(f"arguments of the form {task.form!r} are not stored", "args")
    for what, text in (("task_id", task.task_id), ("name", task.name), ("trace", task.trace)):
        if text is not None and not text.isascii():
            check_text(what, text)
    options = task.options
    status = "created" if task.hold or task.related else "scheduled" if task.due_us else "pending"
    return [
        task.task_id,
        task.name,
        task.function,
        task.form,
        payload.decode(),
        texts.text(options),
        bucket_of(options),
        options.priority,
        status,
        task.due_us,
        task.created_us,
        task.trace,
        options.dedup_key,
    ]


def check_text(what: str, text: str) -> None:
    """Raise SettingsError for text that no store can hold exactly."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise SettingsError(
            f"{what} cannot be stored: {text[:60]!r} has a lone surrogate at {error.start}, which is no Unicode text"
        ) from None


def related_row(task: Envelope) -> list[Any]:
    """Return the relations of a new task, as the query `relate` takes them."""
    related = task.related or Related()
    marks = GATES if related.gates else 0
    marks |= SCHEDULE if related.schedule_id is not None else 0
    marks |= DEPENDS if task.options.depends_on else 0
    return [task.task_id, marks, related.schedule_id, related.retry_of]


def status_from(word: str) -> TaskStatus:
    """Return the status that a row shows."""
    return TaskStatus.PENDING if word == "gated" else TaskStatus(word)


def claim_from(row: Sequence[Any], token: int, texts: OptionTexts) -> Claim:
    """Return the claim of a row of the query `claimed`.

    Raises:
        ValueError, KeyError, TypeError: the row cannot be read.
    """
    (_, task_id, name, function, form, payload, options, created_us, trace) = row[:9]
    (attempt, failures, crashes, interruptions, next_seq, status, checkpoint, asked, _, schedule) = row[9:]
    if payload is None:
        raise ValueError("its arguments are not there, or no JSON")
    if form not in _FORMS:
        raise ValueError(f"its arguments have the form {form!r}, which this rxtasks does not know")
    envelope = Envelope(
        task_id, name, function, None, None, form, payload.encode(), texts.options(options), created_us, trace
    )
    if schedule is not None:
        envelope.related = Related((), schedule)
    return Claim(
        token,
        token,
        envelope,
        attempt,
        failures,
        crashes,
        interruptions,
        next_seq,
        status_from(status),
        None if checkpoint is None else checkpoint.encode(),
        asked,
    )


def is_unstored(change: Change) -> bool:
    """Say whether the change brings a result that cannot be stored: a pickle, with the failure that says so."""
    return change.blob is not None and change.error is not None and change.value is not None and change.value[0] == "p"


def change_row(change: Change, number: int) -> list[Any]:
    """Return a change as the query `commit` takes it."""
    value, blob, error, progress, checkpoint = (
        change.value,
        change.blob,
        change.error,
        change.progress,
        change.checkpoint,
    )
    if is_unstored(change):
        value = blob = None
    return [
        change.token,
        number,
        change.status,
        change.attempt,
        change.failures,
        change.crashes,
        change.interruptions,
        change.next_seq,
        None if change.release and change.finished_us is None else change.worker_id,
        change.started_us,
        change.finished_us,
        change.release,
        change.due_us,
        None if value is None else orjson.dumps(list(value)).decode(),
        _stored(change, blob),
        None if error is None else orjson.dumps(error.to_dict()).decode(),
        None if progress is None else progress.to_json().decode(),
        None if checkpoint is None else bytes(checkpoint).decode(),
    ]


def _stored(change: Change, blob: Any) -> str | None:
    """Return what stands behind the end: what the result refers to, or the exception."""
    if change.finished_us is None:
        return None
    if blob is None:
        blob = change.raised
    return None if blob is None else bytes(blob).decode()


def success_rows(successes: Successes, numbers: Mapping[int, int]) -> list[list[Any]]:
    """Return first attempts that succeeded as `change_row` would."""
    worker_id = successes.worker_id
    return [
        [
            *(token, numbers.get(token, 0), "succeeded", 1, 0, 0, 0, 3, worker_id, started_us, finished_us, True, 0),
            *(orjson.dumps(list(value)).decode(), None, None, None, None),
        ]
        for token, started_us, finished_us, value in zip(
            successes.tokens, successes.started_us, successes.finished_us, successes.values, strict=True
        )
    ]


def record_from(row: Sequence[Any], texts: OptionTexts) -> TaskRecord:
    """Return the record of a row of the query `record`."""
    (_, task_id, name, status, attempt, crashes, interruptions, priority, worker, progress) = row[:10]
    (created_us, started_us, finished_us, value, error, options, schedule, retry_of) = row[10:]
    found = _shown_options(texts.options(options))
    known: Any = None if progress is None else ProgressEvent.from_json(progress)
    return TaskRecord(
        task_id=task_id,
        name=name,
        status=status_from(status),
        attempt=attempt,
        crashes=crashes,
        interruptions=interruptions,
        priority=priority,
        worker_id=worker,
        progress=known,
        created_at=utc_from_us(created_us),
        started_at=None if started_us is None else utc_from_us(started_us),
        finished_at=None if finished_us is None else utc_from_us(finished_us),
        result=None if value is None else shown(orjson.loads(value)),
        error=None if error is None else TaskErrorInfo.from_dict(orjson.loads(error)),
        options=found,
        tags=found.tags,
        schedule_id=schedule,
        retry_of=retry_of,
    )


def _shown_options(options: TaskOptions) -> TaskOptions:
    """Return options as a record has them, whoever pushed."""
    if type(options) is TaskOptions:
        return options
    return DEFAULT_OPTIONS if options == OPEN_OPTIONS else filled(options, DEFAULT_OPTIONS)


def shown(value: Sequence[Any]) -> Any:
    """Return what a record shows of a value in row form."""
    return value[1] if value[0] == "j" else ValueRef(value[2], value[1], value[3])
