"""Questions that only the pool can answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from rxtasks.cli.codes import FAILED, NOT_FOUND
from rxtasks.cli.usage import CommandFailed

if TYPE_CHECKING:
    from rxtasks.control.client import ControlClient

__all__ = ["asked"]


def asked(client: ControlClient, path: str, task_id: str | None = None) -> Any:
    """Return what the pool answers to GET `path`, in which {} stands for the task's id.

    Raises:
        CommandFailed: it cannot be reached, or refuses.
    """
    from rxtasks.control.errors import ControlError

    try:
        return client.get(path if task_id is None else path.format(quote(task_id, safe="")))
    except ControlError as error:
        raise CommandFailed(str(error), NOT_FOUND if error.status == 404 else FAILED) from error
