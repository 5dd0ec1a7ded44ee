"""exact_bytes is exact_json without the copy."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rxtasks.wire.payload import exact_bytes, exact_json

_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary(max_size=4)
    | st.just("(null")
    | st.just(())
)


def _values(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=4)
        | st.tuples(inner)
        | st.frozensets(st.integers(), max_size=2)
    )


@given(st.recursive(_LEAVES, _values, max_leaves=20).filter(lambda value: isinstance(value, list | dict)))
def test_it_says_what_exact_json_says(value: Any) -> None:
    """Q-09: a value is sent in place only where it comes back with equal types, NaN and tuples included."""
    found = exact_json(value)
    assert (None if found is None else found[0]) == exact_bytes(value)
