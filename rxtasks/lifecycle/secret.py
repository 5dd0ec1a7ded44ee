"""A secret travels as a name and is read where it is used."""

from __future__ import annotations

import os
import sys

from rxtasks.errors import SettingsError

__all__ = ["Secret"]


class Secret:
    """`Secret("env:NAME")`: an environment variable of the process that reveals it; never printed, never pickled by value.

    What a handler has revealed stands as "***" in the logs, progress messages and errors of its worker's tasks; not in what
    it returns, emits or checkpoints, which is exact.
    """

    __slots__ = ("source",)

    def __init__(self, source: str) -> None:
        if not isinstance(source, str) or not source.startswith("env:") or len(source) == 4:
            raise SettingsError(f"Secret takes 'env:NAME', not {source!r}")
        self.source = source

    def reveal(self) -> str:
        """Return the value.

        Raises:
            SettingsError: the variable is not set here.
        """
        name = self.source[4:]
        value = os.environ.get(name)
        if value is None:
            raise SettingsError(f"the environment variable {name} is not set in this process")
        # Only where tasks run is there somebody to be told; nothing is imported for it.
        worker = sys.modules.get("rxtasks.worker.context")
        task = None if worker is None else worker.current_task()
        if task is not None:
            task._revealed(value)
        return value

    def __repr__(self) -> str:
        return f"Secret({self.source!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other.source == self.source

    def __hash__(self) -> int:
        return hash(self.source)
