"""The worker's end of its channel: frames both ways over one socket, never blocking.

What the socket does not take waits here; whoever polls writes on when it is writable. A large result is cut into parts
that are drawn one at a time, so that a heartbeat or an acknowledgement passes between two of them (R5).
"""

from __future__ import annotations

import contextlib
import os
import threading
from _socket import MSG_DONTWAIT
from _socket import socket as Socket  # what socket.socket is made of, without 4 ms of imports
from typing import NoReturn

from rxtasks.errors import ProtocolError
from rxtasks.wire.codec import Decoder, Encoder
from rxtasks.wire.message import Ack, Heartbeat, Message, StackParts
from rxtasks.wire.outgoing import Outgoing
from rxtasks.wire.passing import Passing
from rxtasks.worker.children import kill_everything

__all__ = ["Channel"]

_READ = 256 * 1024
_NO_LIMIT = 2**62


class Channel:
    """The socket with its encoder and decoder. send and write from any thread, read from one at a time.

    Args:
        fd: the socket of frames.
        passing_fd: the socket of memory files, -1 = none: large values go in frames.
    """

    def __init__(self, fd: int, passing_fd: int = -1) -> None:
        self._sock = Socket(fileno=fd)
        self._sock.setblocking(False)
        self.fd = fd
        # Commands may overtake an assignment that waits, and then name a later file first.
        self._passing = None if passing_fd < 0 else Passing(Socket(fileno=passing_fd), in_order=False)
        # The limit is the parent's to set: it is held where values are written (Configure.max_payload).
        self._encoder = Encoder(blob_limit=_NO_LIMIT, passing=self._passing)
        self._decoder = Decoder(blob_limit=_NO_LIMIT, passing=self._passing)
        self._buffer = memoryview(bytearray(_READ))
        # Reentrant: a finalizer that prints may come while this thread is sending.
        self.lock = threading.RLock()
        self._outgoing = Outgoing(self._encoder)
        #: True while something waits for the socket.
        self.blocked = False

    def send(self, message: Message) -> None:
        """Send a message, now or as soon as the socket takes it.

        Raises:
            PayloadError: it cannot travel; nothing was sent.
        """
        with self.lock:
            if self.blocked:
                self._outgoing.put(message, urgent=type(message) in _URGENT)
                return
            self.blocked = True  # a reentrant send queues behind this one
            try:
                self._outgoing.put(message)
            except BaseException:
                self.blocked = False
                raise
            self._write()

    def write(self) -> bool:
        """Write what waits; return whether nothing does any more."""
        with self.lock:
            if self.blocked:
                self._write()
            return not self.blocked

    def _write(self) -> None:
        try:
            self._outgoing.write(self._send)
        except BlockingIOError:
            return
        except OSError as error:
            lost(f"its channel cannot be written: {error.strerror}")
        self.blocked = False

    def _send(self, data: bytes | memoryview) -> int:
        return self._sock.send(data, MSG_DONTWAIT)

    def read(self) -> list[Message]:
        """Return the messages that are there; does not return when the channel has ended."""
        try:
            count = self._sock.recv_into(self._buffer)
        except (BlockingIOError, InterruptedError):
            return []
        except OSError as error:
            lost(f"its channel cannot be read: {error.strerror}")
        if count == 0:
            kill_everything()
        try:
            return self._decoder.feed(self._buffer[:count])
        except ProtocolError as error:
            lost(f"protocol error: {error}")

    def close(self) -> None:
        """Close the sockets."""
        self._sock.close()
        if self._passing is not None:
            self._passing.close()


_URGENT = frozenset({Ack, Heartbeat, StackParts})


def lost(why: str) -> NoReturn:
    """End this process with its children: its parent cannot be reached any more. Says why on standard error."""
    with contextlib.suppress(OSError):
        os.write(2, f"rxtasks worker {os.getpid()} ends: {why}\n".encode("utf-8", "backslashreplace"))
    kill_everything()
