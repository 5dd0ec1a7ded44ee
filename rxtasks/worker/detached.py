"""The context of a handler that is called as a plain function: it works, and nobody listens."""

from __future__ import annotations

import shutil
import time
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from rxtasks.wire.message import Assignment
from rxtasks.worker import tempdirs
from rxtasks.worker.context import TaskContext

if TYPE_CHECKING:
    from pathlib import Path

    from loguru import Logger

__all__ = ["detached_context", "with_context"]


class _Nowhere:
    """Takes events and drops them."""

    closed = True

    def log(self, level: str, message: str, stream: str, fields: dict[str, Any] | None = None) -> bool:
        return False

    def progress(
        self, current: float, total: float | None, message: str | None, data: dict[str, Any] | None
    ) -> None: ...

    def output(self, value: Any) -> None: ...

    def revealed(self, value: str) -> None: ...


class _Alone:
    """What a detached context needs: a temp_dir that goes with it, plain loguru, checkpoints in memory."""

    worker_id: str | None = None

    def __init__(self) -> None:
        self._state: Any = None

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    def make_temp_dir(self, context: TaskContext) -> Path:
        path = tempdirs.make(None, "detached", context.attempt)
        weakref.finalize(context, shutil.rmtree, path, True)
        return path

    def keep_artifact(self, context: TaskContext, path: Path) -> Path:
        base = path if path.is_absolute() else context.temp_dir
        return tempdirs.keep(path, base, None, "detached")

    def save_checkpoint(self, context: TaskContext, state: Any) -> None:
        self._state = state

    def restored(self, context: TaskContext) -> Any:
        return self._state

    def kept_steps(self, context: TaskContext) -> dict[str, bytes]:
        return {}

    def load_step(self, context: TaskContext, data: bytes) -> Any:
        raise LookupError("a handler that is called as a plain function has no steps from before")

    def save_step(self, context: TaskContext, name: str, value: Any) -> None: ...

    def resource(self, name: str) -> Any:
        raise LookupError(f"no resource {name!r}: the handler was called as a plain function, outside of a worker")

    def logger(self, context: TaskContext) -> Logger:
        from loguru import logger

        return logger


def detached_context() -> TaskContext:
    """Return a context that belongs to no task."""
    assignment = Assignment(
        token=0, fence=0, task_id="detached", attempt=1, first_seq=1, function="", credit=0, form="o", payload=((), {})
    )
    return TaskContext(assignment, _Nowhere(), _Alone())


def with_context(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """Return the arguments of a plain call, with a detached context where `function` wants one and none was given."""
    from rxtasks.worker.handler import plan_handler

    handler = _PLANS.get(function)
    if handler is None:
        handler = _PLANS[function] = plan_handler(function)
    if handler.context_name is None:
        return args, kwargs
    if any(isinstance(value, TaskContext) for value in args):
        return args, kwargs
    return handler.inject(args, kwargs, detached_context())


_PLANS: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
