"""Telemetry never fails a task: numbers, texts and fields are made sendable, whatever a handler passes.

Numbers: numpy scalars and other number-likes become int or float, what is no number becomes 0 (None for a total). Text:
lone surrogates are escaped, what is too long is cut and marked. Fields and data: what JSON has stays, the rest becomes
a short repr; what is over its limit in bytes is replaced by a cut preview. The result is a copy: later changes to
what was passed show nowhere.
"""

from __future__ import annotations

import math
import sys
from typing import Any, Final

import orjson

__all__ = ["DATA_LIMIT", "FIELDS_LIMIT", "MESSAGE_LIMIT", "clean_text", "data_copy", "number", "preview", "short_repr"]

#: Bytes of a log message; longer ones are cut and marked.
MESSAGE_LIMIT: Final = 64 * 1024
#: Bytes of a log event's fields, as JSON.
FIELDS_LIMIT: Final = 16 * 1024
#: Bytes of a progress event's data, as JSON.
DATA_LIMIT: Final = 4 * 1024

_REPR_LIMIT: Final = 200
_DEPTH: Final = 8
_BIGGEST: Final = sys.float_info.max
_INT64: Final = 2**63
_OPTIONS: Final = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS


def short_repr(value: object) -> str:
    """Return at most 200 characters of repr(value); never raises."""
    try:
        text = repr(value)
    except Exception as error:
        text = f"<{type(value).__qualname__}: repr raised {type(error).__name__}>"
    return clean_text(text, _REPR_LIMIT)


def preview(text: str, limit: int = _REPR_LIMIT) -> str:
    """Return the first `limit` characters of `text`, marked where it was cut."""
    return text if len(text) <= limit else text[: limit - 1] + "\u2026"


def clean_text(value: object, limit: int = MESSAGE_LIMIT) -> str:
    """Return str(value) without lone surrogates and of at most `limit` bytes of UTF-8; never raises."""
    if type(value) is str:
        text = value
    else:
        try:
            text = str.__str__(value) if isinstance(value, str) else str(value)
            if type(text) is not str:
                text = "".join(text)
        except Exception as error:
            text = f"<{type(value).__qualname__}: str raised {type(error).__name__}>"
    if text.isascii():
        return text if len(text) <= limit else _cut(text, limit)
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        raw = text.encode("utf-8", "backslashreplace")
        text = raw.decode()
    return text if len(raw) <= limit else _cut(text, limit)


def _cut(text: str, limit: int) -> str:
    raw = text.encode()
    mark = f"\u2026 [cut: {len(raw)} bytes]"
    keep = max(0, limit - len(mark.encode()))
    return raw[:keep].decode("utf-8", "ignore") + mark


def number(value: object) -> int | float:
    """Return `value` as a finite int or float; 0 for what is no number. Never raises."""
    found = _number(value)
    return 0 if found is None else found


def optional_number(value: object) -> int | float | None:
    """Return `value` as a finite int or float; None for None and for what is no number or infinite. Never raises."""
    if value is None:
        return None
    found = _number(value)
    return None if found is None or abs(found) == _BIGGEST else found


def _number(value: object) -> int | float | None:
    try:
        if isinstance(value, int) or hasattr(value, "__index__"):
            whole = int(value)
            return whole if -_INT64 <= whole < _INT64 else float(whole)
        real = float(value)  # type: ignore[arg-type]
    except OverflowError:
        return _BIGGEST if value > 0 else -_BIGGEST  # type: ignore[operator]
    except Exception:
        return None
    if math.isnan(real):
        return None
    return max(-_BIGGEST, min(_BIGGEST, real))


def data_copy(data: dict[str, Any], limit: int) -> dict[str, Any] | None:
    """Return a JSON-able copy of `data` of at most `limit` bytes; None where it is empty. Never raises."""
    if not data:
        return None
    try:
        raw = orjson.dumps(data, option=_OPTIONS)
    except Exception:
        raw = _slow(data)
    if len(raw) > limit:
        raw = orjson.dumps({"cut": preview(raw[:_REPR_LIMIT].decode("utf-8", "ignore")), "bytes": len(raw)})
    copy: dict[str, Any] = orjson.loads(raw)
    return copy


def _slow(data: dict[str, Any]) -> bytes:
    budget = [2000]
    try:
        return orjson.dumps(_plain(data, _DEPTH, budget))
    except Exception:
        return orjson.dumps({"unsendable": short_repr(data)})


def _plain(value: Any, depth: int, budget: list[int]) -> Any:
    """Return `value` with what JSON lacks replaced; `budget` bounds the number of places visited."""
    budget[0] -= 1
    if value is None or value is True or value is False:
        return value
    kind = type(value)
    if kind is str:
        return clean_text(value)
    if kind is int or kind is float:
        found = _number(value)
        return found if found is not None else None
    if depth <= 0 or budget[0] <= 0:
        return short_repr(value)
    if isinstance(value, dict):
        return {clean_text(key, 256): _plain(each, depth - 1, budget) for key, each in list(value.items())[:1000]}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each, depth - 1, budget) for each in list(value)[:1000]]
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, int | float) or (hasattr(value, "dtype") and getattr(value, "shape", None) == ()):
        found = _number(value)
        return short_repr(value) if found is None else found
    return short_repr(value)
