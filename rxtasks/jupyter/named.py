"""Subscriptions that a cell which is run again replaces instead of doubling.

Each has a name. A subscription of a name that is taken takes its place: the old one is disposed first, then the new one
subscribes. Names are given, or made of the cell and the number of the subscription in that cell; a new run of a cell
first ends all that the run before had left.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from reactivex import abc

from rxtasks.errors import SettingsError
from rxtasks.jupyter.frontend import CellRun

__all__ = ["NamedSubscription", "NamedSubscriptions"]


class NamedSubscription(abc.DisposableBase):
    """One subscription; dispose() ends it and frees its name."""

    def __init__(self, owner: NamedSubscriptions, name: str) -> None:
        self.name = name
        self._owner = owner
        self._inner: abc.DisposableBase | None = None
        self._over = False
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}{' (over)' if self._over else ''}>"

    @property
    def over(self) -> bool:
        """True when it was disposed or replaced, or its stream has ended."""
        return self._over

    def attach(self, inner: abc.DisposableBase) -> None:
        """Take what ends the subscription; ends it at once if it is over already."""
        with self._lock:
            self._inner = inner
            over = self._over
        if over:
            inner.dispose()

    def ended(self) -> None:
        """The stream has ended: free the name."""
        self._over = True
        self._owner.forget(self)

    def dispose(self) -> None:
        """End the subscription; idempotent."""
        with self._lock:
            self._over = True
            inner, self._inner = self._inner, None
        self._owner.forget(self)
        if inner is not None:
            inner.dispose()


class NamedSubscriptions:
    """The subscriptions of a kernel by name; any thread."""

    def __init__(self) -> None:
        self._by_name: dict[str, NamedSubscription] = {}
        #: The run in which each cell subscribed last, and how many names were made in it.
        self._runs: dict[str, tuple[str, int]] = {}
        self._lock = threading.RLock()

    def replace(self, name: str, subscribe: Callable[[NamedSubscription], abc.DisposableBase]) -> NamedSubscription:
        """End the subscription of this name, if there is one, then make a new one. What `subscribe` raises is raised."""
        made = NamedSubscription(self, name)
        with self._lock:
            old = self._by_name.pop(name, None)
            self._by_name[name] = made
        if old is not None:
            old.dispose()
        try:
            made.attach(subscribe(made))
        except BaseException:
            self.forget(made)
            raise
        return made

    def name_for(self, cell: CellRun | None) -> str:
        """Return the next name of a cell; ends what earlier runs of the cell left.

        Raises:
            SettingsError: there is no cell, or the frontend does not say which.
        """
        if cell is None or cell.cell_id is None:
            raise SettingsError(
                "subscribe() cannot tell which cell this is (no notebook, or its frontend does not say); give it name="
            )
        with self._lock:
            run_id, count = self._runs.get(cell.cell_id, ("", 0))
            if run_id != cell.run_id:
                count = 0
            self._runs[cell.cell_id] = (cell.run_id, count + 1)
        if run_id != cell.run_id:
            self.end_cell(cell.cell_id)
        return f"{_prefix(cell.cell_id)}{count + 1}"

    def end_cell(self, cell_id: str) -> None:
        """End the subscriptions whose names were made of the cell."""
        prefix = _prefix(cell_id)
        with self._lock:
            found = [entry for name, entry in self._by_name.items() if name.startswith(prefix)]
        for entry in found:
            entry.dispose()

    def forget(self, entry: NamedSubscription) -> None:
        """Free the name of `entry`, unless another has it by now."""
        with self._lock:
            if self._by_name.get(entry.name) is entry:
                del self._by_name[entry.name]

    def all(self) -> dict[str, NamedSubscription]:
        """Return those that live, by name."""
        with self._lock:
            return dict(self._by_name)


def _prefix(cell_id: str) -> str:
    return f"cell {cell_id} #"
