"""Arrays of every kind on their way to a worker and back, and objects that were put: as any pickle would bring them."""

from __future__ import annotations

import array
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rxtasks import PayloadError, TaskService
from tests.chaos.conftest import Pool
from tests.chaos.handlers import give_back, one_object, pid_with, twice
from tests.chaos.support import LONG, service

COUNT = 100_000


def same(one: Any, other: Any) -> bool:
    """Equal in type, form and content."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        alike = (one.dtype, one.shape, one.flags.writeable, one.flags.f_contiguous)
        if alike != (other.dtype, other.shape, other.flags.writeable, other.flags.f_contiguous):
            return False
        if isinstance(one, np.ma.MaskedArray) and not np.array_equal(one.mask, other.mask):
            return False
        if one.dtype.hasobject:
            return all(map(same, one.ravel().tolist(), other.ravel().tolist()))
        return one.tobytes() == other.tobytes()
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def _read_only() -> Any:
    made = np.arange(COUNT, dtype="f8")
    made.flags.writeable = False
    return made


def _mapped(path: Path) -> Any:
    made = np.memmap(path / "mapped", dtype="f8", mode="w+", shape=(COUNT,))
    made[:] = np.arange(COUNT)
    return made


_BASE = np.arange(COUNT, dtype="f8")
_RECORDS = np.zeros(COUNT, dtype=[("a", "i4"), ("b", "f8"), ("c", "U3")])
_KINDS: dict[str, Any] = {
    **{kind: np.ones(4 * COUNT, "u1").repeat(8)[: COUNT * np.dtype(kind).itemsize].view(kind)
       for kind in ("?", "i1", ">i4", "f2", "c16", "M8[ns]", "m8[s]", "S7", "V8")},
    "Fortran": np.asfortranarray(_BASE.reshape(100, -1)),
    "transposed": _BASE.reshape(100, -1).T,
    "every third": _BASE[::3],
    "backwards": _BASE[::-1],
    "no dimension": np.array(5.0),
    "empty": np.empty((0, 5)),
    "records": _RECORDS,
    "a field": _RECORDS["b"],
    "recarray": _RECORDS.view(np.recarray),
    "objects": np.array([1, "a", None] * COUNT, dtype=object),
    "arrays in an array": np.array([_BASE, _BASE[:3], None], dtype=object),
    "masked": np.ma.array(_BASE, mask=_BASE % 2 == 0),
    "broadcast": np.broadcast_to(np.arange(1000.0), (200, 1000)),
    "read-only": _read_only(),
    "array.array": array.array("d", [1.0]) * COUNT,
    "bytearray": bytearray(b"x") * (8 * COUNT),
    "text": "é" * (8 * COUNT),
    "nested": {"l": [_BASE + each for each in range(5)], "t": (_BASE, [_read_only(), {"z": _BASE[::2]}])},
    "many small": [np.full(10, each) for each in range(3000)],
}  # fmt: skip


@pytest.mark.parametrize("kind", _KINDS)
def test_a_value_comes_back_as_pickle_would_bring_it(shared: Pool, kind: str) -> None:
    """E-20: type, order, content, and whether it can be written to, there and back."""
    tasks, _ = shared
    value = _KINDS[kind]
    assert same(pickle.loads(pickle.dumps(value, 5)), tasks.submit(give_back, value).result(LONG))


def test_a_mapped_file_comes_as_its_content(shared: Pool, tmp_path: Path) -> None:
    """E-20: a numpy.memmap, which is no file of the worker's."""
    tasks, _ = shared
    assert same(np.arange(COUNT, dtype="f8"), np.array(tasks.submit(give_back, _mapped(tmp_path)).result(LONG)))


def test_the_same_array_twice_is_one_array_there(shared: Pool) -> None:
    """E-20: identity within the arguments of a call stays, large or small."""
    tasks, _ = shared
    for size in (10, 10 * COUNT):
        value = np.ones(size)
        assert tasks.submit(one_object, value, [value, {"a": value}]).result(LONG)


class Counted:
    """Notes each time that it is rebuilt, and where."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return _rebuilt, (self.path,)


def _rebuilt(path: str) -> Counted:
    with open(path, "a") as file:
        file.write(f"{os.getpid()}\n")
    return Counted(path)


def test_what_was_put_is_rebuilt_once_in_each_worker(tmp_path: Path) -> None:
    """E-20: counted where it happens, over 200 tasks that have it as argument and within another one."""
    path = str(tmp_path / "rebuilt")
    with service(2) as (tasks, _), tasks.put(Counted(path)) as handle:
        pids = {tasks.submit(pid_with, handle, [handle]).result(LONG) for _ in range(20)}
        pids |= {tracker.result(LONG) for tracker in [tasks.submit(pid_with, handle, k=handle) for _ in range(180)]}
        rebuilt = Path(path).read_text().split()
        assert sorted(rebuilt) == sorted({str(pid) for pid in pids})


@pytest.fixture(scope="module")
def limited() -> Iterator[TaskService]:
    tasks = TaskService(1, echo=None, max_payload=2**20)
    tasks.start()
    yield tasks
    tasks.stop(force=True)


@pytest.mark.parametrize("make", [bytes, bytearray, "x".__mul__, lambda size: np.zeros(size, "u1")])
def test_the_limit_is_a_limit_to_the_byte(limited: TaskService, make: Any) -> None:
    """R26: the largest argument that fits goes down, the largest result that fits comes back, and one byte more is refused."""
    low, high = 0, 2**20 + 1
    while high - low > 1:  # where it lies depends on the head of the pickle
        middle = (low + high) // 2
        try:
            limited.submit(len, make(middle))
            low = middle
        except PayloadError:
            high = middle
    assert 2**20 - 512 < low < 2**20
    assert limited.submit(len, make(low)).result(LONG) == low
    with pytest.raises(PayloadError, match=r"would take \d+ bytes; allowed are 1048576"):
        limited.submit(len, make(low + 1))
    # A result has no tuple around it: what fits as an argument fits as a result.
    assert len(limited.submit(give_back, make(low)).result(LONG)) == low
    with pytest.raises(PayloadError, match=r"the result would take \d+ bytes; allowed are 1048576"):
        limited.submit(twice, make(low // 2 + 1000)).result(LONG)
