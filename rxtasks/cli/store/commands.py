"""`rxtasks store`: its commands by name."""

from __future__ import annotations

from rxtasks.cli.codes import EPILOG
from rxtasks.cli.group import Lazy, lazy_group

__all__ = ["COMMANDS", "store"]

_HERE = "rxtasks.cli.store.upkeep"

COMMANDS = {
    "info": Lazy("rxtasks.cli.store.info:info", "Show what is in the store, and who uses it."),
    "check": Lazy(
        f"{_HERE}:check",
        "Look for damage.",
    ),
    "backup": Lazy(f"{_HERE}:backup", "Copy the store into a new file at PATH, while it is in use."),
    "prune": Lazy(f"{_HERE}:prune", "Forget tasks that ended long ago, with their events and results."),
    "vacuum": Lazy(
        f"{_HERE}:vacuum",
        "Make the file smaller by what was forgotten.",
    ),
    "migrate": Lazy(f"{_HERE}:migrate", "Bring the store to the schema of this rxtasks, in one transaction."),
}

store = lazy_group(
    "store",
    COMMANDS,
    "Look after a durable store: check, backup, prune, migrate.\n\nAll of this works while pools use it.",
    EPILOG,
)
