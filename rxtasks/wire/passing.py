"""Descriptors on their way beside the frames of a channel, over a socket pair of their own.

Who reads frames does so by plain recv, which costs least and would drop descriptors. So each goes in a message of its own,
with a number, before the first byte of the frame that names the number: when that frame is read, it is there. Numbers
grow; a frame that overtakes another may name a later one first.

What lies in the socket belongs to the kernel: it is gone when both ends are, whoever was killed at what moment.
"""

from __future__ import annotations

import _socket
import contextlib
import os
import sys
from _socket import CMSG_LEN, MSG_CTRUNC, MSG_DONTWAIT, SCM_RIGHTS, SOL_SOCKET
from _socket import socket as Socket  # what socket.socket is made of, without 4 ms of imports
from typing import Final

from rxtasks.errors import ProtocolError
from rxtasks.wire.framing import Buffer
from rxtasks.wire.parcel import LOST
from rxtasks.wire.sealed import Sealed, map_sealed, seal

__all__ = ["Passing"]

# Linux has both; elsewhere there are no memory files.
_SEND: Final[int] = MSG_DONTWAIT | getattr(_socket, "MSG_NOSIGNAL", 0)
_TAKE: Final[int] = MSG_DONTWAIT | getattr(_socket, "MSG_CMSG_CLOEXEC", 0)
_NUMBER: Final = 8
#: Room for one descriptor and no more: the kernel closes what it cannot put there.
_ROOM: Final = CMSG_LEN(4)
#: Files that came early and have not been named yet.
MOST_EARLY: Final = 1000


class Passing:
    """One end. Used by whoever holds the channel's encoder (give) or decoder (take).

    Args:
        sock: one end of a pair of Unix sockets that keeps messages apart.
        in_order: frames come in the order in which they were made: what was passed over is never named.
    """

    __slots__ = ("_early", "_given", "_in_order", "_sock", "_taken")

    def __init__(self, sock: Socket, *, in_order: bool) -> None:
        self._sock = sock
        self._in_order = in_order
        self._given = 0
        self._taken = 0
        self._early: dict[int, memoryview | bytes] = {}

    def give(self, blob: Sealed | Buffer) -> int | None:
        """Pass the blob on in a memory file and return the file's number; None: it has to go another way.

        Bytes are copied into a file made for this. Never waits.
        """
        made = blob if isinstance(blob, Sealed) else seal((blob,), len(blob))
        if made is None or made.fileno() < 0:
            return None
        number = self._given + 1
        rights = [(SOL_SOCKET, SCM_RIGHTS, made.fileno().to_bytes(4, sys.byteorder))]
        try:
            self._sock.sendmsg([number.to_bytes(_NUMBER, "little")], rights, _SEND)
        except OSError:  # full, or more descriptors are under way than the kernel allows (ETOOMANYREFS), or closed
            return None
        self._given = number
        return number

    def take(self, number: int, size: int) -> memoryview | bytes:
        """Return the bytes of file `number`, mapped; its descriptor is closed.

        Where this process has no descriptor or memory left for it, the bytes say that when they are loaded.

        Raises:
            ProtocolError: it has not come, or is not what was announced.
        """
        if number in self._early:
            content = self._early.pop(number)
            if content is not LOST and len(content) != size:
                raise ProtocolError(f"a memory file of {len(content)} bytes came, announced with {size}")
            return content
        while self._taken < number:
            fd = self._receive()
            try:
                if self._taken == number:
                    return LOST if fd < 0 else _mapped(fd, size)
                if not self._in_order:
                    self._keep(fd)
            finally:
                if fd >= 0:
                    os.close(fd)
        raise ProtocolError(f"a message refers to memory file {number}, which has been taken")

    def _receive(self) -> int:
        """Return the next descriptor, -1 if this process could not take it."""
        try:
            data, rights, flags, _ = self._sock.recvmsg(_NUMBER, _ROOM, _TAKE)
        except OSError as error:
            raise ProtocolError(f"a message refers to a memory file that has not come ({error.strerror})") from None
        fd = int.from_bytes(rights[0][2][:4], sys.byteorder) if rights and len(rights[0][2]) >= 4 else -1
        if int.from_bytes(data, "little") != self._taken + 1 or len(data) != _NUMBER:
            if fd >= 0:
                os.close(fd)
            raise ProtocolError("memory files came out of order, or none came")
        self._taken += 1
        if fd < 0 and not flags & MSG_CTRUNC:
            raise ProtocolError(f"memory file {self._taken} came without a descriptor")
        return fd

    def _keep(self, fd: int) -> None:
        """Keep what comes before the frame that names it."""
        if len(self._early) >= MOST_EARLY:
            raise ProtocolError("memory files come that no message refers to")
        self._early[self._taken] = LOST if fd < 0 else _mapped(fd, os.fstat(fd).st_size)

    def close(self) -> None:
        """Close the socket, and with it what is under way to this end."""
        self._early.clear()
        with contextlib.suppress(OSError):
            self._sock.close()

    def detach(self) -> int:
        """Give up the socket without closing it and return its descriptor."""
        return self._sock.detach()


def _mapped(fd: int, size: int) -> memoryview | bytes:
    try:
        return map_sealed(fd, size)
    except OSError:  # no memory, or too many mappings
        return LOST
