"""What an attempt's end is, by what its handler raised (E-12, E-13)."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Any

from rxtasks.errors import TaskCancelled
from rxtasks.lifecycle.errorinfo import TaskErrorInfo
from rxtasks.lifecycle.signals import Cancelled, Reschedule, Retry, Signal
from rxtasks.wire.payload import dump_exception
from rxtasks.worker.attempt import Attempt, Ending
from rxtasks.worker.failure import describe, own_frame, type_name
from rxtasks.worker.normalise import clean_text
from rxtasks.worker.retrying import Decision, seconds_until

__all__ = ["cancelled", "ended_by", "failed"]

#: Characters of the message in the log line of a retry: at most one unit of credit, which is kept for it.
_RETRY_TEXT = 200


def ended_by(attempt: Attempt, error: BaseException, *, in_process: bool, final: bool, durable: bool = False) -> Ending:
    """Return how an attempt ended whose handler raised `error`.

    Args:
        final: the error is no doing of the handler's, and another attempt would not help.
        durable: the error goes into a durable store.
    """
    if isinstance(error, Cancelled) or _is_async_cancel(error):
        asked = attempt.context
        reason = error.reason if isinstance(error, Cancelled) else None
        return cancelled(_text(reason) or (asked._reason if asked._cancelled else None))
    if isinstance(error, Signal) and attempt.context._cancelled:  # nobody waits for another attempt
        return cancelled(attempt.context._reason)
    if isinstance(error, Reschedule) and isinstance(error.at, datetime):
        return Ending("scheduled", delay=seconds_until(error.at))
    if isinstance(error, Retry):
        decision = attempt.retry_rule().asked(error.delay)
        if decision.retry:
            return _retrying(attempt, _info(error), None, decision, in_process, error)
        message = f"the handler asked for a retry, but no attempt is left ({attempt.retry_rule().max_attempts} in all)"
        info = _info(error)
        return Ending(
            "failed", error=TaskErrorInfo(info.type, message, None, None, info.traceback, info.cause).to_dict()
        )
    if final or (attempt.rule is None and attempt.assignment.options is None):
        return failed(error, in_process=in_process, durable=durable)
    decision = attempt.retry_rule().after(error)
    if decision.retry:
        if attempt.context._cancelled:  # nobody waits for another attempt
            return cancelled(attempt.context._reason)
        return _retrying(attempt, _info(error), error, decision, in_process, error)
    return failed(error, in_process=in_process, durable=durable)


def cancelled(reason: str | None) -> Ending:
    """Return the ending of a cancelled attempt."""
    error = TaskCancelled(reason)  # as the engine tells it of a task that was cancelled before it ran
    info = TaskErrorInfo(type_name(TaskCancelled), str(error), error.code, {"reason": reason})
    return Ending("cancelled", error=info.to_dict())


def failed(error: BaseException, *, in_process: bool, durable: bool = False) -> Ending:
    """Return the ending `failed` with `error`, and the exception itself where it can travel; for a durable store as JSON."""
    body, blob = _with_exception(_info(error), error, in_process, durable)
    return Ending("failed", error=body, error_blob=blob)


def _retrying(
    attempt: Attempt,
    info: TaskErrorInfo,
    carried: BaseException | None,
    decision: Decision,
    in_process: bool,
    error: BaseException,
) -> Ending:
    lane = attempt.lane
    lane.reserve = 0
    said = str(info.message if not isinstance(error, Retry) else "asked by the handler")
    short = said if len(said) <= _RETRY_TEXT else said[: _RETRY_TEXT - 1] + "\u2026"
    which = f"{decision.number}/{decision.of}" if decision.of else str(decision.number)
    lane.log("WARNING", f"retry {which}: {short}", "log")
    return Ending("retrying", error=info.to_dict(), delay=decision.delay)


def _with_exception(
    info: TaskErrorInfo, error: BaseException, in_process: bool, durable: bool
) -> tuple[dict[str, Any], bytes | None]:
    body = info.to_dict()
    if durable:
        from rxtasks.wire.stored_errors import store_exception

        # What cannot be found again after a restart is not shown before it either.
        stored = store_exception(error)
        if stored is not None:
            body["pickle"] = True  # a blob follows
            if in_process:
                _forget_own_frames(error)
                body["object"] = error
        return body, stored
    if in_process:
        _forget_own_frames(error)
        body["object"] = error
        return body, None
    blob = dump_exception(error)
    if blob is not None:
        body["pickle"] = True
    return body, blob


def _info(error: BaseException) -> TaskErrorInfo:
    try:
        return describe(error)
    except BaseException as failure:  # an exception whose class misbehaves
        return TaskErrorInfo(type_name(type(error)), f"(it cannot be described: {type(failure).__name__})")


def _forget_own_frames(error: BaseException) -> None:
    at = error.__traceback__
    while at is not None and own_frame(at.tb_frame.f_code.co_filename):
        at = at.tb_next
    error.__traceback__ = at


def _is_async_cancel(error: BaseException) -> bool:
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and isinstance(error, asyncio.CancelledError)


def _text(reason: object) -> str | None:
    return None if reason is None else clean_text(reason, 1024)
