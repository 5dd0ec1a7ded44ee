"""The parent's end of a process worker's channel: a non-blocking socket, frames both ways, the token pipe, and a socket for
the descriptors of memory files that frames refer to.

Writes never block: what the socket does not take waits in a buffer until it is writable again. Large messages are cut
into parts, drawn one at a time, so that a command never waits behind more than one part (R5, R11). A channel that is
closed or broken swallows what is sent to it (R3).
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable

from rxtasks.errors import ProtocolError
from rxtasks.forking import close_copies
from rxtasks.isolation.quickio import Receiver, send, write
from rxtasks.wire.codec import BLOB_LIMIT, Decoder, Encoder
from rxtasks.wire.message import Assign, Command, Message, Report
from rxtasks.wire.outgoing import Outgoing
from rxtasks.wire.passing import Passing

__all__ = ["Channel"]

#: Bytes of one read; one buffer is used for all of them (a fresh one doubles the latency).
_READ = 256 * 1024
#: Bytes that one turn takes from one worker, so that a flood from one does not starve the others.
_TURN = 1024 * 1024


class Channel:
    """A worker's socket with its encoder and decoder. All calls from the core thread."""

    def __init__(
        self,
        worker_id: str,
        sock: socket.socket,
        token_write: int,
        token_read: int,
        receiver: Receiver,
        passing: Passing | None = None,
        *,
        max_payload: int = BLOB_LIMIT,
    ) -> None:
        sock.setblocking(False)
        os.set_blocking(token_write, False)
        self.worker_id = worker_id
        self.open = True
        #: What came was no message: it did not just end.
        self.damaged = False
        #: Told when the socket does not take everything (True), and when it has taken all (False).
        self.on_blocked: Callable[[bool], None] = lambda blocked: None
        self._sock = sock
        self._fd = sock.fileno()
        self._token_write = token_write
        self._token_read = token_read
        self._receiver = receiver
        self._passing = passing
        # What goes down was held against the limit at submit, but for functions.
        self._encoder = Encoder(blob_limit=max(BLOB_LIMIT, max_payload), passing=passing)
        self._decoder = Decoder(blob_limit=max_payload, passing=passing)
        self._outgoing = Outgoing(self._encoder)
        self._sent: Callable[[Command], None] | None = None
        self._received: Callable[[Report], None] | None = None
        self._closed: Callable[[Exception | None], None] | None = None

    @staticmethod
    def receiver() -> Receiver:
        """Return what to read with; all channels of one thread share it."""
        return Receiver(_READ)

    def fileno(self) -> int:
        """Return the socket's descriptor, -1 when closed."""
        return self._fd

    def listen(
        self,
        sent: Callable[[Command], None],
        received: Callable[[Report], None],
        closed: Callable[[Exception | None], None],
    ) -> None:
        """Tell of every command sent and report received from now on, and of the end."""
        self._sent, self._received, self._closed = sent, received, closed

    # -- down ----------------------------------------------------------------------------------------------------------

    def send(self, message: Command) -> None:
        """Send a command, now or as soon as the socket takes it.

        Raises:
            PayloadError: it cannot travel; nothing was sent.
        """
        if not self.open:
            return
        if self._sent is not None:
            self._sent(message)
        if self._outgoing:
            self._outgoing.put(message, urgent=type(message) is not Assign)
            return
        first, rest = self._encoder.encode_first(message)
        try:
            count = send(self._sock, self._fd, first)
        except BlockingIOError:
            count = 0
        except OSError:
            # The other end is gone: its exit tells the rest.
            self.open = False
            return
        if count < len(first) or rest is not None:
            self._outgoing.put_rest(memoryview(first)[count:], rest)
            self.write()

    def tokens(self, count: int) -> None:
        """Allow the worker to start `count` tasks more; before they are sent."""
        if self.open:
            with contextlib.suppress(BlockingIOError):  # 64 KiB of them wait: the worker has enough to start
                write(self._token_write, bytes(count))

    def take_tokens(self) -> int:
        """Take back what the worker has not used of them and return how many that is."""
        if self._token_read < 0:
            return 0
        try:
            return len(os.read(self._token_read, 65536))
        except (BlockingIOError, OSError):
            return 0

    def write(self) -> None:
        """Write until the socket is full or nothing waits."""
        blocked = bool(self._outgoing)
        try:
            self._outgoing.write(self._send)
        except BlockingIOError:
            self.on_blocked(True)
            return
        except OSError:
            # The other end is gone: its exit tells the rest.
            self.open = False
            self._outgoing.clear()
        if blocked:
            self.on_blocked(False)

    def _send(self, data: bytes | memoryview) -> int:
        return send(self._sock, self._fd, data)

    # -- up ------------------------------------------------------------------------------------------------------------

    def read(self, *, everything: bool = False) -> tuple[list[Report], str | None]:
        """Read what is there (one turn's share unless `everything`); return reports and why it ended, or None."""
        reports: list[Report] = []
        taken = 0
        receiver = self._receiver
        buffer = receiver.view
        try:
            while everything or taken < _TURN:
                try:
                    count = receiver.receive(self._sock, self._fd)
                except BlockingIOError:
                    return reports, None
                except OSError as error:
                    return reports, f"its channel failed: {error}"
                if not count:
                    return reports, "it closed its channel"
                taken += count
                self._take(self._decoder.feed(buffer[:count]), reports)
                if count < len(buffer) and not everything:
                    # Most likely there is no more; the selector tells otherwise.
                    return reports, None
        except ProtocolError as error:
            return reports, self._refused(error, reports)
        return reports, None

    def _take(self, messages: list[Message], reports: list[Report]) -> None:
        """Add the messages to `reports` and tell of them.

        Raises:
            ProtocolError: the content of one is nothing that a worker says. It is not in `reports`.
        """
        received = self._received
        for message in messages:
            if received is not None:
                try:
                    received(message)  # type: ignore[arg-type]
                except ProtocolError:
                    raise
                except Exception as error:
                    # A sound frame with senseless rows: the fault of that worker, not of the engine.
                    text = f"senseless content in {type(message).__name__} ({type(error).__name__}: {error})"
                    raise ProtocolError(text) from error
            reports.append(message)  # type: ignore[arg-type]

    def _refused(self, error: ProtocolError, reports: list[Report]) -> str:
        """Take the sound messages that came before the bad one in the same piece; return why reading ended."""
        self.damaged = True
        salvaged, self._decoder.salvaged = self._decoder.salvaged, []
        with contextlib.suppress(ProtocolError):
            self._take(salvaged, reports)
        return f"protocol error: {error}"

    def close(self, error: Exception | None = None) -> None:
        """Close every descriptor; no error if closed already."""
        self.open = False
        self._outgoing.clear()
        self._sock.close()
        self._fd = -1
        if self._passing is not None:
            self._passing.close()
        for fd in (self._token_write, self._token_read):
            if fd >= 0:
                os.close(fd)
        self._token_write = self._token_read = -1
        closed, self._closed = self._closed, None
        self._sent = self._received = None
        if closed is not None:
            closed(error)

    def after_fork(self) -> None:
        """In a forked child: close the copies, whatever has become of each, and tell nobody."""
        self.open = False
        self._closed = None
        passing = -1 if self._passing is None else self._passing.detach()
        fds = (self._sock.detach(), passing, self._token_write, self._token_read)
        self._fd = self._token_write = self._token_read = -1
        close_copies(fds)
