"""Short ids of workers: any beginning or end of one that only one worker has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rxtasks.cli.codes import NOT_FOUND, USAGE
from rxtasks.cli.usage import CommandFailed

if TYPE_CHECKING:
    from rxtasks.control.client import ControlClient

__all__ = ["choose", "find_worker"]

#: Characters that are enough of an id.
_LEAST = 3


def find_worker(client: ControlClient, given: str) -> dict[str, Any]:
    """Return the worker that is meant.

    Raises:
        CommandFailed: there is none (exit code 3), or more than one (2).
    """
    workers: list[dict[str, Any]] = client.get("/v1/workers")["workers"]
    found = choose([worker["worker_id"] for worker in workers], given)
    return next(worker for worker in workers if worker["worker_id"] == found)


def choose(ids: list[str], given: str) -> str:
    """Return the one of the ids that `given` stands for.

    Raises:
        CommandFailed: there is none, or more than one.
    """
    word = given.removeprefix("worker-").rstrip(".").upper()
    exact = [one for one in ids if one.upper() == word]
    near = exact or [
        one for one in ids if len(word) >= _LEAST and (one.upper().startswith(word) or one.upper().endswith(word))
    ]
    if len(near) == 1:
        return near[0]
    if near:
        raise CommandFailed(
            f"{given!r} stands for {len(near)} workers ({', '.join(near[:5])}{', ...' if len(near) > 5 else ''}); give more of"
            " the id, or its end, which differs",
            USAGE,
        )
    known = (
        f"; workers: {', '.join(ids[:5])}{', ...' if len(ids) > 5 else ''}" if ids else "; the pool has no workers now"
    )
    short = f"; an id has at least {_LEAST} characters" if len(word) < _LEAST else ""
    raise CommandFailed(f"no worker {given!r} in the pool{short}{known}", NOT_FOUND)
