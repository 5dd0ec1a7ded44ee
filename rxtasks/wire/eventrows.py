"""The check that every event row passes when it comes in, so that the core can unpack rows blindly.

A row with more places than are known comes from a newer worker: they are cut off. Anything else that does not fit the
layout in `message` is a ProtocolError.
"""

from __future__ import annotations

from typing import Any, NoReturn

import orjson

from rxtasks.errors import ProtocolError
from rxtasks.wire.jsondepth import MAX_DEPTH, deeper
from rxtasks.wire.message import END, LOG, OUTPUT, OUTPUTS, PROGRESS, RUNNING, WHOLE

__all__ = ["check_error", "check_rows"]

_PLACES = {RUNNING: 4, END: 9, LOG: 9, PROGRESS: 8, OUTPUT: 6, OUTPUTS: 6, WHOLE: 7}
_ENDS = frozenset({"succeeded", "failed", "retrying", "scheduled", "cancelled"})


def check_rows(rows: list[list[Any]]) -> int:
    """Return how many blobs `rows` refer to.

    Raises:
        ProtocolError: a row is not as the layout says.
    """
    blobs = 0
    nested: list[Any] = []
    for row in rows:
        try:
            kind = row[0]
            if kind == OUTPUTS:
                _, token, seq, times, values, sizes = row
                us = seq
                if not (_are_numbers(times) and _are_numbers(sizes) and len(times) == len(sizes)):
                    _refuse(row)
                if type(values) is not list or len(values) != len(sizes):
                    _refuse(row)
                # Two hundred levels take four hundred bytes.
                if max(sizes) > 400:
                    nested.extend([value for value in values if type(value) is dict or type(value) is list])
            elif kind == WHOLE:
                _, tokens, seqs, begun, ended, values, rans = row
                token = seq = us = 0
                columns = (tokens, seqs, begun, ended, rans)
                if type(values) is not list or not all(map(_are_numbers, columns)):
                    _refuse(row)
                if {*map(len, columns)} != {len(values)}:
                    _refuse(row)
                if not _NESTED.isdisjoint(map(type, values)):
                    nested.extend([value for value in values if type(value) in _NESTED])
            elif kind == END:
                _, token, seq, us, status, value, error, delay, ran = row
                if status not in _ENDS or type(ran) is not int or (delay is not None and not _is_number(delay)):
                    _refuse(row)
                if value is not None:
                    blobs += _check_value(value, nested)
                if error is not None:
                    blobs += check_error(error, nested)
            elif kind == RUNNING:
                _, token, seq, us = row
            elif kind == LOG:
                _, token, seq, us, level, message, stream, fields, size = row
                if not (type(level) is type(message) is type(stream) is str and type(size) is int):
                    _refuse(row)
                if fields is not None:
                    _check_object(fields, nested)
            elif kind == PROGRESS:
                _, token, seq, us, current, total, message, data = row
                if not (_is_number(current) and (total is None or _is_number(total))):
                    _refuse(row)
                if message is not None and type(message) is not str:
                    _refuse(row)
                if data is not None:
                    _check_object(data, nested)
            else:
                _, token, seq, us, value, size = row
                if kind != OUTPUT or type(size) is not int:
                    _refuse(row)
                blobs += _check_value(value, nested if size > 400 else [])
            if not (type(token) is type(seq) is type(us) is int):
                _refuse(row)
        except ValueError:  # not as many places as known
            _cut(row)
            blobs += check_rows([row])
        except (KeyError, IndexError, TypeError):
            _refuse(row)
    if nested and _too_deep(nested):
        raise ProtocolError("a value in an event is nested too deep")
    return blobs


def check_error(error: Any, nested: list[Any]) -> int:
    """Return how many blobs (0 or 1) `error`, TaskErrorInfo.to_dict(), refers to.

    Raises:
        ProtocolError: it is not such a dict.
    """
    depth = 0
    at = error
    while at is not None:
        depth += 1
        if (
            type(at) is not dict
            or type(at.get("type")) is not str
            or type(at.get("message")) is not str
            or type(at.get("traceback", "")) is not str
            or type(at.get("code")) not in _CODES
            or "object" in at
            or depth > 100
        ):
            raise ProtocolError("an error in an event has not the shape of an error")
        details = at.get("details")
        if type(details) is dict or type(details) is list:
            nested.append(details)
        at = at.get("cause")
    pickled = error.get("pickle", False)
    if type(pickled) is not bool:
        raise ProtocolError("an error in an event has not the shape of an error")
    return int(pickled)


def _too_deep(nested: list[Any]) -> bool:
    try:
        data = orjson.dumps(nested)
    except TypeError:  # it reads what is four times as deep as what it writes
        return True
    return deeper(nested, data, MAX_DEPTH + 1)


_INTEGERS = frozenset({int})
_NESTED = frozenset({dict, list})
_CODES = (type(None), str, int)


def _are_numbers(values: Any) -> bool:
    """Say whether `values` is a list of integers, of one at least."""
    return type(values) is list and {*map(type, values)} == _INTEGERS


def _is_number(value: Any) -> bool:
    return type(value) is float or type(value) is int


def _check_object(value: Any, nested: list[Any]) -> None:
    if type(value) is not dict:
        _refuse(value)
    for item in value.values():
        if type(item) is dict or type(item) is list:
            nested.append(value)
            return


def _check_value(value: Any, nested: list[Any]) -> int:
    if value[0] == "j":
        if len(value) != 2:
            _refuse(value)
        content = value[1]
        if type(content) is dict or type(content) is list:
            nested.append(content)
        return 0
    if len(value) != 4:
        _refuse(value)
    form, size, kind, preview = value
    if (form != "p" and form != "t") or type(size) is not int or type(kind) is not str or type(preview) is not str:
        _refuse(value)
    return 1


def _cut(row: list[Any]) -> None:
    places = _PLACES.get(row[0]) if type(row) is list and type(row[0]) is int else None
    if places is None or len(row) <= places:
        _refuse(row)
    del row[places:]


def _refuse(row: Any) -> NoReturn:
    shown = ", ".join(type(item).__name__ for item in row) if isinstance(row, list) else type(row).__name__
    kind = row[0] if isinstance(row, list) and row and isinstance(row[0], int) else None
    raise ProtocolError(f"not an event: row of kind {kind} with ({shown[:200]})")
