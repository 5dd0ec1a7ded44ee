"""`rxtasks task show`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from rxtasks.cli.ages import local
from rxtasks.cli.codes import EPILOG
from rxtasks.cli.group import CONTEXT
from rxtasks.cli.opening import opened
from rxtasks.cli.output import write_json
from rxtasks.cli.place import json_option, store_options
from rxtasks.cli.table import painted, status_colour
from rxtasks.cli.task.ids import the_task
from rxtasks.text import cut, duration, shown

if TYPE_CHECKING:
    from rxtasks.lifecycle.task import TaskRecord

__all__ = ["result_text", "show"]

#: Characters of a result, and lines of a traceback, that are shown to people.
_RESULT = 1000
_LINES = 60
#: Options that stand in lines of their own, or that say nothing of a task that is there.
_ELSEWHERE = frozenset({"name", "priority", "tags", "queue", "depends_on"})


@click.command(context_settings=CONTEXT, epilog=EPILOG)
@click.argument("task_id", metavar="ID")
@store_options
@json_option
def show(task_id: str, store: str | None, config: Path | None, as_json: bool) -> int:
    """Show what is known of a task. The arguments that it was called with are never shown.

    \b
    rxtasks task show 01M82R837P0HF72TN2X325AJN1
    rxtasks task show 25AJN1 --json
    """
    with opened(store, config) as service:
        record = service.get(the_task(service, task_id))
        again = service.retried_as(record.task_id)
        if as_json:
            from rxtasks.control.shown import show_record

            write_json(show_record(record) | {"retried_as": again, "options": _options(record)})
            return 0
        for word, text in _facts(record, again):
            print(f"{word + ':':<13}{text}")
        error = record.error
        if error is not None and error.traceback:
            print()
            for line in error.traceback.rstrip().splitlines()[-_LINES:]:
                print(shown(line))
    return 0


def _facts(record: TaskRecord, again: str | None) -> Iterator[tuple[str, str]]:
    yield "id", shown(record.task_id)
    yield "name", shown(record.name)
    yield "status", painted(record.status.value, status_colour(record.status))
    if record.error is not None:
        yield "error", shown(f"{record.error.type.rpartition('.')[2]}: {record.error.message}")
    if record.status == "succeeded":
        yield "result", result_text(record.result)
    yield "created", local(record.created_at)
    if record.started_at is not None:
        yield "started", local(record.started_at)
    if record.finished_at is not None:
        yield "finished", local(record.finished_at)
    if record.duration is not None:
        yield "ran", duration(record.duration)
    progress = record.progress
    if progress is not None:
        total = "" if progress.total is None else f" of {progress.total:g}"
        message = f", {shown(progress.message)}" if progress.message else ""
        yield "progress", f"{progress.current:g}{total}{message}"
    counts = [f"{record.attempt}"]
    counts += [f"{record.crashes} crashed"] if record.crashes else []
    counts += [f"{record.interruptions} interrupted"] if record.interruptions else []
    yield "attempts", ", ".join(counts)
    if record.worker_id is not None:
        yield "worker", shown(record.worker_id)
    if record.priority:
        yield "priority", str(record.priority)
    if record.options.queue is not None:
        yield "queue", shown(record.options.queue)
    if record.tags:
        yield "tags", shown(", ".join(record.tags))
    if record.options.depends_on:
        yield "depends on", shown(", ".join(record.options.depends_on))
    for name, value in _options(record).items():
        if name not in _ELSEWHERE:
            yield name.replace("_", " "), shown(value if isinstance(value, str) else json.dumps(value, default=str))
    if record.schedule_id is not None:
        yield "schedule", shown(record.schedule_id)
    if record.retry_of is not None:
        yield "retry of", shown(record.retry_of)
    if again is not None:
        yield "retried as", shown(again)


def _options(record: TaskRecord) -> dict[str, Any]:
    """Return the options that are not the defaults."""
    import orjson

    from rxtasks.lifecycle.stored import options_to_json

    text = options_to_json(attrs.evolve(record.options))
    found: dict[str, Any] = {} if text is None else orjson.loads(text)
    retry = found.get("retry")
    if retry is not None:
        from rxtasks.lifecycle.retry import RetryPolicy

        plain = {field.name: field.default for field in attrs.fields(RetryPolicy)}
        found["retry"] = {
            name: value for name, value in retry.items() if name in ("max_attempts",) or plain.get(name) != value
        }
        for name in ("retry_on", "give_up_on"):
            if found["retry"].get(name) in ([], ["builtins:Exception"]):
                del found["retry"][name]
    return found


def result_text(result: Any) -> str:
    """Return a result for people: JSON on a line, or what it is where it is no JSON."""
    from rxtasks.lifecycle.events import ValueRef

    if isinstance(result, ValueRef):
        size = f", {result.size:,} bytes" if result.size else ""
        return f"{shown(result.type)}{size}: {cut(shown(result.preview), 200)}"
    return cut(shown(json.dumps(result, ensure_ascii=False, default=str)), _RESULT)
