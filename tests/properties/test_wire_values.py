"""Values: exact JSON is exact, tagged JSON is exact, and neither changes anything silently."""

from __future__ import annotations

import marshal
import math
from datetime import UTC, timedelta, timezone
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from rxtasks.errors import PayloadError
from rxtasks.testing.strategies import json_values, texts
from rxtasks.wire.payload import describe, dump_args, exact_json, load_args
from rxtasks.wire.tagged import dump_tagged, load_tagged

_ZONES = st.none() | st.sampled_from(
    [UTC, ZoneInfo("Europe/Berlin"), ZoneInfo("UTC"), timezone(timedelta(hours=5), "x")]
)
_ATOMS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary(max_size=20)
    | st.datetimes(timezones=_ZONES)
    | st.dates()
    | st.times(timezones=st.none() | st.just(UTC))
    | st.timedeltas()
    | st.decimals()
    | st.uuids()
    | st.text("abc./", min_size=1).map(PurePosixPath)
)
_HASHABLE = _ATOMS.filter(lambda value: not (isinstance(value, Decimal) and value.is_snan()))
_KEYS = st.recursive(_HASHABLE, lambda inner: st.lists(inner, max_size=2).map(tuple), max_leaves=3)
VALUES = st.recursive(
    _ATOMS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.sets(_KEYS, max_size=3)
        | st.frozensets(_KEYS, max_size=3)
        | st.dictionaries(_KEYS | st.just("$t"), inner, max_size=3)
    ),
    max_leaves=15,
)


def same(one: Any, other: Any) -> bool:
    """Equal in value and in type, NaN and the sign of zero included."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return len(one) == len(other) and all(
            same(a, b) and same(one[a], other[b]) for a, b in zip(one, other, strict=True)
        )
    if isinstance(one, set | frozenset):
        return sorted(map(repr, one)) == sorted(map(repr, other))
    if isinstance(one, float) and math.isnan(one):
        return math.isnan(other)
    return repr(one) == repr(other)


@settings(max_examples=300, deadline=None)
@given(json_values(20))
def test_every_json_value_is_exact(value: Any) -> None:
    """Q-09: what JSON can carry is recognised as such."""
    found = exact_json(value)
    assert found is not None
    assert marshal.dumps(found[1], 2) == marshal.dumps(value, 2)


@settings(max_examples=300, deadline=None)
@given(VALUES)
def test_what_is_called_exact_is_exact(value: Any) -> None:
    """Q-09: of any value, the copy is the same or there is none."""
    found = exact_json(value)
    assert found is None or same(found[1], value)


@settings(max_examples=500, deadline=None)
@given(VALUES)
def test_tagged_json_carries_any_supported_value_exactly(value: Any) -> None:
    """Q-09: tuples, sets, bytes, dates, Decimal, UUID, Path, odd keys, NaN, big integers: types equal, to the bit."""
    assert same(load_tagged(dump_tagged(value)), value)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60) | json_values().map(lambda value: repr(value).encode()))
def test_any_bytes_are_a_value_or_a_payload_error(data: bytes) -> None:
    """Q-09: reading a damaged row raises nothing else."""
    try:
        load_tagged(data)
    except PayloadError:
        return


@settings(max_examples=200, deadline=None)
@given(st.lists(VALUES, max_size=3), st.dictionaries(texts(), VALUES, max_size=3))
def test_pickled_arguments_come_back_exactly(args: list[Any], kwargs: dict[str, Any]) -> None:
    """R26: the memory store's form."""
    back, named = load_args(dump_args(tuple(args), kwargs))
    assert same(back, tuple(args))
    assert same(named, kwargs)


@settings(max_examples=200, deadline=None)
@given(VALUES)
def test_every_value_can_be_described(value: Any) -> None:
    """R6: in at most 200 characters of Unicode."""
    kind, preview = describe(value)
    assert kind
    assert len(preview) <= 200
    preview.encode()
