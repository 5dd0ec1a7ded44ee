"""What secrets have revealed is taken out of texts."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxtasks.worker.redaction import Redactor


@given(st.text(min_size=4), st.text(), st.text())
def test_a_value_is_nowhere_in_what_is_left(value: str, before: str, after: str) -> None:
    """Security rule 3: as it is, as its repr and as JSON, in texts, keys and lists."""
    redactor = Redactor()
    redactor.add(value)
    for said in (value, repr(value), json.dumps(value)):
        assert redactor.text(value) == "***" or value not in redactor.text(before + said + after)
    told = redactor.data({"a": [value, {value: 1}], "b": (value, None, 3, True)})
    assert told == {"a": ["***", {"***": 1}], "b": ["***", None, 3, True]}


def test_lines_of_a_value_are_values() -> None:
    """A key in PEM is logged line by line."""
    redactor = Redactor()
    redactor.add("-----BEGIN\nMIIEvQIBADANBgkqhkiG\nshort\n-----END")
    assert "key: ***" == redactor.text("key: MIIEvQIBADANBgkqhkiG")
    assert "a short -----END" == redactor.text("a short -----END")


@pytest.mark.parametrize("value", ["", "a", "abc"])
def test_a_short_value_is_not_looked_for(value: str) -> None:
    """It would stand in every other line by chance."""
    redactor = Redactor()
    redactor.add(value)
    assert "abc a" == redactor.text("abc a")


def test_one_value_may_be_part_of_another() -> None:
    """The longer one goes first, so that nothing of it is left."""
    redactor = Redactor()
    for value in ("pass", "password-1234"):
        redactor.add(value)
    assert "*** and ***" == redactor.text("password-1234 and pass")


def test_an_exception_that_holds_a_value_is_told_and_not_rebuilt() -> None:
    """Neither in its text nor in the pickled exception."""
    redactor = Redactor()
    redactor.add("hunter2-hunter2")
    plain = {"type": "ValueError", "message": "no", "pickle": True, "object": object()}
    assert (plain, b"blob") == redactor.error(plain, b"blob")
    assert ({"type": "ValueError", "message": "no"}, None) == redactor.error(plain, b"..hunter2-hunter2..")
    said = {**plain, "message": "hunter2-hunter2 is wrong"}
    assert ({"type": "ValueError", "message": "*** is wrong"}, None) == redactor.error(said, b"blob")
