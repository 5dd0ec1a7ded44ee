"""The commands of `rxtasks`, by name; each stands in a module of its own and is imported when it runs."""

from __future__ import annotations

import click

from rxtasks.cli.codes import EPILOG
from rxtasks.cli.group import Lazy, LazyGroup, lazy_group

__all__ = ["COMMANDS", "root"]

COMMANDS = {
    "run": Lazy("rxtasks.cli.run_command:run", "Call TARGET once for each INPUT, in parallel, and say how it went."),
    "worker": Lazy("rxtasks.cli.worker.group:worker", "Start, watch and steer the pool of a store."),
    "task": Lazy(
        "rxtasks.cli.task.commands:task", "Put tasks into a store, look at them, and change what becomes of them."
    ),
    "explain": Lazy("rxtasks.cli.explain_command:explain", "Say what waits, and what it waits for."),
    "top": Lazy("rxtasks.cli.top.command:top", "Watch and steer the pool live, in this terminal."),
    "store": Lazy("rxtasks.cli.store.commands:store", "Look after a durable store: check, backup, prune, migrate."),
    "config": Lazy("rxtasks.cli.config.commands:config", "See which settings hold, and where each comes from."),
    "manual": Lazy("rxtasks.cli.manual:manual", "Show a page of the manual."),
    "completion": Lazy("rxtasks.cli.completion:completion", "Print the script that lets a shell complete commands."),
}


def root() -> LazyGroup:
    """Return the command `rxtasks`."""
    from rxtasks import __version__

    group = lazy_group("rxtasks", COMMANDS, "Run tasks in parallel and watch everything they do.", EPILOG)
    click.version_option(__version__, prog_name="rxtasks", message="%(prog)s %(version)s")(group)
    return group
