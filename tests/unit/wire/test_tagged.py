"""Exact JSON with tags: what is refused and where, what classes must be, what a stored row looks like."""

from __future__ import annotations

import dataclasses
import enum
import functools
import sys
import types
from collections import OrderedDict, namedtuple
from datetime import UTC, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import orjson
import pytest

from rxtasks.errors import PayloadError
from rxtasks.wire.tagged import dump_tagged, dump_tagged_args, load_tagged, load_tagged_args


class Colour(enum.Enum):
    RED = (1, 2)
    CRIMSON = (1, 2)
    BLUE = "b"


class Level(enum.IntEnum):
    LOW = 1


class Mode(enum.Flag):
    READ = 1
    WRITE = 2


class Word(enum.StrEnum):
    A = "a"


@dataclasses.dataclass
class Shot:
    name: str
    at: datetime
    extra: Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class Cold:
    x: int
    y: tuple[int, ...] = dataclasses.field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        assert type(self) is not Cold or self.x < 10**6, "ran again"


@attrs.frozen
class Spot:
    x: int = attrs.field(converter=int)
    _hidden: Any = None
    made: int = attrs.field(default=0, init=False)


@attrs.define(slots=False)
class Loose:
    x: int

    @functools.cached_property
    def twice(self) -> int:
        return 2 * self.x


class Outer:
    @dataclasses.dataclass
    class Inner:
        v: int


Pair = namedtuple("Pair", "a b")


class List(list):  # type: ignore[type-arg]
    pass


class Odd(tzinfo):
    def utcoffset(self, when: datetime | None) -> timedelta:
        return timedelta(0)

    def dst(self, when: datetime | None) -> None:
        return None

    def tzname(self, when: datetime | None) -> str:
        return "odd"


@attrs.frozen(cache_hash=True)
class Hashed:
    x: int


@dataclasses.dataclass
class Slotted(Outer.Inner):
    __slots__ = ("more",)


def nothing() -> None:
    return None


@pytest.mark.parametrize(
    "value",
    [
        (),
        (1, [2, (3,)]),
        {1, 2, "x"},
        frozenset({(1, 2)}),
        b"\x00\xff",
        {1: "a", None: "b", (1, 2): "c", 2.5: "d"},
        {"$t": "tuple", "v": [1]},
        {"a": {"$t": 1}},
        float("inf"),
        -0.0,
        2**64,
        -(10**4000),
        "\ud800x",
        {"\udcff": 1},
        Decimal("1.10"),
        Decimal("-0E+3"),
        UUID(int=5),
        Path("/tmp/x"),
        Path("."),
        PureWindowsPath("c:\\x"),
        PurePosixPath("a/\udcff"),
        datetime(2024, 1, 2, 3, 4, 5, 6),
        datetime(2024, 1, 2, tzinfo=UTC),
        datetime(2024, 1, 2, tzinfo=timezone(timedelta(hours=-3, seconds=1), "odd")),
        datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
        datetime.min,
        datetime.max,
        time(1, 2, fold=1),
        time(1, 2, 3, 4, tzinfo=UTC),
        datetime(2024, 1, 2).date(),
        timedelta.max,
        timedelta(microseconds=-1),
        Colour.RED,
        Colour.BLUE,
        Level.LOW,
        Mode.READ | Mode.WRITE,
        Mode(0),
        Word.A,
        {Word.A: Level.LOW},
        Shot("x", datetime(2024, 1, 2), {1}),
        Cold(1, y=(1, 2)),
        Spot(1, hidden=(2,)),
        Loose(4),
        Outer.Inner(5),
    ],
    ids=lambda value: ascii(value)[:50],
)
def test_a_value_comes_back_equal_with_equal_types(value: Any) -> None:
    """Q-09: exactly, types included, through plain JSON."""
    data = dump_tagged(value)
    back = load_tagged(data)
    orjson.loads(data)
    assert type(back) is type(value)
    assert back == value
    assert isinstance(value, set) or repr(back) == repr(value)
    (args, kwargs) = load_tagged_args(dump_tagged_args((value,), {"k": value}))
    assert (args, kwargs) == ((value,), {"k": value})
    assert type(args[0]) is type(kwargs["k"]) is type(value)


def test_integers_of_any_length_come_back() -> None:
    """Q-09: also beyond the digits that Python converts."""
    assert load_tagged(dump_tagged([10**5000])) == [10**5000]


def test_nan_comes_back() -> None:
    """Q-09: NaN, alone and inside."""
    back = load_tagged(dump_tagged([float("nan"), Decimal("NaN")]))
    assert back[0] != back[0]
    assert back[1].is_nan()


def test_what_json_carries_stands_as_it_is() -> None:
    """Q-09: plain values are plain JSON in the store."""
    assert dump_tagged({"a": [1, None, "x"]}) == b'{"a":[1,null,"x"]}'
    assert dump_tagged((1,)) == b'{"$t":"tuple","v":[1]}'
    assert dump_tagged_args((1, "a"), {"b": 2}) == b'[[1,"a"],{"b":2}]'


def test_equal_sets_are_stored_the_same() -> None:
    """Q-09: the form does not depend on hash order."""
    assert dump_tagged({"b", "a", "c"}) == dump_tagged({"c", "b", "a"}) == b'{"$t":"set","v":["a","b","c"]}'


def test_rebuilding_runs_neither_init_nor_validators() -> None:
    """Security rule 2: reading a row runs no code of the class."""
    data = dump_tagged(Cold(1)).replace(b'"x":1', b'"x":1000001')
    assert load_tagged(data).x == 1_000_001


def test_a_cached_property_is_not_state() -> None:
    """Q-09: what was computed is computed again."""
    value = Loose(4)
    assert value.twice == 8
    assert load_tagged(dump_tagged(value)).twice == 8


def with_attribute() -> Any:
    value = Outer.Inner(1)
    value.note = "x"  # type: ignore[attr-defined]
    return value


def with_slot() -> Any:
    value: Any = Slotted(1)
    value.more = 2
    return value


def incomplete() -> Any:
    value = Outer.Inner(1)
    del value.v
    return value


def local() -> Any:
    @dataclasses.dataclass
    class Hidden:
        x: int = 1

    return Hidden()


def cycle() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (object(), "value"),
        ([1, {"a": (object(),)}], "value[1]['a'][0]"),
        ({1: object()}, "value[1]"),
        ({(1, 2): {3: 1j}}, "value[(1, 2)][3]"),
        (Shot("x", datetime(2024, 1, 1), [nothing]), "value.extra[0]"),
        (Pair(1, 2), "value"),
        (List([1]), "value"),
        (OrderedDict(a=1), "value"),
        ([bytearray(b"x")], "value[0]"),
        (datetime(2024, 1, 1, tzinfo=Odd()), "value"),
        (with_attribute(), "value.note"),
        (with_slot(), "value.more"),
        (incomplete(), "value.v"),
        (local(), "value"),
        ({1j}, "value{...}"),
        (Hashed(1), "value._attrs_cached_hash"),
        (int, "value"),
        (nothing, "value"),
        (ValueError("x"), "value"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_tag_is_refused_with_the_path(value: Any, path: str) -> None:
    """Q-09: never changed silently, and the culprit is named."""
    with pytest.raises(PayloadError) as caught:
        dump_tagged(value)
    assert caught.value.path == path
    assert path in str(caught.value)


def test_paths_of_arguments_begin_with_the_argument() -> None:
    """Q-09: args[i] or kwargs['name']."""
    for args, kwargs, path in (((1, object()), {}, "args[1]"), ((), {"a": [object()]}, "kwargs['a'][0]")):
        with pytest.raises(PayloadError) as caught:
            dump_tagged_args(args, kwargs)
        assert caught.value.path == path


def test_too_deep_too_large_and_endless_values_are_refused() -> None:
    """R21: depth and size have bounds, cycles do not hang."""
    value: Any = (1,)
    for _ in range(99):
        value = (value,)
    assert load_tagged(dump_tagged(value)) == value
    for bad in (cycle(), [value]):
        with pytest.raises(PayloadError, match="200 levels"):
            dump_tagged(bad)
    with pytest.raises(PayloadError, match="allowed are 100"):
        dump_tagged("x" * 100, limit=100)
    with pytest.raises(PayloadError, match="allowed are 100"):
        dump_tagged(("x" * 100,), limit=100)
    deep: Any = 1
    for _ in range(100_000):
        deep = (deep,)
    with pytest.raises(PayloadError):
        dump_tagged(deep)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b'{"$t":"new"}',
        b'{"$t":5}',
        b'{"$t":"tuple"}',
        b'{"$t":"tuple","v":5}',
        b'{"$t":"set","v":[[1]]}',
        b'{"$t":"bytes","v":"*"}',
        b'{"$t":"int","v":"xyz"}',
        b'{"$t":"date","v":"today"}',
        b'{"$t":"datetime","v":"2024-01-01","z":{"key":"No/Where"},"f":0}',
        b'{"$t":"decimal","v":"x"}',
        b'{"$t":"path","c":"system","v":"x"}',
        b'{"$t":"dict","v":[[1]]}',
        b'{"$t":"enum","c":"os:system","v":"x"}',
        b'{"$t":"enum","c":"builtins:int","v":"x"}',
        b'{"$t":"object","c":"builtins:int","v":{}}',
        b'{"$t":"object","c":"subprocess:Popen","v":{"args":"x"}}',
        b'{"$t":"object","c":"antigravity:X","v":{}}',
        b"[" * 300 + b"]" * 300,
    ],
)
def test_what_is_no_tagged_json_is_a_payload_error(data: bytes) -> None:
    """Q-09: a damaged or hostile row fails its task, imports nothing and runs nothing."""
    with pytest.raises(PayloadError):
        load_tagged(data)
    with pytest.raises(PayloadError):
        load_tagged_args(data)
    assert "antigravity" not in sys.modules


def test_a_class_that_is_not_imported_or_has_changed_is_named() -> None:
    """Q-09: an old row and a new program: a clear error, not a wrong value."""
    module = types.ModuleType("rxtasks_test_stored")
    sys.modules[module.__name__] = module
    try:
        exec("import dataclasses\n@dataclasses.dataclass\nclass Row:\n    a: int\n", module.__dict__)
        data = dump_tagged([module.Row(1)])
        exec("@dataclasses.dataclass\nclass Row:\n    a: int\n    b: int = 2\n", module.__dict__)
        with pytest.raises(PayloadError, match=r"value\[0\].*have changed"):
            load_tagged(data)
    finally:
        del sys.modules[module.__name__]
    with pytest.raises(PayloadError, match="not imported here"):
        load_tagged(data)
