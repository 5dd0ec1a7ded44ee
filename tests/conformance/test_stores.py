"""Every store passes the one shipped suite (Q-01)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rxtasks.stores.base import Store
from rxtasks.stores.memory import MemoryStore
from rxtasks.stores.sqlite.store import SqliteStore
from rxtasks.testing.durable_suite import DurableStoreConformance
from rxtasks.testing.store_suite import StoreConformance


class TestMemoryStore(StoreConformance):
    def make_store(self, **settings: Any) -> Store:
        return MemoryStore(**settings)


class TestSqliteStore(StoreConformance):
    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> Iterator[None]:
        self._folder = tmp_path
        self._made: list[SqliteStore] = []
        yield
        for store in self._made:
            store.release()

    def make_store(self, **settings: Any) -> Store:
        settings.pop("retain", None)  # it keeps what has ended for days
        self._made.append(SqliteStore(str(self._folder / f"{len(self._made)}.db"), **settings))
        return self._made[-1]

    def restarted(self, store: Store) -> Store:
        assert isinstance(store, SqliteStore)
        store.release()
        self._made.append(SqliteStore(store.path))
        return self._made[-1]


class TestSqliteStoreEndures(DurableStoreConformance):
    opener = "rxtasks.stores.sqlite.store:SqliteStore"

    def make_place(self, folder: Path) -> str:
        return str(folder / "tasks.db")
