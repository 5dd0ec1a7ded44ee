"""Exceptions taken apart and rebuilt: only known Exception classes, without running their __init__."""

from __future__ import annotations

import pickle
import sys
import threading
import types
from typing import Any

import pytest

from rxtasks.errors import PayloadError, SettingsError, TaskTimeout, WorkerCrashed
from rxtasks.lifecycle.errorinfo import TaskErrorInfo
from rxtasks.wire.payload import type_name
from rxtasks.wire.remote_errors import dump_exception, find_class, load_exception


class Plain(Exception):
    pass


class Picky(Exception):
    """Stock pickle cannot rebuild it: __init__ takes other arguments than it passes on."""

    made = 0

    def __init__(self, user: str, *, code: int) -> None:
        Picky.made += 1
        super().__init__(f"{user} failed with {code}")
        self.user = user
        self.code = code


class Local(OSError):
    def __init__(self, path: str) -> None:
        super().__init__(2, "gone", path)
        self.where = path


class Own(Exception):
    def __init__(self, a: int, b: int) -> None:
        super().__init__("own")
        self.a, self.b = a, b

    def __reduce__(self) -> Any:
        return (Own, (self.a, self.b))


class Outer:
    class Inner(ValueError):
        pass


def travel(error: BaseException) -> BaseException | None:
    data = dump_exception(error)
    return None if data is None else load_exception(data, TaskErrorInfo(type_name(type(error)), str(error)))


def unicode_error() -> UnicodeDecodeError:
    with pytest.raises(UnicodeDecodeError) as caught:
        b"\xff".decode()
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        KeyError("k"),
        Plain(),
        Plain(1, "two", (3,)),
        FileNotFoundError(2, "No such file", "/x"),
        OSError(1, "a", "f", None, "g"),
        ImportError("no", name="m", path="p"),
        unicode_error(),
        SyntaxError("bad", ("f", 1, 2, "text")),
        StopIteration(5),
        Outer.Inner("in"),
        SettingsError("s"),
        TaskTimeout(1.0, 2.0, 3.0),
        WorkerCrashed("w", signal=9),
        PayloadError("m", "args[0]"),
        ExceptionGroup("g", [ValueError(1), Plain(2)]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_exception_comes_back_with_class_arguments_and_attributes(error: Exception) -> None:
    """E-13: what an except clause looks at is the same."""
    back = travel(error)
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert repr(back) == repr(error)
    for name in ("errno", "filename", "filename2", "name", "path", "value", "lineno", "elapsed", "signal"):
        assert getattr(back, name, None) == getattr(error, name, None)


def test_an_init_with_other_arguments_is_not_run_again() -> None:
    """E-13: an exception that stock pickle cannot rebuild is rebuilt."""
    error = Picky("ann", code=7)
    error.add_note("seen at noon")
    made = Picky.made
    back = travel(error)
    assert isinstance(back, Picky)
    assert (back.user, back.code, str(back), back.__notes__) == ("ann", 7, "ann failed with 7", ["seen at noon"])
    assert Picky.made == made


def test_a_subclass_of_oserror_keeps_its_errno() -> None:
    """E-13: what the built-in class keeps outside of args travels."""
    back = travel(Local("/x"))
    assert isinstance(back, Local)
    assert (back.errno, back.filename, back.where) == (2, "/x", "/x")


def test_a_class_that_says_how_it_is_pickled_is_pickled_so() -> None:
    """E-13: its own way wins."""
    back = travel(Own(1, 2))
    assert isinstance(back, Own)
    assert (back.a, back.b) == (1, 2)


class Several(ExceptionGroup[Exception]):
    def __new__(cls, count: int) -> Several:
        made: Several = super().__new__(cls, "several", [Picky("u", code=number) for number in range(count)])
        made.count = count
        return made

    count: int


def test_the_exceptions_of_a_group_are_rebuilt_one_by_one() -> None:
    """E-13: also those that stock pickle cannot rebuild, in a group of a group, of a class that makes its own members."""
    back = travel(ExceptionGroup("all", [Picky("ann", code=7), Several(2)]))
    assert isinstance(back, ExceptionGroup)
    first, second = back.exceptions
    assert isinstance(first, Picky) and 7 == first.code
    assert isinstance(second, Several) and (2, [0, 1]) == (second.count, [error.code for error in second.exceptions])  # type: ignore[attr-defined]


def test_a_group_with_a_member_that_cannot_travel_is_none() -> None:
    """E-13: not a smaller group."""
    assert travel(ExceptionGroup("all", [ValueError(1), Plain(threading.Lock())])) is None


def test_attributes_that_cannot_travel_are_left_behind() -> None:
    """E-13: an exception that holds a response with a lock is still that exception."""
    error = Plain("x")
    error.lock, error.url = threading.Lock(), "http://x"  # type: ignore[attr-defined]
    back = travel(error)
    assert isinstance(back, Plain)
    assert back.url == "http://x"  # type: ignore[attr-defined]
    assert not hasattr(back, "lock")


def test_arguments_that_cannot_travel_make_it_unrebuildable() -> None:
    """E-13: then TaskFailed shows it."""
    assert dump_exception(Plain(threading.Lock())) is None


def test_only_exceptions_of_classes_with_a_name_are_taken_apart() -> None:
    """E-13: neither SystemExit nor a class within a function."""

    class Hidden(Exception):
        pass

    assert dump_exception(SystemExit(1)) is None
    assert dump_exception(KeyboardInterrupt()) is None
    assert dump_exception(Hidden()) is None


def test_a_class_whose_module_is_not_imported_is_not_rebuilt_and_not_imported() -> None:
    """Security rule 2 (E-13): nothing is imported for an error."""
    module = types.ModuleType("rxtasks_test_vanishing")
    exec("class Gone(Exception): pass", module.__dict__)
    sys.modules[module.__name__] = module
    try:
        data = dump_exception(module.Gone("x"))
    finally:
        del sys.modules[module.__name__]
    assert data is not None
    assert load_exception(data, TaskErrorInfo("rxtasks_test_vanishing.Gone", "x")) is None
    assert module.__name__ not in sys.modules


@pytest.mark.parametrize("name", [("builtins", "SystemExit"), ("builtins", "int"), ("os", "system"), ("nowhere", "X")])
def test_what_is_no_imported_exception_class_is_not_rebuilt(name: tuple[str, str]) -> None:
    """Security rule 2 (E-13): subclasses of Exception only."""
    data = pickle.dumps((*name, pickle.dumps(("x",)), None))
    assert load_exception(data, TaskErrorInfo(name[1], "x")) is None


def test_an_exception_of_another_class_than_announced_is_not_rebuilt() -> None:
    """E-13: what events show and what result() raises are one class."""
    data = dump_exception(ValueError("x"))
    assert data is not None
    assert load_exception(data, TaskErrorInfo("KeyError", "x")) is None
    assert load_exception(b"garbage", TaskErrorInfo("ValueError", "x")) is None


def test_finding_a_class_runs_no_code_of_the_module() -> None:
    """Security rule 2: no module __getattr__, no descriptor."""
    module = types.ModuleType("rxtasks_test_lazy")
    module.__getattr__ = lambda name: pytest.fail("ran")  # type: ignore[method-assign]
    sys.modules[module.__name__] = module
    try:
        assert find_class(module.__name__, "Anything") is None
        assert find_class("collections", "OrderedDict.fromkeys") is None
    finally:
        del sys.modules[module.__name__]
