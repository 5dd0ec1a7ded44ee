"""The bound on JSON's depth."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from rxtasks.wire import jsondepth
from rxtasks.wire.jsondepth import MAX_DEPTH, deeper, holds_tuple


def nested(levels: int, *, objects: bool) -> Any:
    value: Any = {} if objects else []
    for _ in range(levels - 1):
        value = {"a": value, "b": []} if objects else [value, []]
    return value


@pytest.mark.parametrize("limited", [True, False])
@pytest.mark.parametrize("objects", [False, True])
@pytest.mark.parametrize("limit", [1, 2, 50, MAX_DEPTH])
def test_the_bound_is_exact_whatever_else_the_value_holds(
    objects: bool, limit: int, limited: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R21: as many levels as allowed pass, one more does not; also with an orjson that has no limit of its own."""
    if not limited:
        monkeypatch.setattr(jsondepth, "_writer_limit", lambda: -1)
    for levels, expected in ((limit, False), (limit + 1, True)):
        value = nested(levels, objects=objects)
        assert deeper(value, orjson.dumps(value), limit) is expected


def test_a_wide_value_is_not_a_deep_one() -> None:
    """R21: brackets beside each other do not count."""
    value = [{"a": [i]} for i in range(1000)]
    assert not deeper(value, orjson.dumps(value))


def test_brackets_within_text_do_not_count() -> None:
    """R21: only structure has depth."""
    value = ["[" * 500, "{" * 500]
    assert not deeper(value, orjson.dumps(value))


def test_a_tuple_is_found_at_any_depth() -> None:
    """Q-09: what would be written as a list is seen."""
    deep: Any = (1,)
    for i in range(5000):
        deep = [0, deep] if i % 2 else {"a": deep}
    assert holds_tuple(deep)
    assert not holds_tuple([1, {"a": [2, {"b": []}]}, "(", None])
