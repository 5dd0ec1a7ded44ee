"""A task's loguru logger: bound to task and worker, and short on the way to the task's log.

loguru spends 7 us on a line: caller, time, process, thread, and formatting under a lock. For a plain message whose only
taker is the task's log none of that is needed, so such a line goes there directly. Everything else (opt, patch,
contextualize, sinks that a user added) takes loguru's own way and reaches the task's log through the tap's sink.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rxtasks.worker.capture.levels import NAMES
from rxtasks.worker.capture.lines import BoundId
from rxtasks.worker.normalise import clean_text, short_repr

if TYPE_CHECKING:
    from rxtasks.worker.capture.tap import Tap
    from rxtasks.worker.context import TaskContext

__all__ = ["logger_factory"]

#: loguru's options of a logger by place: exception, depth, record, lazy, colors, raw, capture, patchers, extra.
_PLACES = 9


def logger_factory(tap: Tap, logger: Any, sink_id: Callable[[], int]) -> Callable[[TaskContext], Any]:
    """Return what makes the logger of a context; plain `logger.bind` where loguru is not as known."""

    def bound(context: TaskContext) -> Any:
        task_id = BoundId(context.task_id)
        task_id.context = context
        return logger.bind(task_id=task_id, worker_id=context.worker_id)

    try:
        import loguru._logger as home

        known = (
            type(logger) is home.Logger
            and len(logger._options) == _PLACES
            and home.Logger._log.__code__.co_varnames[:7]
            == ("self", "level", "from_decorator", "options", "message", "args", "kwargs")
            and all(hasattr(logger._core, name) for name in ("handlers", "patcher", "extra", "activation_list"))
        )
        contextual: Any = home.context
    except Exception:
        known = False
    if not known:
        return bound

    core = logger._core

    class TaskLogger(home.Logger):
        """loguru's Logger with the short way."""

        def _log(
            self, level: Any, from_decorator: bool, options: Any, message: Any, args: Any, kwargs: dict[str, Any]
        ) -> None:
            exception, depth, record, lazy, colors, raw, capture, patchers, extra = options
            plain = not (exception or record or lazy or colors or raw or patchers)
            if (
                plain
                and level in NAMES
                and not core.patcher
                and not core.extra
                and not core.activation_list
                and not contextual.get()
                and _only_ours(core.handlers, sink_id())
            ):
                context = extra["task_id"].context
                text = str(message)
                if args or kwargs:
                    try:
                        text = text.format(*args, **kwargs)
                    except Exception:
                        text = f"{text} {short_repr(args)} {short_repr(kwargs)}"
                fields = tap.clean_fields(kwargs) if kwargs and capture else None
                tap.say(None if context._way.closed else context, level, clean_text(text), "log", fields)
                return
            moved = (exception, depth + 1, record, lazy, colors, raw, capture, patchers, extra)
            super()._log(  # type: ignore[no-untyped-call]
                level, from_decorator, moved, message, args, kwargs
            )

    def make(context: TaskContext) -> Any:
        task_id = BoundId(context.task_id)
        task_id.context = context
        options = (*logger._options[:-1], {"task_id": task_id, "worker_id": context.worker_id})
        return TaskLogger(core, *options)  # type: ignore[no-untyped-call]

    return make


def _only_ours(handlers: dict[int, Any], ours: int) -> bool:
    """Say whether nobody but the tap's sink, and loguru's default one, would take a record."""
    count = len(handlers)
    return (
        count == 0
        or (count == 1 and (ours in handlers or 0 in handlers))
        or (count == 2 and ours in handlers and 0 in handlers)
    )
