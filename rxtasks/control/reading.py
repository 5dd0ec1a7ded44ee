"""What a request asks for, checked against its operation: parameters and body, bounded in size, depth and time."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

import orjson
from starlette.requests import ClientDisconnect, Request

from rxtasks.control.named import NAMED
from rxtasks.control.schema import Invalid, check, from_text
from rxtasks.control.words import Call, Operation, Refused
from rxtasks.wire.jsondepth import MAX_DEPTH, deeper

__all__ = ["BODY_BYTES", "read_call"]

#: Bytes of a body at most.
BODY_BYTES: Final = 2**20
#: Seconds in which it has come.
_PATIENCE: Final = 10.0
#: A number that orjson may take for a float, and so change.
_LONG_NUMBER: Final = re.compile(rb"[0-9]{18}")


async def read_call(request: Request, operation: Operation) -> Call:
    """Return what is asked for.

    Raises:
        Refused, Invalid: it is not as the operation describes.
    """
    given = _path(request, operation) | _query(request, operation) | _headers(request, operation)
    data = await _bytes(request)
    if operation.method != "POST":
        return Call(given, {})
    return Call(given, _body(request, operation, data))


def _path(request: Request, operation: Operation) -> dict[str, Any]:
    found = {}
    for parameter in operation.parameters:
        if parameter.where == "path":
            try:
                text = unquote(request.path_params[parameter.name], errors="strict")
                found[parameter.name] = from_text(parameter.schema, text, parameter.name, NAMED)
            except UnicodeDecodeError:
                raise Refused(404, "UNKNOWN", "nothing has such an id: it is no UTF-8") from None
            except Invalid as error:
                raise Refused(404, "UNKNOWN", f"nothing has such an id: {error}") from None
    return found


def _query(request: Request, operation: Operation) -> dict[str, Any]:
    known = {parameter.name: parameter for parameter in operation.parameters if parameter.where == "query"}
    found: dict[str, Any] = {}
    for name, text in request.query_params.multi_items():
        if name not in known:
            takes = ", ".join(known) or "no parameters"
            raise Invalid(f"there is no parameter {name[:60]!r} here; {operation.path} takes {takes}")
        if name in found:
            raise Invalid(f"the parameter {name} is given twice")
        found[name] = from_text(known[name].schema, text, name, NAMED)
    for name, parameter in known.items():
        if parameter.required and name not in found:
            raise Invalid(f"the parameter {name} is missing")
    return found


def _headers(request: Request, operation: Operation) -> dict[str, Any]:
    found = {}
    for parameter in operation.parameters:
        if parameter.where == "header" and (text := request.headers.get(parameter.name)) is not None:
            found[parameter.name] = from_text(parameter.schema, text, parameter.name, NAMED)
    return found


async def _bytes(request: Request) -> bytes:
    too_large = Refused(413, "TOO_LARGE", f"a body has at most {BODY_BYTES >> 20} MiB", close=True)
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or int(length[:20]) > BODY_BYTES:
        raise too_large
    parts = bytearray()
    try:
        async with asyncio.timeout(_PATIENCE):
            async for part in request.stream():
                parts += part
                if len(parts) > BODY_BYTES:
                    raise too_large
    except TimeoutError:
        raise Refused(408, "TIMEOUT", f"the body has not come within {_PATIENCE:g} s", close=True) from None
    except ClientDisconnect:
        raise Refused(400, "GONE", "the client has gone", close=True) from None
    return bytes(parts)


def _body(request: Request, operation: Operation, data: bytes) -> Any:
    if not data and not operation.body_required:
        return {}
    schema: Mapping[str, Any] = operation.body or {"type": "object", "additionalProperties": False}
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refused(415, "NO_JSON", "a body is JSON here", "send the header Content-Type: application/json")
    value = _from_json(data)
    check(schema, value, "the body" if not isinstance(value, dict) else "", NAMED)
    return value


def _from_json(data: bytes) -> Any:
    try:
        value = orjson.loads(data)
        if deeper(value, data):
            raise Refused(422, "TOO_DEEP", f"JSON may have {MAX_DEPTH} levels of lists and objects")
        if _LONG_NUMBER.search(data):
            value = json.loads(data)
    except ValueError as error:
        raise Refused(400, "NO_JSON", f"the body is no JSON: {error}") from None
    except RecursionError:
        raise Refused(422, "TOO_DEEP", f"JSON may have {MAX_DEPTH} levels of lists and objects") from None
    return value
