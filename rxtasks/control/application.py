"""The table of operations as an ASGI application.

::

    request ──> door ──> path, method ──> parameters, body ──> a thread: what the operation does ──> JSON
                 401       404, 405         413, 422            its error: 404, 409, 429, 503 ...
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from rxtasks.control.desk import Desk
from rxtasks.control.door import Door
from rxtasks.control.protocol import HEAD_BYTES
from rxtasks.control.reading import read_call
from rxtasks.control.refusals import refusal_of
from rxtasks.control.shown import as_json
from rxtasks.control.sse import StreamedResponse
from rxtasks.control.words import Operation, Refused, Reply, Stream

__all__ = ["make_application"]

_log: Final = logging.getLogger("rxtasks")
_ALWAYS: Final = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


def make_application(desk: Desk, operations: Sequence[Operation], door: Door, description: bytes) -> ASGIApp:
    """Return the application that answers these operations, and /openapi.json with the description."""
    by_path: dict[str, dict[str, Operation]] = {}
    for operation in operations:
        by_path.setdefault(operation.path, {})[operation.method] = operation
    routes = [_route(path, _Path(desk, methods, door)) for path, methods in by_path.items()]
    routes.append(_route("/openapi.json", _Described(door, description)))
    made = Starlette(routes=routes, exception_handlers={HTTPException: partial(_not_found, door)})
    made.router.redirect_slashes = False
    return _ByRawPath(made)


def _route(path: str, endpoint: Any) -> Route:
    # An endpoint that is no function gets every method.
    return Route(path, endpoint)


class _ByRawPath:
    """Routes by the path as it was sent: an id may have a slash, which is %2F there."""

    def __init__(self, inner: ASGIApp) -> None:
        self._inner = inner

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._inner({**scope, "path": scope["raw_path"].decode("ascii", "replace")}, receive, send)


class _Answering:
    """An ASGI application of one path."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        try:
            response: ASGIApp = await self.answer(request)
        except Exception as error:
            response = _refuse(refusal_of(error))
        try:
            await response(scope, receive, send)
        except Exception as error:
            _log.error("an answer of the control server broke off; this is a bug of rxtasks", exc_info=error)
            raise

    async def answer(self, request: Request) -> ASGIApp:
        raise NotImplementedError


class _Path(_Answering):
    def __init__(self, desk: Desk, methods: Mapping[str, Operation], door: Door) -> None:
        self._desk = desk
        self._methods = methods
        self._door = door

    async def answer(self, request: Request) -> ASGIApp:
        _check_head(request)
        self._door.check(request)
        operation = _operation(self._methods, request)
        call = await read_call(request, operation)
        desk = self._desk
        if operation.follow is not None:
            return _stream(await operation.follow(desk, call))
        run = operation.run
        assert run is not None
        reply = await desk.lane(operation.lane).run(lambda: _made(run(desk, call)))
        return Response(reply.body, reply.status, _ALWAYS, reply.media_type)


def _check_head(request: Request) -> None:
    """The protocol bounds what has come in part; what came at once is bounded here."""
    scope = request.scope
    size = sum([len(name) + len(value) + 4 for name, value in scope["headers"]])
    if size + len(scope["raw_path"]) + len(scope["query_string"]) > HEAD_BYTES:
        raise Refused(431, "TOO_LARGE", f"the headers of a request have at most {HEAD_BYTES >> 10} KiB", close=True)


def _operation(methods: Mapping[str, Operation], request: Request) -> Operation:
    found = methods.get(request.method)
    if found is None:
        what = f"{request.scope['path'][:200]} takes {', '.join(methods)}, not {request.method[:20]}"
        raise Refused(405, "METHOD", what, allow=tuple(methods))
    return found


def _made(reply: Reply) -> Reply:
    """Turn the body into bytes, in the thread that made it."""
    return Reply(reply.body if isinstance(reply.body, bytes) else as_json(reply.body), reply.status, reply.media_type)


def _stream(opened: Stream | Reply) -> ASGIApp:
    if isinstance(opened, Reply):
        return Response(status_code=opened.status, headers=_ALWAYS)
    return StreamedResponse(opened, _ALWAYS)


class _Described(_Answering):
    def __init__(self, door: Door, description: bytes) -> None:
        self._door = door
        self._description = description

    async def answer(self, request: Request) -> ASGIApp:
        self._door.check(request)
        if request.method != "GET":
            raise Refused(405, "METHOD", "/openapi.json takes GET", allow=("GET",))
        return Response(self._description, 200, _ALWAYS, "application/json")


async def _not_found(door: Door, request: Request, error: Exception) -> Response:
    try:
        _check_head(request)
        door.check(request)
    except Refused as refused:
        return _refuse(refused)
    return _refuse(
        Refused(404, "NO_PATH", f"there is no {request.scope['path'][:200]}", "GET /openapi.json lists what there is")
    )


def _refuse(refused: Refused) -> Response:
    headers = dict(_ALWAYS)
    if refused.retry_after is not None:
        headers["retry-after"] = str(refused.retry_after)
    if refused.close:
        headers["connection"] = "close"
    if refused.allow:
        headers["allow"] = ", ".join(refused.allow)
    if refused.status == 401:
        headers["www-authenticate"] = "Bearer"
    body = {"error": {"code": refused.code, "message": refused.message, "hint": refused.hint}}
    return Response(as_json(body), refused.status, headers, "application/json")
