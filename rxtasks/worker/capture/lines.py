"""loguru, tapped: a sink of ours in its core, and the logger that a task's context gives out.

loguru takes 30 ms to import and half the tasks never log, so nothing here imports it: if it is there it is tapped at
once, else when somebody imports it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING, Any

from rxtasks.worker.capture.levels import NAMES, level_name
from rxtasks.worker.capture.sink import Sink
from rxtasks.worker.failure import format_traceback
from rxtasks.worker.normalise import clean_text

if TYPE_CHECKING:
    from rxtasks.worker.capture.tap import Tap
    from rxtasks.worker.context import TaskContext

__all__ = ["BoundId", "Lines"]


class BoundId(str):
    """A task's id as bound to its logger; leads a record back to the task from any thread."""

    __slots__ = ("context",)

    context: TaskContext


class Lines:
    """The tap of loguru."""

    def __init__(self, tap: Tap) -> None:
        self._tap = tap
        self._hook: _ImportHook | None = None
        self._logger: Any = None
        self._sink: Sink | None = None
        self._factory: Callable[[TaskContext], Any] | None = None

    def install(self) -> None:
        if "loguru" in sys.modules:
            self._connect()
        else:
            self._hook = _ImportHook("loguru", self._connect)
            sys.meta_path.insert(0, self._hook)

    def uninstall(self) -> None:
        if self._hook is not None and self._hook in sys.meta_path:
            sys.meta_path.remove(self._hook)
        if self._sink is not None:
            self._sink.detach()
        self._logger = self._sink = self._factory = None

    def refresh(self) -> None:
        """Set the sink again if somebody removed it (`logger.remove()`)."""
        if self._sink is not None and not self._sink.attached:
            self._sink.attach()

    def _connect(self) -> None:
        """Tap loguru, which is imported; in a worker its console sink goes."""
        logger = getattr(sys.modules.get("loguru"), "logger", None)
        if logger is None:
            return
        self._logger = logger
        if self._tap.worker_log is not None and 0 in logger._core.handlers:
            logger.remove(0)
        self._sink = Sink(logger, self._take)
        self._sink.attach()

    def from_sink(self, record: Any) -> bool:
        """Take a record that loguru's own sink writes to a stream; return False if it is no record."""
        if not isinstance(record, dict) or "message" not in record:
            return False
        if self._tap.active and (self._sink is None or not self._sink.attached):
            self._take(record)
        return True

    def _take(self, record: Any) -> None:
        tap = self._tap
        extra = record["extra"]
        bound = extra.get("task_id")
        if type(bound) is BoundId:
            context: TaskContext | None = bound.context
            if context is not None and context._way.closed:
                context = None
            stream = "log"
            extra = {key: value for key, value in extra.items() if key not in ("task_id", "worker_id")}
        else:
            context, stream = tap.live(), "loguru"
        if context is None and tap.worker_log is None:
            return
        level = record["level"]
        name = level.name if level.name in NAMES else level_name(level.no)
        text = record["message"]
        failed = record["exception"]
        if failed is not None and failed.value is not None:
            text = f"{text}\n{format_traceback(failed.value).rstrip()}"
        tap.say(context, name, clean_text(text), stream, tap.clean_fields(extra))

    def logger(self, context: TaskContext) -> Any:
        """Return the logger of a task."""
        if self._logger is None:
            import loguru  # noqa: F401 - taps it

            if self._logger is None:  # the hook was passed over
                self._connect()
        if self._factory is None:
            from rxtasks.worker.capture.tasklogger import logger_factory

            self._factory = logger_factory(self._tap, self._logger, lambda: -1 if self._sink is None else self._sink.id)
        return self._factory(context)


class _ImportHook:
    """Calls `then` when the module has been imported."""

    def __init__(self, name: str, then: Callable[[], None]) -> None:
        self._name = name
        self._then = then

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != self._name or self not in sys.meta_path:
            return None
        from importlib.util import find_spec

        sys.meta_path.remove(self)
        spec = find_spec(name)
        loader: Any = None if spec is None else spec.loader
        if loader is None:
            sys.meta_path.insert(0, self)
            return spec
        execute = loader.exec_module

        def exec_module(module: Any) -> None:
            execute(module)
            self._then()

        loader.exec_module = exec_module
        return spec
