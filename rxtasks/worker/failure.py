"""An exception as data: class, message, code, details and traceback text, without any variable's value.

Frames of rxtasks' own machinery are cut off, so that the traceback begins in the handler.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

import orjson

from rxtasks.lifecycle.errorinfo import TaskErrorInfo
from rxtasks.worker.normalise import clean_text

if TYPE_CHECKING:
    from traceback import TracebackException

__all__ = ["describe", "format_traceback", "own_frame", "type_name"]

#: Bytes of a traceback's text, and of an exception's message.
TEXT_LIMIT: Final = 64 * 1024
#: Bytes of an exception's details, as JSON.
DETAILS_LIMIT: Final = 16 * 1024
#: How many causes are told.
_CAUSES: Final = 8

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_OWN = tuple(os.path.join(_PACKAGE, room) + os.sep for room in ("worker", "wire", "lifecycle"))


def type_name(kind: type) -> str:
    """Return "module.QualName"; builtins without "builtins."."""
    module = getattr(kind, "__module__", None)
    name = getattr(kind, "__qualname__", None) or kind.__name__
    return name if module in (None, "builtins") else f"{module}.{name}"


def own_frame(filename: str) -> bool:
    """Say whether a source file is of rxtasks' machinery."""
    return filename.startswith(_OWN)


def describe(error: BaseException) -> TaskErrorInfo:
    """Return what is known of `error`; never raises."""
    return _describe(error, _CAUSES, {id(error)}, format_traceback(error))


def _describe(error: BaseException, depth: int, seen: set[int], text: str) -> TaskErrorInfo:
    cause = _cause(error)
    told = None
    if cause is not None and depth > 0 and id(cause) not in seen:
        seen.add(id(cause))
        told = _describe(cause, depth - 1, seen, format_traceback(cause, chain=False))
    return TaskErrorInfo(
        type=type_name(type(error)),
        message=_message(error),
        code=_code(error),
        details=_details(error),
        traceback=text,
        cause=told,
    )


def _message(error: BaseException) -> str:
    try:
        return clean_text(error, TEXT_LIMIT)
    except BaseException as failure:  # more than an Exception: it would end the worker
        return f"<{type(error).__qualname__}: str raised {type(failure).__name__}>"


def _cause(error: BaseException) -> BaseException | None:
    if error.__cause__ is not None:
        return error.__cause__
    return None if error.__suppress_context__ else error.__context__


def _code(error: BaseException) -> str | int | None:
    try:
        code = getattr(error, "code", None)
    except BaseException:
        return None
    if isinstance(code, bool) or not isinstance(code, str | int):
        return None
    if isinstance(code, str):
        return clean_text(code, 256)
    return int(code) if -(2**63) <= code < 2**63 else None


def _details(error: BaseException) -> Any:
    try:
        details = getattr(error, "details", None)
        if details is None or callable(details):
            return None
        raw = orjson.dumps(details, option=orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME)
        copy = orjson.loads(raw)
    except BaseException:
        return None
    return copy if len(raw) <= DETAILS_LIMIT and copy == details else None


def format_traceback(error: BaseException, *, chain: bool = True) -> str:
    """Return the traceback's text without own frames and without values of variables; never raises."""
    import traceback

    try:
        told = traceback.TracebackException(
            type(error), error, error.__traceback__, capture_locals=False, compact=True, lookup_lines=False
        )
        _trim(told, set())
        text = "".join(told.format(chain=chain))
    except BaseException as failure:
        text = f"{type_name(type(error))}: (its traceback cannot be shown: {type(failure).__name__})\n"
    return clean_text(text, TEXT_LIMIT)


def _trim(told: TracebackException, seen: set[int]) -> None:
    if id(told) in seen:
        return
    seen.add(id(told))
    frames = [frame for frame in told.stack if not own_frame(frame.filename)]
    told.stack[:] = frames
    for other in (told.__cause__, told.__context__, *(getattr(told, "exceptions", None) or ())):
        if other is not None:
            _trim(other, seen)
