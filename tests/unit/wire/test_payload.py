"""Values on their way: exact JSON or not, pickled or refused with the path, described without harm."""

from __future__ import annotations

import collections
import enum
import marshal
import threading
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import attrs
import numpy as np
import pytest

from rxtasks.errors import PayloadError
from rxtasks.wire.callables import CallableTable
from rxtasks.wire.payload import describe, dump_args, dump_value, exact_json, load_args, loads


class Colour(enum.IntEnum):
    RED = 1


class Text(str):
    pass


@attrs.define
class Point:
    x: int
    y: Any = None


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, False, 0, -1, 2**63 - 1, -(2**63), 2**64 - 1, 0.0, -0.0, 1e300, 5e-324),
        *("", "\0\u2028\U0001f600", [], {}, [[[]]], {"": {"a": [None, True, 1, 1.0, "x"]}}, {"b": 1, "a": 2}),
    ],
    ids=repr,
)
def test_what_json_carries_exactly_comes_back_the_same(value: Any) -> None:
    """Q-09: the copy is equal with equal types and order, down to the sign of zero."""
    found = exact_json(value)
    assert found is not None
    assert marshal.dumps(found[1], 2) == marshal.dumps(value, 2)


@pytest.mark.parametrize(
    "value",
    [
        *((), (1, 2), [(1,)], {1: 2}, {"a": {None: 1}}, {1, 2}, b"x", bytearray(b"x"), 1j, range(3), [[1, (2,)]]),
        *(float("nan"), float("inf"), [float("nan")], 2**64, -(2**63) - 1, "\ud800", ["\ud800"], {"\ud800": 1}),
        *(Colour.RED, [Colour.RED], Text("x"), [Text("x")], {Text("x"): 1}, Point(1), object(), float),
        *(collections.OrderedDict(a=1), collections.defaultdict(list), datetime.now(UTC)),
        *(np.float64(1.5), np.array([1.0]), {"a": np.arange(3)}),
    ],
    ids=repr,
)
def test_what_json_would_change_or_refuse_is_not_exact(value: Any) -> None:
    """Q-09: no tuple becomes a list, no enum a number, no date a text."""
    assert exact_json(value) is None


def test_a_copy_is_nobody_elses() -> None:
    """R7: the handler may go on changing what it returned."""
    value = {"a": [1]}
    found = exact_json(value)
    assert found is not None
    value["a"].append(2)
    assert found[1] == {"a": [1]}


def test_the_limit_counts_bytes_of_json() -> None:
    """Q-09: the bound is on what stands in the event."""
    assert exact_json("x" * 98, 100) is not None
    assert exact_json("x" * 99, 100) is None
    assert exact_json("\u00e9" * 60, 100) is None
    assert exact_json(["x" * 97], 100) is None


def test_values_too_deep_or_without_end_are_not_exact_and_harm_nobody() -> None:
    """R21: 200 levels pass; deeper ones, cycles and very deep tuples are refused without a crash of the process."""
    value: Any = 1
    for _ in range(200):
        value = [value]
    assert exact_json(value) is not None
    assert exact_json([value]) is None
    cycle: list[Any] = []
    cycle.append(cycle)
    assert exact_json(cycle) is None
    for levels in (300, 1000, 3000, 100_000):
        deep: Any = 1
        for _ in range(levels):
            deep = (deep,)
        assert exact_json([deep]) is None
        assert exact_json({"a": {"b": [deep]}}) is None


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((), {}), ((1, "x", None), {"a": [1]}), ((Point(1, (2,)),), {"when": datetime.now(UTC)}), ((lambda: 5,), {})],
    ids=["none", "plain", "objects", "lambda"],
)
def test_arguments_come_back(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """R26: anything that pickle or cloudpickle carries travels."""
    got_args, got_kwargs = load_args(dump_args(args, kwargs))
    if args and callable(args[0]):
        assert got_args[0]() == 5
    else:
        assert (got_args, got_kwargs) == (args, kwargs)


def test_arrays_come_back() -> None:
    """R26: large buffers too."""
    array = np.arange(500_000, dtype=np.float64)
    assert np.array_equal(loads(dump_value(array)), array)
    assert np.array_equal(loads(dump_value({"a": array, "f": lambda: 1}))["a"], array)


def test_objects_of_main_travel_by_value() -> None:
    """N-01: a class of __main__ is another one in the worker, so it goes along."""
    space: dict[str, Any] = {"__name__": "__main__"}
    exec("class Job:\n    def __init__(self, n): self.n = n\n    def double(self): return 2 * self.n", space)
    (job,), _ = load_args(dump_args((space["Job"](21),), {}))
    assert job.double() == 42


class Holder:
    __slots__ = ("inner", "other")

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.other = 1


@pytest.mark.parametrize(
    ("args", "kwargs", "path"),
    [
        ((threading.Lock(),), {}, "args[0]"),
        ((1, {"x": [0, threading.Lock()]}), {}, "args[1]['x'][1]"),
        ((), {"job": SimpleNamespace(lock=threading.Lock())}, "kwargs['job'].lock"),
        ((Holder({"k": threading.Lock()}),), {}, "args[0].inner['k']"),
        (((1, Point(1, threading.Lock())),), {}, "args[0][1].y"),
        ((iter([1]), (i for i in range(3))), {}, "args[1]"),
    ],
    ids=["plain", "nested", "attribute", "slots", "attrs", "generator"],
)
def test_the_culprit_is_named_by_its_path(args: Any, kwargs: dict[str, Any], path: str) -> None:
    """Q-09: the message and `path` lead to the place in the value."""
    with pytest.raises(PayloadError) as caught:
        dump_args(args, kwargs)
    assert caught.value.path == path
    assert path in str(caught.value)


def test_what_would_arrive_as_something_else_is_refused(tmp_path: Path) -> None:
    """R26: cloudpickle makes a StringIO of an open file, and bytes of a memoryview."""
    path = tmp_path / "text"
    path.write_text("text", "utf-8")
    with path.open(encoding="utf-8") as file:
        for value, advice in ((file, "pass its path"), (memoryview(b"x"), r"bytes\(view\)")):
            with pytest.raises(PayloadError, match=advice) as caught:
                dump_args((), {"x": [value]})
            assert "kwargs['x'][0]" == caught.value.path
            with pytest.raises(PayloadError, match=advice):
                dump_value(value, what="result")
            with pytest.raises(PayloadError, match=advice):
                CallableTable().key_for(lambda value=value: value)


def test_a_closure_over_a_lock_names_the_variable() -> None:
    """R26: what a function refers to is part of the path."""
    lock = threading.Lock()
    with pytest.raises(PayloadError) as caught:
        dump_value({"f": lambda: lock}, what="result")
    assert caught.value.path == "result['f'].<lock>"


def test_a_value_that_refers_to_itself_travels_and_one_that_is_endless_is_refused() -> None:
    """R26: a RecursionError is a PayloadError, not a crash."""
    cycle: list[Any] = [1]
    cycle.append(cycle)
    back = loads(dump_value(cycle))
    assert back[1] is back
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(PayloadError):
        dump_value(deep)


class Refuses:
    def __reduce__(self) -> Any:
        raise ValueError("I stay here")


class Bursts:
    def __reduce__(self) -> Any:
        return (int, ("not a number",))


def test_the_reason_of_a_refusal_is_told() -> None:
    """R26: the object's own words are in the message."""
    with pytest.raises(PayloadError, match="I stay here") as caught:
        dump_value([Refuses()], what="checkpoint")
    assert caught.value.path == "checkpoint[0]"


def test_a_value_that_cannot_be_rebuilt_is_a_payload_error() -> None:
    """R26: it fails where it is opened, with the reason."""
    with pytest.raises(PayloadError, match="cannot be rebuilt here: ValueError"):
        loads(dump_value(Bursts()), what="result")
    with pytest.raises(PayloadError):
        loads(b"\x80\x05garbage")
    with pytest.raises(PayloadError):
        load_args(b"")


def test_a_payload_over_the_limit_is_refused_with_its_size() -> None:
    """R26: sizes are checked where the value is produced."""
    with pytest.raises(PayloadError, match="allowed are 100"):
        dump_value("x" * 200, limit=100)
    with pytest.raises(PayloadError, match="arguments"):
        dump_args(("x" * 200,), {}, limit=100)


class Loud:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class Plain:
    pass


@pytest.mark.parametrize(
    ("value", "kind", "preview"),
    [
        ((1, 2), "tuple", "(1, 2)"),
        ({"b": 1, "a": (2,)}, "dict", "{'b': 1, 'a': (2,)}"),
        (b"ab", "bytes", "b'ab'"),
        (PurePosixPath("/x"), "pathlib.PurePosixPath", "PurePosixPath('/x')"),
        (1j, "complex", "1j"),
    ],
)
def test_a_preview_is_the_repr(value: Any, kind: str, preview: str) -> None:
    """E-03: type and preview say what the value is."""
    assert describe(value) == (kind, preview)


def test_a_preview_is_short_whatever_the_value() -> None:
    """R6: at most 200 characters, and quickly, of values of any size."""
    for value in (
        "x" * 10**7,
        b"x" * 10**7,
        list(range(10**6)),
        {i: "y" * 1000 for i in range(1000)},
        10**10000,
        [["z" * 99] * 9] * 9,
    ):
        assert len(describe(value)[1]) <= 200
    assert describe("x" * 500)[1].startswith("'xxx")


def test_a_preview_never_raises_and_shows_no_address() -> None:
    """R7: it is the same in every process."""
    assert describe(Loud())[1] == f"<{__name__}.Loud: its repr raised RuntimeError>"
    assert "0x" not in describe(Plain())[1]
    assert "0x" not in describe([Plain()])[1]
    describe("\ud800")[1].encode()
