"""Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html), and the streams that are open."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Final

from rxtasks.control.shown import as_json
from rxtasks.control.words import Refused, Stream

__all__ = ["BEAT", "OPENING", "SILENCE", "StreamedResponse", "Streams", "frame", "notice"]

#: Seconds without an event after which a comment is sent: who is at the other end, and everything between, sees that it lives.
SILENCE: Final = 15.0
#: That comment.
BEAT: Final = b": beat\n\n"
#: What a stream begins with: a comment, and after how many milliseconds a browser comes again.
OPENING: Final = b": rxtasks\nretry: 1000\n\n"
#: Streams that may be open at once.
_MOST: Final = 128


def frame(event: str, data: bytes, id: str | int | None = None) -> bytes:
    """Return one event; `data` is JSON, so it has no line ends."""
    head = b"" if id is None else f"id: {id}\n".encode()
    return b"%sevent: %s\ndata: %s\n\n" % (head, event.encode(), data)


def notice(event: str, message: str, **facts: Any) -> bytes:
    """Return an event about the stream itself: it has no id, so a client goes on from the one before."""
    return frame(event, as_json({"message": message, **facts}))


class Streams:
    """The streams that are open. Of the loop's thread."""

    def __init__(self) -> None:
        self._open: set[Callable[[], None]] = set()
        self.ending = False

    @contextlib.contextmanager
    def entered(self, end: Callable[[], None]) -> Iterator[None]:
        """Be one of them; `end` is called when all have to end."""
        self._open.add(end)
        try:
            yield
        finally:
            self._open.discard(end)

    def check_room(self) -> None:
        """See whether there is room for one more.

        Raises:
            Refused: there is none.
        """
        if len(self._open) >= _MOST or self.ending:
            raise Refused(
                503, "BUSY", f"{_MOST} streams of events are open", "close one, or come again later", retry_after=5
            )

    def end(self) -> None:
        """Let all of them end."""
        self.ending = True
        for end in list(self._open):
            end()


class StreamedResponse:
    """A stream as an ASGI answer: it ends when its frames do, or the client has gone, and is closed in either case."""

    def __init__(self, stream: Stream, headers: dict[str, str]) -> None:
        self._frames = stream.frames
        self._close = stream.close
        named = {**headers, "content-type": "text/event-stream; charset=utf-8", "x-accel-buffering": "no"}
        self._headers = [(name.encode(), value.encode()) for name, value in named.items()]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        writing = asyncio.ensure_future(self._write(send))
        leaving = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait({writing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            writing.cancel()
            await asyncio.wait({writing, leaving})
            self._close()
        if not writing.cancelled() and (error := writing.exception()) is not None:
            raise error

    async def _write(self, send: Any) -> None:
        async with contextlib.aclosing(self._frames) as frames:  # type: ignore[type-var]
            await send({"type": "http.response.start", "status": 200, "headers": self._headers})
            async for part in frames:
                await send({"type": "http.response.body", "body": part, "more_body": True})
                await asyncio.sleep(0)  # neither a quick client nor a flood of events has the loop to itself
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _gone(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
