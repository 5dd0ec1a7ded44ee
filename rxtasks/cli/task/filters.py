"""The filters of list, as options of a command."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from rxtasks.cli.ages import AGE

__all__ = ["filter_options", "given"]

_F = TypeVar("_F", bound=Callable[..., Any])

_STATUSES = (
    *("created", "pending", "scheduled", "blocked", "running"),
    *("retrying", "succeeded", "failed", "cancelled"),
)


def filter_options(command: _F) -> _F:
    """Give a command --status, --name, --tag, --worker and --older-than."""
    for option in reversed(
        (
            click.option("--status", type=click.Choice(_STATUSES), help="Only tasks of this status."),
            click.option("--name", metavar="NAME", help="Only tasks of this name."),
            click.option("--tag", metavar="TAG", help="Only tasks with this tag."),
            click.option("--worker", metavar="ID", help="Only tasks that this worker ran last."),
            click.option("--older-than", type=AGE, metavar="AGE", help="Only tasks that old: 10m, 2h, 7d."),
        )
    ):
        command = option(command)
    return command


def given(**filters: Any) -> dict[str, Any]:
    """Return the filters that were given."""
    return {name: value for name, value in filters.items() if value is not None}
