"""What answers say when something cannot be done: the service's errors as statuses of HTTP."""

from __future__ import annotations

import logging
from typing import Final

from rxtasks.control.lane import Occupied
from rxtasks.control.schema import Invalid
from rxtasks.control.words import Refused
from rxtasks.errors import (
    LogTruncated,
    PayloadError,
    QueueFull,
    RxTasksError,
    ServiceStopped,
    SettingsError,
    StoreError,
    UnknownHandler,
    UnknownTask,
    WorkerStartError,
)

__all__ = ["refusal_of"]

_log: Final = logging.getLogger("rxtasks")
_AGAIN: Final = "POST /v1/processing/start starts it"


def refusal_of(error: BaseException) -> Refused:
    """Return how an error is answered. One that nobody foresaw is logged, and told without its text."""
    match error:
        case Refused():
            return error
        case Invalid():
            return Refused(422, "INVALID", str(error), "see /openapi.json")
        case Occupied():
            return Refused(503, "BUSY", "too many requests wait already", "ask again in a moment", retry_after=1)
        case UnknownTask():
            return Refused(404, error.code or "", str(error))
        case LogTruncated():
            hint = f"ask from_seq={error.first_seq}"
            return Refused(410, error.code or "", f"events before seq {error.first_seq} are no longer held", hint)
        case QueueFull():
            return Refused(429, error.code or "", str(error), "push later, or raise max_queue", retry_after=1)
        case ServiceStopped():
            return Refused(503, error.code or "", str(error), _AGAIN, retry_after=5)
        case UnknownHandler() | PayloadError() | SettingsError():
            return Refused(422, error.code or "", str(error))
        case StoreError():
            return Refused(503, error.code or "", str(error), "GET /health tells when it is well again", retry_after=5)
        case WorkerStartError():
            return Refused(503, error.code or "", str(error), "see the pool's logs", retry_after=5)
        case RxTasksError():
            return Refused(409, error.code or "WRONG_STATE", str(error))
        case TimeoutError():
            return Refused(
                504, "TIMEOUT", "the pool has not answered in time", "GET /v1/explain says what it waits for"
            )
    _log.error("the control server failed to answer a request; this is a bug of rxtasks", exc_info=error)
    return Refused(500, "INTERNAL", f"the pool failed to answer ({type(error).__name__})", "see its logs")
