"""@task and where a handler gets its context."""

from __future__ import annotations

import asyncio
import functools
import inspect
import pickle
from typing import TYPE_CHECKING, Any, Optional

import cloudpickle
import pytest

from rxtasks.errors import SettingsError, UnknownHandler
from rxtasks.lifecycle.options import TaskOptions
from rxtasks.worker.context import TaskContext, current_task
from rxtasks.worker.handler import Kind, plan_handler, wants_context
from rxtasks.worker.registry import Registry, default_registry, registration_of, task

if TYPE_CHECKING:
    import rxtasks as rx
    from rxtasks import TaskContext as Context  # noqa: F401


@task
def plain(a: int, b: int = 2) -> int:
    return a + b


@task("custom.name", timeout=3, tags="x")
def wanting(a: int, ctx: TaskContext) -> tuple[int, str]:
    ctx.progress(1)
    ctx.advance()
    ctx.emit({"x": 1})
    ctx.log.info("to nobody")
    return a, ctx.task_id


@task
async def wanting_async(ctx: TaskContext, a: int) -> tuple[int, str]:
    return a, ctx.task_id


def test_task_registers_and_stays_callable() -> None:
    """E-17: @task gives a stable name and defaults; the function stays callable, a context parameter filled in."""
    assert 5 == plain(3)
    assert (3, "detached") == wanting(3)
    assert (3, "detached") == asyncio.run(wanting_async(3))
    assert inspect.iscoroutinefunction(wanting_async)
    name = f"{__name__}:plain"
    assert default_registry.get(name) is plain
    found = registration_of(wanting)
    assert found is not None
    assert ("custom.name", TaskOptions(timeout=3, tags=("x",))) == (found.name, found.options)
    assert "wanting" == wanting.__name__
    assert current_task() is None


def test_a_given_context_is_taken() -> None:
    """E-09: a plain call may pass a context of its own."""
    given: list[TaskContext] = []

    @task(registry=Registry())
    def inner(a: int, ctx: TaskContext) -> bool:
        given.append(ctx)
        return True

    inner(1)
    assert inner(1, given[0]) and inner(1, ctx=given[0])
    assert given[1] is given[0] and given[2] is given[0]


def test_a_detached_context_has_a_temp_dir_of_its_own() -> None:
    """E-09: also called directly, a handler has all of its context."""

    @task(registry=Registry())
    def inner(ctx: TaskContext) -> Any:
        ctx.temp_dir.joinpath("a").write_text("x")
        ctx.checkpoint({"a": 1})
        assert {"a": 1} == ctx.restored
        with pytest.raises(LookupError):
            ctx.resource("x")
        ctx.raise_if_cancelled()
        assert [1, 2] == list(ctx.track([1, 2]))
        return ctx.temp_dir

    import gc

    path = inner()
    gc.collect()
    assert not path.exists()


def test_names_are_not_taken_twice() -> None:
    """E-17: another function cannot take a name; the same one, defined again, can."""
    registry = Registry()

    def make() -> Any:
        @task("one", registry=registry)
        def same() -> None: ...

        return same

    make()
    again = make()
    assert registry.get("one") is again
    with pytest.raises(SettingsError, match="already"):

        @task("one", registry=registry)
        def other() -> None: ...

    with pytest.raises(UnknownHandler, match="did you mean one"):
        registry.get("onee")
    with pytest.raises(SettingsError, match="no 'timout'"):
        task("x", timout=3)
    with pytest.raises(SettingsError):
        task(3)  # type: ignore[call-overload]
    assert ["one"] == registry.names() and "one" in registry and 1 == len(registry)


def test_registered_functions_travel() -> None:
    """N-01: what @task returns pickles by reference, and by value where it is not importable."""
    assert pickle.loads(pickle.dumps(plain)) is plain
    assert pickle.loads(pickle.dumps(wanting)) is wanting

    @task(registry=Registry(), priority=3)
    def local(a: int, ctx: TaskContext) -> tuple[int, str]:
        return a, ctx.task_id

    copy = pickle.loads(cloudpickle.dumps(local))
    assert (1, "detached") == copy(1)
    assert 3 == copy.__rxtasks__.options.priority


def direct(a: int, ctx: TaskContext) -> None: ...


def text(ctx: "TaskContext", a: int) -> None: ...  # noqa: UP037


def optional(ctx: Optional[TaskContext] = None) -> None: ...  # noqa: UP045


def union(a: int, *, ctx: TaskContext | None = None) -> None: ...


def checking(a: int, ctx: rx.TaskContext | None = None) -> None: ...


def unresolved(a: Nowhere, b: no.where.at_all, ctx: TaskContext) -> None: ...  # type: ignore[name-defined] # noqa: F821


def other_type(ctx: int, b: Nowhere) -> None: ...  # type: ignore[name-defined] # noqa: F821


def positional(ctx: TaskContext, /, a: int) -> None: ...


def none(ctx: Any) -> None: ...


def stars(*args: TaskContext, **kwargs: TaskContext) -> None: ...


@functools.wraps(direct)
def wrapped(*args: Any, **kwargs: Any) -> None: ...


class Callable:
    def __call__(self, a: int, ctx: TaskContext) -> None: ...

    def method(self, ctx: TaskContext) -> None: ...


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (direct, ("ctx", 1)),
        (text, ("ctx", 0)),
        (optional, ("ctx", 0)),
        (union, ("ctx", -1)),
        (checking, ("ctx", 1)),
        (unresolved, ("ctx", 2)),
        (other_type, (None, -1)),
        (positional, ("ctx", 0)),
        (none, (None, -1)),
        (stars, (None, -1)),
        (wrapped, ("ctx", 1)),
        (Callable(), ("ctx", 1)),
        (Callable().method, ("ctx", 0)),
        (functools.partial(direct, 1), ("ctx", 0)),
        (print, (None, -1)),
        (int, (None, -1)),
    ],
)
def test_the_context_parameter_is_found(function: Any, expected: Any) -> None:
    """E-09: by annotation: the class, a string, Optional, a name under TYPE_CHECKING; the unresolvable is ignored."""
    assert expected == wants_context(function)


def test_the_context_goes_to_its_place() -> None:
    """E-09: positional arguments fill the other parameters; a context that was passed is left alone."""
    context: Any = object.__new__(TaskContext)
    assert ((1, context), {}) == plan_handler(direct).inject((1,), {}, context)
    assert ((), {"a": 1, "ctx": context}) == plan_handler(direct).inject((), {"a": 1}, context)
    assert ((context, 1), {}) == plan_handler(text).inject((1,), {}, context)
    assert ((context, 1), {}) == plan_handler(positional).inject((1,), {}, context)
    assert ((1,), {"ctx": context}) == plan_handler(union).inject((1,), {}, context)
    assert ((), {"ctx": None}) == plan_handler(optional).inject((), {"ctx": None}, context)


async def coroutine() -> None: ...


def generator() -> Any:
    yield 1


async def async_generator() -> Any:
    yield 1


class AsyncCallable:
    async def __call__(self) -> None: ...


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (plain, Kind.SYNC),
        (wanting_async, Kind.ASYNC),
        (coroutine, Kind.ASYNC),
        (functools.partial(coroutine), Kind.ASYNC),
        (AsyncCallable(), Kind.ASYNC),
        (generator, Kind.GENERATOR),
        (async_generator, Kind.ASYNC_GENERATOR),
        (lambda: 1, Kind.SYNC),
        (dict, Kind.SYNC),
    ],
)
def test_the_kind_of_a_handler_is_seen(function: Any, kind: Kind) -> None:
    """E-11: functions, coroutine functions, generators and async generators, callables and partials of them."""
    assert kind == plan_handler(function).kind
