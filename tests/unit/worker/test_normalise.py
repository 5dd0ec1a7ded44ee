"""Telemetry is made sendable, whatever it is."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxtasks.worker.normalise import clean_text, data_copy, number, optional_number, short_repr

numpy = pytest.importorskip("numpy", reason="numpy scalars")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, 3),
        (True, 1),
        (0.5, 0.5),
        (numpy.int64(7), 7),
        (numpy.float32(0.5), 0.5),
        (Decimal("1.5"), 1.5),
        (Fraction(1, 2), 0.5),
        (2**70, float(2**70)),
        (math.nan, 0),
        ("x", 0),
        (None, 0),
    ],
)
def test_numbers(value: Any, expected: float) -> None:
    """E-09: number-likes become int or float, the rest 0; a total that is none or infinite is None."""
    assert expected == number(value)
    assert type(number(value)) in (int, float)


def test_numbers_without_bounds() -> None:
    """E-09: infinities become the largest float for a current value and None for a total."""
    assert 1e308 < number(math.inf) < math.inf
    assert -math.inf < number(-(10**400)) < -1e308
    assert optional_number(math.inf) is None and optional_number("x") is None and optional_number(None) is None


@given(st.text(st.characters(), max_size=50) | st.text(st.sampled_from("a\ud800\udfff\u00e9\U0001f600"), max_size=50))
def test_text_is_always_unicode_and_within_its_limit(text: str) -> None:
    """E-10: lone surrogates are escaped; what is unicode stays as it is; what is too long is cut and marked."""
    clean = clean_text(text)
    orjson.dumps(clean)
    if not any("\ud800" <= char <= "\udfff" for char in text):
        assert text == clean
    assert len(clean_text(text * 100, 256).encode()) <= 256


def test_long_text_is_marked() -> None:
    """E-10: a cut text says so and how long it was."""
    assert "[cut: 100000 bytes]" in clean_text("x" * 100_000)


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError

    def __str__(self) -> str:
        raise RuntimeError

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    __hash__ = object.__hash__


def test_what_cannot_be_printed_is_named() -> None:
    """E-10: an object whose repr or str raises is named by its class."""
    assert "Hostile" in short_repr(Hostile()) and "Hostile" in clean_text(Hostile())


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.builds(Hostile),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.sets(st.integers()),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), values, max_size=5))
def test_fields_are_always_json_within_their_limit(data: dict[str, Any]) -> None:
    """E-10: fields become JSON of at most the limit, whatever they hold; exact JSON stays as it is; it is a copy."""
    copy = data_copy(data, 4096)
    if not data:
        assert copy is None
        return
    assert len(orjson.dumps(copy)) <= 4096
    assert copy is not data
    try:
        exact = len(orjson.dumps(data)) <= 4096 and orjson.loads(orjson.dumps(data)) == data
    except Exception:
        return
    if exact:
        assert data == copy


def test_fields_with_cycles_end() -> None:
    """E-10: a structure that contains itself is cut off."""
    loop: dict[str, Any] = {}
    loop["loop"] = loop
    assert orjson.dumps(data_copy(loop, 16384))
    assert {"a": [1, 2]} == data_copy({"a": (1, 2)}, 4096)
    assert {"a": 1.5} == data_copy({"a": numpy.float64(1.5)}, 4096)
    assert {"cut", "bytes"} == set(data_copy({"a": "x" * 5000}, 4096) or ())
