"""One connection, bounded: uvicorn's HTTP/1.1 by h11, with a time for everything that a peer can be slow at.

::

    connected ── HEAD seconds ──> request complete ──> answered ── HEAD seconds ──> the next one ...
        │            │ 408                                 │ a peer that takes nothing for STALL seconds: cut off
        │ another user: cut off; too many: the one that has been idle longest makes room
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import struct
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["CONNECTIONS", "HEAD_BYTES", "BoundedProtocol"]

#: Connections at most, of both kinds together.
CONNECTIONS: Final = 200
#: Bytes that a request's line and headers may have.
HEAD_BYTES: Final = 16 * 1024
#: Seconds in which a peer has sent them, and those that a connection may idle.
_HEAD: Final = 10.0
#: Seconds for which a peer may take next to nothing of what is sent to it.
_STALL: Final = 30.0
#: Bytes that it has to take in that time.
_LEAST: Final = 1024

#: uvicorn tells of each bad request; whoever can make some could fill a disk with them.
_SILENT: Final = logging.Logger("rxtasks.control.protocol", logging.CRITICAL + 1)


class BoundedProtocol(H11Protocol):
    """See the module."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = self.access_logger = _SILENT
        self.access_log = False
        #: The requests of this connection, for the application: came it by the Unix socket?
        self.app_state = {"local": False}
        self._head_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None
        self._idle_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        sock = transport.get_extra_info("socket")
        if sock.family == socket.AF_UNIX:
            if not _may(sock):
                transport.abort()
                return
            self.app_state["local"] = True
        elif hasattr(socket, "TCP_USER_TIMEOUT"):  # a machine that is gone takes nothing, and says nothing
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(_STALL * 2000))
        if len(self.connections) > CONNECTIONS and not self._make_room():
            self._refuse(503, "BUSY", f"{CONNECTIONS} connections are open", "try again in a moment")
            return
        self._expect_head()

    def _make_room(self) -> bool:
        idle = [one for one in self.connections if isinstance(one, BoundedProtocol) and one is not self and one.idle]
        if not idle:
            return False
        longest = min(idle, key=lambda one: one._idle_since)
        longest.connections.discard(longest)
        longest.transport.abort()
        return True

    @property
    def idle(self) -> bool:
        """No request of it is in hand."""
        return self.cycle is None or self.cycle.response_complete

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_timers()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()

    # -- its times -----------------------------------------------------------------------------------------------------

    def _expect_head(self) -> None:
        self._idle_since = self.loop.time()
        if self._head_timer is not None:
            self._head_timer.cancel()
        self._head_timer = self.loop.call_later(_HEAD, self._late)

    def _late(self) -> None:
        self._head_timer = None
        if self.idle and not self.transport.is_closing():
            self._refuse(408, "TIMEOUT", f"no complete request came within {_HEAD:g} s", "")

    def on_response_complete(self) -> None:
        if not self.transport.is_closing():
            self._expect_head()
        super().on_response_complete()
        self._look_at_head()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._stall_timer is None:
            self._watch(self.transport.get_write_buffer_size())

    def _watch(self, before: int) -> None:
        self._stall_timer = self.loop.call_later(_STALL, self._look, before)

    def _look(self, before: int) -> None:
        """See whether the peer has taken something meanwhile."""
        now = self.transport.get_write_buffer_size()
        if now <= before - _LEAST:
            self._watch(now)
        else:
            self.transport.abort()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def _forget_timers(self) -> None:
        for timer in (self._head_timer, self._stall_timer):
            if timer is not None:
                timer.cancel()
        self._head_timer = self._stall_timer = None

    # -- what comes in -------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        try:
            super().data_received(data)
        except Exception:  # what h11 makes of garbage in the wrong moment
            self.transport.abort()
            return
        self._look_at_head()

    def _look_at_head(self) -> None:
        """The next request is there, or has begun to be answered: nothing is waited for."""
        if not self.idle and self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def send_400_response(self, msg: str) -> None:
        if not self.idle:
            if self.cycle.response_started:
                self.transport.abort()
                return
            self.cycle.disconnected = True  # nobody waits for what is being done
            self.cycle.message_event.set()
        self._refuse(400, "BAD_REQUEST", "that is no request of HTTP/1.1, or its headers are too large", "")

    def _refuse(self, status: int, code: str, message: str, hint: str) -> None:
        body = json.dumps({"error": {"code": code, "message": message, "hint": hint}}).encode()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.write(
                b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"
                % (status, code.encode(), len(body), body)
            )
        self.transport.close()


def _may(sock: socket.socket) -> bool:
    """Say whether the process at the other end is this user's, or root's (SO_PEERCRED, unix(7))."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True  # the mode of the directory has to do
    try:
        _, uid, _ = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("iII")))
    except OSError:
        return False
    return uid in (0, os.geteuid())
