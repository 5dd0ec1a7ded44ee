"""Hooks in a worker: functions defined under "hook:<name>" or "hook:<name>:<anything>".

worker_start and worker_stop are called when a Hook message says so; before_task and after_task around every task, with
the task's context where they want it. A failing hook is reported in the worker's log and harms nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rxtasks.worker.context import TaskContext
from rxtasks.worker.failure import format_traceback
from rxtasks.worker.functions import Functions

__all__ = ["Hooks"]


class Hooks:
    """The hooks among a worker's functions."""

    def __init__(self, functions: Functions, log: Callable[[str, str, str, dict[str, Any] | None], None]) -> None:
        self._functions = functions
        self._log = log
        #: True while before_task or after_task is defined.
        self.per_task = False
        self.changed()

    def changed(self) -> None:
        """Look again at which hooks are defined."""
        self.per_task = any(self._keys("before_task")) or any(self._keys("after_task"))

    def _keys(self, name: str) -> list[str]:
        return [key for key in self._functions.table if key == f"hook:{name}" or key.startswith(f"hook:{name}:")]

    def call(self, name: str, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> str | None:
        """Call all hooks of `name`; return what the first failure was, or None."""
        return self._each(name, args, kwargs or {}, None)

    def around(self, name: str, context: TaskContext) -> None:
        """Call the hooks before_task or after_task of one task."""
        self._each(name, (), {}, context)

    def _each(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], context: TaskContext | None
    ) -> str | None:
        trouble: str | None = None
        for key in self._keys(name):
            try:
                handler = self._functions.handler(key)
                given, named = (args, kwargs) if context is None else handler.inject(args, kwargs, context)
                handler.function(*given, **named)
            except BaseException as error:
                trouble = trouble or f"hook {name}: {type(error).__name__}: {error}"
                self._log("ERROR", f"hook {name} failed\n{format_traceback(error)}", "log", None)
        return trouble
