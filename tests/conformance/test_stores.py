"""Every store passes the one shipped suite (Q-01)."""

from __future__ import annotations

from typing import Any

from rxtasks.stores.base import Store
from rxtasks.stores.memory import MemoryStore
from rxtasks.testing.store_suite import StoreConformance


class TestMemoryStore(StoreConformance):
    def make_store(self, **settings: Any) -> Store:
        return MemoryStore(**settings)
