"""Objects that were put, without workers: handles, where they are found, and when the content is let go of."""

from __future__ import annotations

import copy
import gc
import pickle
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import attrs
import pytest

from rxtasks import Handle, TaskService
from rxtasks.engine.puts import Puts
from rxtasks.errors import PayloadError
from rxtasks.wire.payload import load_args, pack_args
from rxtasks.wire.sealed import SealedFiles


class Pair(NamedTuple):
    one: Any
    two: Any


@dataclass(frozen=True)
class Record:
    value: Any
    other: int = 0


@attrs.frozen
class Frozen:
    value: Any


class Odd(tuple):  # type: ignore[type-arg]
    """A tuple that is made in another way."""

    def __new__(cls) -> Odd:
        return super().__new__(cls, (1, 2))


def puts(**more: Any) -> Puts:
    return Puts(SealedFiles(), **{"processes": True, "local": True, "limit": 2**20, **more})


def test_a_handle_in_any_container_is_replaced_and_nothing_else_is_copied() -> None:
    """E-20: for workers in this process, whose arguments are handed over as they are."""
    made = puts()
    content = object()
    handle = Handle(made.put(b"")._put)  # type: ignore[arg-type]
    assert handle._put is not None
    handle._put.value = content
    untouched: dict[str, Any] = {"big": [1, 2, Odd()]}
    given = (
        handle,
        [handle, 1],
        (handle,),
        {"a": {"b": handle}},
        OrderedDict(c=handle),
        Pair(handle, 2),
        Record(handle, 3),
        Frozen([handle]),
        {handle, 4},
        untouched,
    )
    (args, kwargs) = made.resolved(given, {"k": [handle]})
    assert args == (
        content,
        [content, 1],
        (content,),
        {"a": {"b": content}},
        OrderedDict(c=content),
        Pair(content, 2),
        Record(content, 3),
        Frozen([content]),
        {content, 4},
        untouched,
    )
    assert {"k": [content]} == kwargs
    assert args[-1] is untouched
    assert [type(each) for each in given[1:]] == [type(each) for each in args[1:]]
    assert given[1] == [handle, 1], "the caller's own list is not changed"


def test_arguments_without_a_handle_are_the_callers_own() -> None:
    """E-20: the very objects, cycles and deep nesting too."""
    made = puts()
    cycle: list[Any] = [1]
    cycle.append(cycle)
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    for value in (cycle, deep, {"x": (1, [2])}, Record([1]), Odd()):
        args, _ = made.resolved((value,), {})
        assert args[0] is value
    while deep:  # taken apart by hand: its own end would be too deep for the interpreter
        deep = deep.pop()


def test_the_content_lives_as_long_as_the_handle_or_a_task() -> None:
    """E-20: the service is told when nobody holds it."""
    told: list[str] = []
    files = SealedFiles()
    made = Puts(files, processes=True, local=False, limit=2**20)
    made.on_gone = told.append
    handle = made.put(bytearray(100))
    task = handle._put
    assert task is not None
    assert not told
    key = task.key
    handle.release()
    gc.collect()
    assert [] == told
    del task
    assert [key] == told
    assert not made


def test_handles_travel_as_keys_and_only_within_arguments() -> None:
    """E-20: the same key for the same handle; copied or pickled elsewhere it says what it is for."""
    made = puts()
    handle, other = made.put([1]), made.put([2])
    found: dict[str, Any] = {}
    packed = pack_args(([handle, {"x": other}, handle],), {}, SealedFiles().make, persist=made.keys(found))
    assert {handle._put, other._put} == set(found.values())
    (args, _) = load_args(packed, made.find)
    assert ([[1], {"x": [2]}, [1]],) == args
    assert args[0][0] is args[0][2]
    for way in (pickle.dumps, copy.copy):
        with pytest.raises(PayloadError, match="service that gave it"):
            way(handle)
    handle.release()
    with pytest.raises(PayloadError, match="released"):
        pickle.dumps(handle)


def test_arguments_by_value_may_have_handles_too() -> None:
    """E-20: beside what only cloudpickle can write."""
    made = puts()
    with made.put([1]) as handle:
        found: dict[str, Any] = {}
        packed = pack_args((lambda: 7, handle), {}, SealedFiles().make, persist=made.keys(found))
        (function, value), _ = load_args(packed, made.find)
        assert (7, [1], 1) == (function(), value, len(found))


def test_what_is_not_good_is_said_with_its_place() -> None:
    """E-20, R26: released, of another service, over the limit, or nothing that travels."""
    made, other = puts(), puts()
    foreign = other.put(1)
    own = made.put(1)
    own.release()
    for handle, reason in ((own, "released"), (foreign, "another service")):
        with pytest.raises(PayloadError, match=reason) as caught:
            made.resolved(([{"x": handle}],), {})
        assert "args[0][0]['x']" == caught.value.path
    with pytest.raises(PayloadError, match="the object would take"):
        made.put(bytes(2**20))
    with pytest.raises(PayloadError, match="lock"):
        import threading

        made.put([threading.Lock()])


def test_a_handle_says_what_it_stands_for() -> None:
    """E-20: its type, never its content."""
    service = TaskService(1)
    with service.put({"secret": 1}) as handle:
        assert "<Handle of dict>" == repr(handle)
        assert not handle.released
    assert ("<Handle, released>", True) == (repr(handle), handle.released)
