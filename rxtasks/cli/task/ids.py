"""Short ids: the beginning or the end of an id stands for it where only one task has it.

The end tells more: ids of tasks of one second begin alike, and end at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from rxtasks.cli.codes import NOT_FOUND, USAGE
from rxtasks.cli.usage import CommandFailed
from rxtasks.text import cut, shown

if TYPE_CHECKING:
    from rxtasks.service import TaskService

__all__ = ["the_task", "the_tasks"]

#: Candidates that are named.
_NAMED: Final = 5
#: Characters of a part at least: fewer would stand for another task tomorrow.
_LEAST: Final = 4


def the_task(service: TaskService, part: str) -> str:
    """Return the id of the task that `part` stands for.

    Raises:
        CommandFailed: there is none (exit code 3), or there are several (2), which are named.
    """
    found = service.find(part, _NAMED + 1)
    if len(found) == 1 and (found[0] == part or len(part) >= _LEAST):
        return found[0]
    word = cut(shown(part), 60)
    if not found:
        raise CommandFailed(f"there is no task {word} in the store; rxtasks task list shows what there is", NOT_FOUND)
    if len(part) < _LEAST:
        raise CommandFailed(f"{word} is too short for an id: give at least {_LEAST} characters of its end", USAGE)
    names = "".join([f"\n  {task_id}  {_told(service, task_id)}" for task_id in found[:_NAMED]])
    more = "\n  and others" if len(found) > _NAMED else ""
    raise CommandFailed(f"{word} stands for several tasks; give more of the id:{names}{more}", USAGE)


def the_tasks(service: TaskService, parts: Sequence[str]) -> list[str]:
    """Return the ids that these stand for, each once."""
    return list(dict.fromkeys([the_task(service, part) for part in parts]))


def _told(service: TaskService, task_id: str) -> str:
    record = service.get(task_id)
    return f"{record.status} {cut(shown(record.name), 40)}"
