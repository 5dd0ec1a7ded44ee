"""The table of bounds is true."""

from __future__ import annotations

import importlib

import pytest

from rxtasks import bounds
from rxtasks.bounds import BOUNDS, Bound
from rxtasks.config import Settings


@pytest.mark.parametrize("bound", BOUNDS, ids=lambda bound: bound.where)
def test_a_bound_of_the_table_is_the_one_in_the_code(bound: Bound) -> None:
    """R6: every buffer has a bound, listed in one table."""
    module, _, name = bound.where.partition(":")
    assert bound.value == getattr(importlib.import_module(module), name)
    assert name in (bounds.__doc__ or "") or name.startswith("MAX_")


@pytest.mark.parametrize(
    "name", ["credit", "send_ahead", "buffer_events", "buffer_bytes", "max_pending", "max_queue", "max_payload"]
)
def test_a_setting_of_the_table_exists(name: str) -> None:
    """R6: the bounds that a user may change are settings."""
    assert f"`{name}`" in (bounds.__doc__ or "")
    assert hasattr(Settings(), name)
