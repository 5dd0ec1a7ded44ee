"""`ControlClient`: how a command talks to a pool. Of the standard library alone, so that a command starts fast."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final, NoReturn
from urllib.parse import quote, urlencode

from rxtasks.control.directory import reachable
from rxtasks.control.errors import ControlError

__all__ = ["ControlClient", "ControlError", "ServerSentEvent", "quoted"]

#: Bytes of an answer at most; a page of tasks takes some 100 KiB.
_MOST: Final = 64 * 2**20
#: The same of one line of a stream of events.
_LONGEST: Final = 4 * 2**20
#: Seconds in which a stream that lives says something; the server sends a comment every 15.
_SILENCE: Final = 60.0
#: Seconds between two tries to connect to a server that is crowded.
_AGAIN: Final = 0.01
_CUT: Final = (
    0,
    "BROKEN",
    "the stream of events was cut off",
    "see whether the pool runs, and follow it from the last id",
)


def quoted(id: str) -> str:
    """Return an id as a part of a path: f"/v1/tasks/{quoted(task_id)}/cancel"."""
    return quote(id, safe=":~")


class ServerSentEvent:
    """One event of a stream: its `id`, its kind (`event`), and its `data`, read from JSON.

    An event about the stream itself has no id (None): a client goes on from that of the event before.
    """

    __slots__ = ("data", "event", "id")

    def __init__(self, id: str | None, event: str, data: Any) -> None:
        self.id = id
        self.event = event
        self.data = data

    def __repr__(self) -> str:
        return f"ServerSentEvent(id={self.id!r}, event={self.event!r}, data={self.data!r})"


class ControlClient:
    """Talks to the pool whose socket this is. Any thread; each call has a connection of its own.

    Args:
        socket_path: `Running.socket`; or "host:port" with a token.
        timeout: seconds that connecting and each answer may take.
        token: for "host:port".
    """

    def __init__(self, socket_path: str, timeout: float = 10.0, *, token: str | None = None) -> None:
        self.socket_path = socket_path
        self.timeout = timeout
        self._token = token

    def get(self, path: str, **query: Any) -> Any:
        """Return what GET answers, read from JSON (text where it is none). A value None is left out of the query.

        Raises:
            ControlError: the pool cannot be reached, or refused; says what to try.
        """
        return self._call("GET", path, query=query)

    def post(self, path: str, body: Any = None, *, timeout: float | None = None) -> Any:
        """Return what POST answers; `body` goes as JSON. `timeout`: seconds, where this answer may take longer.

        Raises:
            ControlError: as get.
        """
        return self._call("POST", path, body={} if body is None else body, timeout=timeout)

    def delete(self, path: str) -> Any:
        """Return what DELETE answers.

        Raises:
            ControlError: as get.
        """
        return self._call("DELETE", path)

    def stream(self, path: str, last_event_id: str | int | None = None, **query: Any) -> Iterator[ServerSentEvent]:
        """Open a stream of events, and return an iterator of them as they come, until it ends.

        When it returns the server has begun to follow: what happens from then on is missed by nobody. Closing the iterator
        closes the connection.

        Args:
            last_event_id: where to go on: the id of the last event that was had.

        Raises:
            ControlError: as get; from the iterator when the connection breaks. Call it again with the last id that came.
        """
        headers = {} if last_event_id is None else {"Last-Event-ID": str(last_event_id)}
        sent = {"Accept": "text/event-stream", **headers}
        connection, answer = self._open("GET", path, query, None, sent, self.timeout)
        try:
            if answer.status not in (200, 204):
                self._refused(answer, self._read(answer))
        except BaseException as error:
            connection.close()
            if isinstance(error, OSError | http.client.HTTPException):
                self._broken(error)
            raise
        return self._followed(connection, answer)

    def _followed(
        self, connection: http.client.HTTPConnection, answer: http.client.HTTPResponse
    ) -> Iterator[ServerSentEvent]:
        try:
            if answer.status == 200:  # 204: there is nothing left to tell
                yield from _events(answer)
        except (OSError, http.client.HTTPException) as error:
            self._broken(error)
        finally:
            answer.close()
            connection.close()

    # -- one call ------------------------------------------------------------------------------------------------------

    def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        timeout: float | None = None,
    ) -> Any:
        seconds = self.timeout if timeout is None else timeout
        connection, answer = self._open(method, path, query, body, {}, seconds)
        try:
            data = self._read(answer)
        except (OSError, http.client.HTTPException) as error:
            self._broken(error)
        finally:
            connection.close()
        if answer.status >= 300:
            self._refused(answer, data)
        if not data:
            return None
        if answer.headers.get_content_type() != "application/json":
            return data.decode("utf-8", "replace")
        try:
            return json.loads(data)
        except ValueError:
            raise ControlError(answer.status, "ANSWER", "the pool answered with something that is no JSON") from None

    def _open(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None,
        body: Any,
        headers: Mapping[str, str],
        timeout: float,
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        target = quote(path, safe="/:%~") + _query(query)
        sent = {**headers, "Connection": "close"}
        data = None
        if body is not None:
            data = json.dumps(body, allow_nan=False).encode()
            sent["Content-Type"] = "application/json"
        if self._token is not None:
            sent["Authorization"] = f"Bearer {self._token}"
        connection = self._connection(timeout)
        try:
            connection.connect()
            sock = connection.sock  # the answer takes it over
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, target, body=data, headers=sent)
            # Where it was refused before all of it was taken, why is there to be read.
            answer = connection.getresponse()
            if answer.status == 200 and "Accept" in sent:
                sock.settimeout(_SILENCE)
            return connection, answer
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            self._broken(error)
        except BaseException:
            connection.close()
            raise

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        if "/" in self.socket_path:
            return _UnixConnection(self.socket_path, timeout)
        host, _, port = self.socket_path.rpartition(":")
        return http.client.HTTPConnection(host.strip("[]"), int(port), timeout=timeout)

    @staticmethod
    def _read(answer: http.client.HTTPResponse) -> bytes:
        data = answer.read(_MOST + 1)
        if len(data) > _MOST:
            raise ControlError(
                answer.status, "ANSWER", f"the pool's answer is larger than {_MOST >> 20} MiB", "ask for less"
            )
        return data

    def _refused(self, answer: http.client.HTTPResponse, data: bytes) -> NoReturn:
        after = answer.headers.get("Retry-After", "")
        wait = float(after) if after.isdigit() else None
        try:
            error = json.loads(data)["error"]
            code, message, hint = str(error["code"]), str(error["message"]), str(error.get("hint") or "")
        except (ValueError, KeyError, TypeError, AttributeError):
            code, message, hint = "HTTP", f"the pool answered {answer.status} {answer.reason}", ""
        raise ControlError(answer.status, code, message, hint, wait)

    def _broken(self, error: BaseException) -> NoReturn:
        if isinstance(error, FileNotFoundError | ConnectionRefusedError):
            raise ControlError(
                0,
                "NO_POOL",
                f"no pool answers at {self.socket_path}",
                "start one with `rxtasks worker start`, or wait a moment if one is starting",
            ) from error
        if isinstance(error, PermissionError):
            raise ControlError(
                0, "DENIED", f"{self.socket_path} may not be used", "run the command as the user who runs the pool"
            ) from error
        if isinstance(error, TimeoutError):
            raise ControlError(
                0,
                "TIMEOUT",
                "the pool has not answered in time",
                "see its logs; it may be stopped (SIGSTOP) or overloaded",
            ) from error
        raise ControlError(
            0,
            "BROKEN",
            f"the connection to the pool broke ({error})",
            "see whether it still runs: rxtasks worker status",
        ) from error


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(self.timeout)
            with reachable(self._path) as path:
                self._connect(sock, path)
        except BaseException:
            sock.close()
            raise
        self.sock = sock

    def _connect(self, sock: socket.socket, path: str) -> None:
        """Connect. While as many wait to be taken in as may, the kernel says so at once: tried again until the time is over."""
        until = time.monotonic() + (self.timeout or 0.0)
        while True:
            try:
                sock.connect(path)
                return
            except BlockingIOError:
                if time.monotonic() > until:
                    raise TimeoutError("too many others wait to be taken in") from None
                time.sleep(_AGAIN)


def _query(query: Mapping[str, Any] | None) -> str:
    words = {name: _word(value) for name, value in (query or {}).items() if value is not None}
    return f"?{urlencode(words)}" if words else ""


def _word(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _events(answer: http.client.HTTPResponse) -> Iterator[ServerSentEvent]:
    """Read a stream of events (https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream)."""
    id: str | None = None
    kind, lines, begun = "", list[str](), False
    while raw := answer.readline(_LONGEST):
        begun = True
        if not raw.endswith(b"\n"):
            # What has no end was cut off: the next stream begins with it.
            raise ControlError(*_CUT)
        line = raw.rstrip(b"\r\n").decode("utf-8", "replace")
        if not line:
            if lines:
                yield ServerSentEvent(id, kind or "message", _data("\n".join(lines)))
            id, kind, lines = None, "", []
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            lines.append(value)
        elif name == "event":
            kind = value
        elif name == "id" and "\0" not in value:
            id = value or None
    # A stream that ends has begun, and has said so; http.client takes the end of a connection for that of a stream.
    if answer.chunked and not (begun and getattr(answer, "chunk_left", None) is None):
        raise ControlError(*_CUT)


def _data(text: str) -> Any:
    with contextlib.suppress(ValueError):
        return json.loads(text)
    return text
