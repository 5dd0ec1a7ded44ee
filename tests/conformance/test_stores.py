"""Every store passes the one shipped suite (Q-01)."""

from __future__ import annotations

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
    def _place(self, tmp_path: Path) -> None:
        self._folder = tmp_path
        self._made = 0

    def make_store(self, **settings: Any) -> Store:
        self._made += 1
        settings.pop("retain", None)  # it keeps what has ended for days
        return SqliteStore(str(self._folder / f"{self._made}.db"), **settings)

    def restarted(self, store: Store) -> Store:
        assert isinstance(store, SqliteStore)
        store.release()
        return SqliteStore(store.path)


class TestSqliteStoreEndures(DurableStoreConformance):
    opener = "rxtasks.stores.sqlite.store:SqliteStore"

    def make_place(self, folder: Path) -> str:
        return str(folder / "tasks.db")
