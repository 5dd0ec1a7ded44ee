"""Results and outputs in row form (see rxtasks.wire.message), exact or refused."""

from __future__ import annotations

from math import isfinite
from typing import Any

import orjson

from rxtasks.wire.payload import PAYLOAD_LIMIT, Make, describe, dump_value, exact_bytes, exact_json, pack_value
from rxtasks.wire.sealed import Sealed

__all__ = ["encode_value"]

_ATOMS = frozenset({type(None), bool})
#: Integers up to this are sure to be exact in JSON; it has some more.
_LARGEST = 2**63 - 1


def encode_value(
    value: Any,
    what: str,
    *,
    in_process: bool,
    limit: int = PAYLOAD_LIMIT,
    make: Make | None = None,
    durable: bool = False,
) -> tuple[list[Any], Any, int]:
    """Return `value` in row form, its blob if it has one, and its size in bytes, 0 for what is tiny.

    What JSON carries exactly, up to 64 KiB, stands in the row: as a snapshot, because the handler may go on changing
    what it gave. In one process the object itself goes along. The blob is bytes; with `make` it may be what that makes,
    for its large buffers. For a `durable` store it is tagged JSON.

    Raises:
        PayloadError: it cannot travel, or would take over `limit` bytes; `what` is the root of the path in the message.
    """
    kind = type(value)
    if kind in _ATOMS or (kind is int and -_LARGEST <= value <= _LARGEST) or (kind is float and isfinite(value)):
        return ["j", value], None, 0
    if not in_process and (kind is dict or kind is list):
        exact = exact_bytes(value)
        if exact is not None:
            return ["j", orjson.Fragment(exact)], None, len(exact)
    if durable:
        return _stored(value, what, in_process, limit)
    found = exact_json(value)
    if in_process:
        if found is None:
            name, preview = describe(value)
            return ["o", value, name, preview], None, 0
        data, copy = found
        if copy is value:
            return ["j", value], None, len(value) if type(value) is str else 0
        return ["o", value, type(value).__name__, "", copy], None, len(data)
    if found is not None:
        data, copy = found
        if copy is value:
            return ["j", value], None, len(value) if type(value) is str else 0
        return ["j", orjson.Fragment(data)], None, len(data)
    blob: bytes | Sealed
    if make is None:
        blob = dump_value(value, what=what, limit=limit)
    else:
        blob = pack_value(value, make, what=what, limit=limit)
    name, preview = describe(value)
    return ["p", len(blob), name, preview], blob, len(blob)


def _stored(value: Any, what: str, in_process: bool, limit: int) -> tuple[list[Any], Any, int]:
    found = exact_json(value)
    if found is not None:
        data, copy = found
        if copy is value or in_process:
            return ["j", copy], None, len(data)
        return ["j", orjson.Fragment(data)], None, len(data)
    from rxtasks.wire.tagged import STORED_LIMIT, dump_tagged

    blob = dump_tagged(value, what=what, limit=min(limit, STORED_LIMIT))
    kind, preview = describe(value)
    return ["t", len(blob), kind, preview], blob, len(blob)
