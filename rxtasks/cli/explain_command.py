"""`rxtasks explain`: what a task, or everything, waits for."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rxtasks.cli.codes import DONE, EPILOG
from rxtasks.cli.group import CONTEXT
from rxtasks.cli.opening import served
from rxtasks.cli.output import write_json
from rxtasks.cli.place import configured, json_option, running_pool, store_options
from rxtasks.cli.task.asking import asked
from rxtasks.cli.task.ids import the_task
from rxtasks.cli.task.pools import runs
from rxtasks.cli.usage import CommandFailed
from rxtasks.text import counted, shown

if TYPE_CHECKING:
    from rxtasks.configuration import Configuration
    from rxtasks.service import TaskService

__all__ = ["explain"]


@click.command(context_settings=CONTEXT, epilog=EPILOG)
@click.argument("task_id", metavar="[ID]", required=False)
@store_options
@json_option
def explain(task_id: str | None, store: str | None, config: Path | None, as_json: bool) -> int:
    """Say what waits, and what it waits for: of one task, or of the workers, the queue, the store and its services.

    \b
    rxtasks explain
    rxtasks explain 25AJN1

    The pool is asked; where none runs, what the store knows is told. What is stuck begins with "stuck:".
    """
    configuration = configured(store, config)
    if configuration.values.store == "memory":
        sentences, by = _from_pool(configuration, task_id), "pool"
    else:
        with served(configuration) as service:
            found = None if task_id is None else the_task(service, task_id)
            try:
                sentences, by = _from_pool(configuration, found), "pool"
            except CommandFailed as error:
                print(f"rxtasks: {shown(str(error))}", file=sys.stderr)
                sentences, by = _from_store(service, configuration, found), "store"
    if as_json:
        write_json({"task_id": task_id, "by": by, "sentences": sentences})
    else:
        for sentence in sentences:
            print(shown(sentence))
        if not sentences:
            print("nothing waits")
    return DONE


def _from_pool(configuration: Configuration, task_id: str | None) -> list[str]:
    from rxtasks.control.client import ControlClient

    client = ControlClient(running_pool(configuration).socket)
    answer: Any = asked(client, "/v1/explain" if task_id is None else "/v1/tasks/{}/explain", task_id)
    found = answer["explain"] if isinstance(answer, dict) else []
    return [str(sentence) for sentence in found]


def _from_store(service: TaskService, configuration: Configuration, task_id: str | None) -> list[str]:
    """Return what the store knows: where tasks stand, and whether anybody is there to run them."""
    said: list[str] = []
    if task_id is None:
        tally = service.tally()
        waiting = {status.value: count for status, count in tally.items() if not status.terminal}
        said += [
            f"{counted(count, 'task')} {'is' if count == 1 else 'are'} {status}" for status, count in waiting.items()
        ]
        for each in service.services():
            said.append(
                f"service {each.number} (pid {each.pid} on {each.host}) uses the store and holds {each.holds:,} tasks"
            )
        if waiting and not runs(service, configuration):
            said.append("stuck: no pool runs on this store; start one with: rxtasks worker start")
        return said
    record = service.get(task_id)
    alone = not runs(service, configuration)
    for sentence in service.explain(task_id):
        if "the service is not started" not in sentence:
            said.append(sentence)
    if not said:
        said.append(f"task {record.task_id} is {record.status}: it may run, and waits for its turn")
    if alone and not record.status.terminal:
        said.append("stuck: no pool runs on this store; start one with: rxtasks worker start")
    return said
