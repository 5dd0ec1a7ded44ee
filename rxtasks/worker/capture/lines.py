"""loguru, tapped: a sink of ours in its core, and the logger that a task's context gives out.

loguru takes 30 ms to import and half the tasks never log, so nothing here imports it: if it is there it is tapped at
once, else when somebody imports it.
"""

from __future__ import annotations

import contextlib
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
    """The tap of loguru. At most one sink of it is in loguru's core, whoever imports loguru and begins attempts when."""

    def __init__(self, tap: Tap) -> None:
        self._tap = tap
        self._hook: _ImportHook | None = None
        self._sink: Sink | None = None
        self._factory: Callable[[TaskContext], Any] | None = None

    def install(self) -> None:
        if "loguru" in sys.modules:
            self._connect()
        else:
            self._hook = _ImportHook("loguru", self._connect)
            sys.meta_path.insert(0, self._hook)

    def uninstall(self) -> None:
        if self._hook is not None:
            self._hook.leave()
        if self._sink is not None:
            self._sink.detach()
        self._hook = self._sink = self._factory = None

    @property
    def in_place(self) -> bool:
        """False when somebody removed the sink (`logger.remove()`), or there is none although loguru is imported."""
        sink = self._sink
        return sink.attached if sink is not None else self._hook is not None

    def refresh(self) -> None:
        """Set the sink again, if it is not there."""
        if self._sink is None:
            self._connect()
        elif not self._sink.attached:
            self._sink.attach()

    def _connect(self) -> None:
        """Tap loguru once it is imported; in a worker its console sink goes."""
        with self._tap.setting:
            logger = getattr(sys.modules.get("loguru"), "logger", None)
            if logger is None or self._sink is not None or not self._tap.active:
                return  # still being imported; tapped already; the taps were taken out while it was imported
            if self._tap.worker_log is not None and 0 in logger._core.handlers:
                logger.remove(0)
            sink = Sink(logger, self._take)
            sink.attach()
            self._sink = sink

    def from_sink(self, record: Any) -> bool:
        """Take a record that loguru's own sink writes to a stream; return False if it is no record."""
        if not isinstance(record, dict) or "message" not in record:
            return False
        sink = self._sink
        if self._tap.active and (sink is None or not sink.attached):
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
        factory = self._factory
        if factory is None:
            import loguru  # taps it

            from rxtasks.worker.capture.tasklogger import logger_factory

            self._connect()  # the hook was passed over
            factory = self._factory = logger_factory(self._tap, loguru.logger, self._sink_id)
        return factory(context)

    def _sink_id(self) -> int:
        sink = self._sink
        return -1 if sink is None else sink.id


class _ImportHook:
    """Calls `then` when the module has been imported."""

    def __init__(self, name: str, then: Callable[[], None]) -> None:
        self._name = name
        self._then = then

    def leave(self) -> bool:
        """Hook no more; False if it did not. It may be called by two threads at once."""
        with contextlib.suppress(ValueError):
            sys.meta_path.remove(self)
            return True
        return False

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != self._name or not self.leave():
            return None
        from importlib.util import find_spec

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
