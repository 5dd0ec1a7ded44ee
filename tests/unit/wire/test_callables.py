"""Functions on their way: by name where that leads to them, else by value, and never a stale one."""

from __future__ import annotations

import base64
import functools
import json
import math
import os
import subprocess
import sys
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rxtasks.errors import PayloadError, UnknownHandler
from rxtasks.wire.callables import CallableTable, Entry, importable_name
from rxtasks.wire.loading import load_callable
from rxtasks.wire.message import Define
from rxtasks.worker.context import TaskContext
from rxtasks.worker.registry import Registry, task

REGISTRY = Registry()


def plain(x: int) -> int:
    return x + 1


class Tools:
    @staticmethod
    def double(x: int) -> int:
        return 2 * x

    def method(self) -> str:
        return "method"

    @classmethod
    def make(cls) -> str:
        return cls.__name__


def undecorated(x: int) -> int:
    return x


@task(registry=REGISTRY)
def handler(x: int) -> int:
    return x + 2


@task("named", registry=REGISTRY)
def with_context(x: int, ctx: TaskContext) -> int:
    return x + 3


@functools.wraps(undecorated)
def wrapper(x: int) -> int:
    return -x


HIDDEN = undecorated
undecorated = wrapper


def main_space(source: str, **names: Any) -> dict[str, Any]:
    space: dict[str, Any] = {"__name__": "__main__", **names}
    exec(source, space)
    return space


def back(entry: Entry) -> Callable[..., Any]:
    return load_callable(entry.define())


@pytest.mark.parametrize(
    "function", [plain, Tools, Tools.double, Tools.method, json.dumps, math.sqrt, len, handler, with_context], ids=repr
)
def test_an_importable_callable_travels_by_name(function: Any) -> None:
    """W-04: nothing is pickled; the worker imports the same object."""
    entry = CallableTable().key_for(function)
    assert entry == Entry(f"r:{entry.ref}", f"{function.__module__}:{function.__qualname__}")
    assert back(entry) is function


def test_the_function_inside_a_handler_travels_as_the_handler() -> None:
    """W-04: the name leads to what @task made of the function."""
    inner = with_context.__rxtasks__.function
    assert inner is not with_context
    assert importable_name(inner) == importable_name(with_context)


def test_a_function_whose_name_leads_to_something_else_travels_by_value() -> None:
    """R7: a wrapper by another decorator is not run in the function's place."""
    entry = CallableTable().key_for(HIDDEN)
    assert entry.ref is None
    assert back(entry)(5) == 5


def make_adder(n: int) -> Callable[[int], int]:
    return lambda x: x + n


class Counter:
    def __init__(self, start: int) -> None:
        self.start = start

    def plus(self, x: int) -> int:
        return self.start + x

    def __call__(self, x: int) -> int:
        return self.plus(x)


@pytest.mark.parametrize(
    "function",
    [lambda x: x + 10, make_adder(10), Counter(10), Counter(10).plus, functools.partial(max, 4)],
    ids=["lambda", "closure", "object", "bound", "partial"],
)
def test_everything_else_travels_by_value(function: Any) -> None:
    """N-01: lambdas, closures, callable objects, bound methods and partials."""
    entry = CallableTable().key_for(function)
    assert entry.ref is None
    assert entry.key.startswith("b:")
    assert back(entry)(5) == function(5)


def test_a_function_of_main_travels_by_value_with_its_globals() -> None:
    """N-01: what a script or notebook defines runs in a worker."""
    space = main_space("K = 5\ndef g(x): return x * K\ndef f(x): return g(x) + 1")
    entry = CallableTable().key_for(space["f"])
    assert entry.ref is None
    assert back(entry)(3) == 16


def test_a_handler_of_main_travels_by_value() -> None:
    """N-01: @task in a notebook, with and without a context."""
    source = """
from rxtasks.worker.context import TaskContext
from rxtasks.worker.registry import task
@task(registry=registry)
def plain(x): return x + 1
@task(registry=registry)
def wants(x, ctx: TaskContext): return x + 2
"""
    space = main_space(source, registry=Registry())
    for name, expected in (("plain", 2), ("wants", 3)):
        entry = CallableTable().key_for(space[name])
        assert entry.ref is None
        registered: Any = back(entry)
        assert registered.__rxtasks__.function(1, *([None] if name == "wants" else [])) == expected


def test_what_was_written_is_used_again_while_nothing_it_refers_to_has_changed() -> None:
    """W-04: a second submit of the same function costs no pickling."""
    table = CallableTable()
    source = """
import math
K = (5, 'a')
class E(Exception): pass
def g(x): return x + K[0]
def f(x, y=1): return g(math.floor(x)) + y
"""
    function = main_space(source)["f"]
    first = table.key_for(function)
    assert table.key_for(function) is first
    adder = make_adder(3)
    assert table.key_for(adder) is table.key_for(adder)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("K = 7", 13),
        ("def g(x): return x - 1", 4),
        ("g.__defaults__ = (100,)", 107),
        ("g.__code__ = (lambda x, y=1: 0).__code__", 1),
        ("f.__kwdefaults__ = {'z': 50}", 57),
    ],
)
def test_edited_globals_take_effect_at_the_next_submit(change: str, expected: int) -> None:
    """N-01: re-running a cell that changes what a function uses changes what workers run."""
    space = main_space("K = 2\ndef g(x, y=1): return x + K + y\ndef f(x, *, z=1): return g(x) + z")
    table = CallableTable()
    assert back(table.key_for(space["f"]))(4) == 8
    exec(change, space)
    assert back(table.key_for(space["f"]))(4) == expected == space["f"](4)


def test_a_global_that_appears_later_takes_effect() -> None:
    """N-01: a name that was missing when the function was written is watched too."""
    space = main_space("def f(): return helper()")
    table = CallableTable()
    with pytest.raises(NameError):
        back(table.key_for(space["f"]))()
    exec("def helper(): return 9", space)
    assert back(table.key_for(space["f"]))() == 9


def test_a_cell_that_changes_takes_effect() -> None:
    """N-01: closures too."""

    def outer() -> tuple[Callable[[], int], Callable[[int], None]]:
        n = 1

        def get() -> int:
            return n

        def put(value: int) -> None:
            nonlocal n
            n = value

        return get, put

    get, put = outer()
    table = CallableTable()
    assert back(table.key_for(get))() == 1
    put(2)
    assert back(table.key_for(get))() == 2


@pytest.mark.parametrize("holder", ["[1]", "{'a': 1}", "type('C', (), {'a': 1})", "types.SimpleNamespace(a=1)"])
def test_what_can_change_without_being_replaced_is_written_anew_each_time(holder: str) -> None:
    """N-01: a list, an object or a class of __main__ may have been edited in place."""
    space = main_space(f"import types\nheld = {holder}\ndef f(): return repr(held)")
    table = CallableTable()
    assert table.key_for(space["f"]) is not table.key_for(space["f"])


def test_a_list_edited_in_place_takes_effect() -> None:
    """N-01: the worker sees the list as it is at the submit."""
    space = main_space("held = [1]\ndef f(): return sum(held)")
    table = CallableTable()
    assert back(table.key_for(space["f"]))() == 1
    space["held"].append(5)
    assert back(table.key_for(space["f"]))() == 6


def test_a_handler_of_main_is_written_once() -> None:
    """W-04: what @task leaves on a function does not make it look changeable."""
    space = main_space("from rxtasks.worker.registry import task\n@task(registry=r)\ndef f(): return 1", r=Registry())
    table = CallableTable()
    assert table.key_for(space["f"]) is table.key_for(space["f"])


def test_a_name_that_is_bound_anew_no_longer_stands_for_the_old_function() -> None:
    """R7: a patched module attribute is noticed."""
    module = types.ModuleType("rxtasks_test_patched")
    exec("def f(): return 1", module.__dict__)
    sys.modules[module.__name__] = module
    try:
        old = module.f
        table = CallableTable()
        assert table.key_for(old).ref == "rxtasks_test_patched:f"
        exec("def f(): return 2", module.__dict__)
        assert table.key_for(module.f).ref == "rxtasks_test_patched:f"
        assert table.key_for(old).ref is None
        assert back(table.key_for(old))() == 1
    finally:
        del sys.modules[module.__name__]


def test_mutually_recursive_functions_are_walked_once() -> None:
    """W-04: no endless recursion."""
    space = main_space("def f(n): return n and g(n - 1)\ndef g(n): return n and f(n - 1)")
    table = CallableTable()
    assert table.key_for(space["f"]) is table.key_for(space["f"])
    assert back(table.key_for(space["f"]))(3) == 0


def test_a_function_that_cannot_travel_names_what_holds_it_back() -> None:
    """R26: submit raises, nobody else."""
    lock = threading.Lock()
    with pytest.raises(PayloadError) as caught:
        CallableTable().key_for(lambda: lock)
    assert caught.value.path == "function.<lock>"
    assert "lock" in str(caught.value)


def test_the_table_is_bounded() -> None:
    """R6: functions made in a loop do not pile up."""
    table = CallableTable()
    for n in range(600):
        table.key_for(make_adder(n))
    assert len(table._known) <= 256


def test_equal_contents_have_one_key() -> None:
    """W-04: two functions that are written the same are sent to a worker once."""
    assert CallableTable().key_for(make_adder(3)).key == CallableTable().key_for(make_adder(3)).key
    assert CallableTable().key_for(make_adder(3)).key != CallableTable().key_for(make_adder(4)).key


@pytest.mark.parametrize(
    "ref", ["no.such.module:f", "json:no_such", "json:dumps.no_such", "json:__name__", ":", "json"]
)
def test_a_name_that_leads_nowhere_is_an_unknown_handler(ref: str) -> None:
    """E-13: the worker says what it could not find."""
    with pytest.raises(UnknownHandler):
        load_callable(Define("k", ref=ref))


@pytest.mark.parametrize("blob", [b"", b"garbage", b"\x80\x05K\x01."])
def test_a_content_that_is_no_function_is_a_payload_error(blob: bytes) -> None:
    """R26: it fails the task, nobody else."""
    with pytest.raises(PayloadError):
        load_callable(Define("k", blob=blob))
    with pytest.raises(UnknownHandler):
        load_callable(Define("k"))


SCRIPT = """
import base64
from rxtasks.wire.callables import CallableTable
from rxtasks.wire.payload import dump_args
FACTOR = 3
class Job:
    def __init__(self, n): self.n = n
def run(job): return job.n * FACTOR
entry = CallableTable().key_for(run)
assert entry.ref is None
print(base64.b64encode(entry.blob).decode())
print(base64.b64encode(dump_args((Job(14),), {})).decode())
"""

RUN = """
import base64, sys
from rxtasks.wire.loading import load_callable
from rxtasks.wire.message import Define
from rxtasks.wire.payload import load_args
blob, args = map(base64.b64decode, sys.stdin.read().split())
args, kwargs = load_args(args)
print(load_callable(Define("k", blob=blob))(*args, **kwargs))
assert "reactivex" not in sys.modules
"""


def test_a_function_and_a_class_of_a_script_run_in_another_process(tmp_path: Path) -> None:
    """N-01: the real thing: __main__ of one process is not __main__ of the other."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    root = str(Path(__file__).resolve().parents[3])
    environment = {**os.environ, "PYTHONPATH": root}
    made = subprocess.run([sys.executable, str(script)], capture_output=True, env=environment, timeout=60, check=True)
    assert base64.b64decode(made.stdout.split()[0])
    ran = subprocess.run(
        [sys.executable, "-c", RUN], input=made.stdout, capture_output=True, env=environment, timeout=60, check=True
    )
    assert ran.stdout.strip() == b"42"
