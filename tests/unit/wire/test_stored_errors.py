"""Exceptions as a durable store keeps them: exact arguments, classes that are imported, and no code of a row's choice."""

from __future__ import annotations

import decimal
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxtasks.errors import PayloadError, ServiceStopped, TaskTimeout, WorkerCrashed
from rxtasks.lifecycle.errorinfo import TaskErrorInfo
from rxtasks.wire.stored_errors import restore_exception, store_exception
from rxtasks.worker.failure import type_name


class Plain(Exception):
    pass


class Picky(Exception):
    """Its __init__ takes other arguments than it passes on, and must not run again."""

    made = 0

    def __init__(self, user: str, *, code: int) -> None:
        Picky.made += 1
        super().__init__(f"{user} failed with {code}")
        self.user = user
        self.code = code


class Guarded(Exception):
    """Code of its own in every place."""

    ran: ClassVar[list[str]] = []

    def __new__(cls, *args: Any) -> Guarded:
        cls.ran.append("new")
        return super().__new__(cls, *args)

    def __setattr__(self, name: str, value: Any) -> None:
        self.ran.append(name)
        super().__setattr__(name, value)

    @property
    def trap(self) -> str:
        return ""

    @trap.setter
    def trap(self, value: Any) -> None:
        self.ran.append("trap")


class Local(OSError):
    def __init__(self, path: str) -> None:
        super().__init__(2, "gone", path)
        self.where = path


class Slotted(Exception):
    __slots__ = ("extra",)


class Stateful(Exception):
    def __getstate__(self) -> Any:
        return {"secret": 1}


class Hostile(Exception):
    @property
    def __dict__(self) -> NoReturn:  # type: ignore[override]
        raise SystemExit


def travel(error: BaseException) -> BaseException | None:
    data = store_exception(error)
    return None if data is None else restore_exception(data, TaskErrorInfo(type_name(type(error)), str(error)))


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8"))
    | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.tuples(inner) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.lists(VALUES, max_size=4), st.dictionaries(st.from_regex(r"[a-z]{1,6}", fullmatch=True), VALUES, max_size=3))
def test_arguments_and_attributes_come_back_equal_and_of_equal_types(
    args: list[Any], attributes: dict[str, Any]
) -> None:
    """E-13: whatever tagged JSON carries."""
    error = Plain(*args)
    error.__dict__.update(attributes)
    again = travel(error)
    assert type(again) is Plain
    assert repr((again.args, again.__dict__)) == repr((error.args, error.__dict__))


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no", 1, (2, {3})),
        KeyError("k"),
        FileNotFoundError(2, "gone", "/nowhere"),
        OSError(28, "full"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        ImportError("m", name="n", path="/p"),
        StopIteration(7),
        Plain(datetime(2026, 1, 2, tzinfo=UTC), decimal.Decimal("1.10"), Path("/x"), 2**100),
        json.JSONDecodeError("bad", "[1", 2),
        TaskTimeout(3.0, 1.0, 2.0),
        WorkerCrashed("w", None, 9, "because"),
        PayloadError("no", "args[0]"),
        ServiceStopped(),
    ],
)
def test_common_exceptions_come_back(error: Exception) -> None:
    """E-13: with class, arguments, text and fields."""
    again: Any = travel(error)
    assert (type(again), again.args, str(again), again.__dict__) == (
        type(error),
        error.args,
        str(error),
        error.__dict__,
    )
    for name in ("errno", "filename", "name", "path", "value", "reason"):
        assert getattr(again, name, None) == getattr(error, name, None)


def test_no_code_of_the_class_runs() -> None:
    """Rule 2 of the security rules: neither __init__, __new__, __setattr__ nor a property; attributes come back."""
    picky = Picky("ann", code=3)
    made = Picky.made
    again: Any = travel(picky)
    assert (again.args, again.user, again.code, Picky.made) == (picky.args, "ann", 3, made)
    guarded = Guarded("x")
    guarded.word = 1  # type: ignore[attr-defined]
    guarded.__dict__["trap"] = 5
    Guarded.ran.clear()
    assert type(travel(guarded)) is Guarded and Guarded.ran == []
    assert type(travel(Hostile("x"))) is Hostile
    local: Any = travel(Local("/x"))
    assert (local.errno, local.filename, local.where) == (2, "/x", "/x")


def test_a_group_comes_back_with_its_members() -> None:
    """E-13: or not at all, if one of them cannot."""
    again: Any = travel(ExceptionGroup("several", [ValueError(1), ExceptionGroup("inner", [Plain("x")])]))
    assert [repr(error) for error in again.exceptions] == ["ValueError(1)", "ExceptionGroup('inner', [Plain('x')])"]
    assert travel(ExceptionGroup("several", [ValueError(object())])) is None


def test_what_is_not_exact_or_no_known_exception_is_not_rebuilt() -> None:
    """R26: then TaskFailed shows it."""

    class Inside(Exception):
        pass

    lost: Any = Plain("x")
    lost.kept, lost.handle = 1, object()
    again: Any = travel(lost)
    assert again.__dict__ == {"kept": 1}
    for error in (Plain(object()), Inside(), Slotted(), Stateful(), KeyboardInterrupt(), Plain("x" * 2**20)):
        assert travel(error) is None, error


@pytest.mark.parametrize(
    "row",
    [
        b"",
        b"[]",
        b"{}",
        b'["os","system",["true"],{},null]',
        b'["builtins","SystemExit",[1],{},null]',
        b'["builtins","KeyboardInterrupt",[],{},null]',
        b'["builtins","ValueError",5,{},null]',
        b'["builtins","ValueError",[],5,null]',
        b'["builtins","ValueError",[],{},[1]]',
        b'["not_there_at_all","Error",[],{},null]',
        b'["builtins","UnicodeDecodeError",[1],{},null]',
        b'["builtins","OSError",[],{"errno":{"$t":"what"}},null]',
        b"\x80\x05cposix\nsystem\n.",
    ],
)
def test_a_row_that_was_not_written_here_does_no_harm(row: bytes) -> None:
    """Rule 2: nothing is imported, called or unpickled for it."""
    for kind in ("os.system", "SystemExit", "KeyboardInterrupt", "ValueError", "not_there_at_all.Error", "OSError"):
        assert restore_exception(row, TaskErrorInfo(kind, "")) is None
    assert "not_there_at_all" not in sys.modules


def test_the_row_and_what_the_task_said_of_it_name_one_class() -> None:
    """Rule 2: a row cannot turn one error into another."""
    data = store_exception(ValueError("x"))
    assert data is not None and restore_exception(data, TaskErrorInfo("KeyError", "x")) is None
