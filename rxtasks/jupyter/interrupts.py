"""Interrupts that arrive while a cell awaits.

ipykernel cancels an `await` on SIGINT by a callback on its event loop, added in the signal's handler; but the loop sleeps
in its selector and is not told (the handler runs on the loop's own thread, so no wake-up is sent): the cell goes on until
something else happens there. Python can write to a file descriptor when a signal comes (signal.set_wakeup_fd, as asyncio
does for its own signal handlers); the loop reads it and so wakes up. The handlers of signals are left alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading

__all__ = ["SignalWakeup"]


class SignalWakeup:
    """Wakes the running event loop whenever a signal comes, from enable() to disable()."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ends: tuple[socket.socket, socket.socket] | None = None

    def enable(self) -> bool:
        """Begin; False where it cannot be done: no loop runs here, this is not the main thread, or it is done already."""
        if self._ends is not None or threading.current_thread() is not threading.main_thread():
            return False
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return False
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        if before != -1:
            signal.set_wakeup_fd(before)
            reader.close()
            writer.close()
            return False
        loop.add_reader(reader, _drain, reader)
        self._loop, self._ends = loop, (reader, writer)
        return True

    def disable(self) -> None:
        """End; on the same thread."""
        loop, ends = self._loop, self._ends
        self._loop = self._ends = None
        if loop is None or ends is None:
            return
        reader, writer = ends
        now = signal.set_wakeup_fd(-1)
        if now not in (-1, writer.fileno()):
            signal.set_wakeup_fd(now)  # somebody else's by now
        loop.remove_reader(reader)
        reader.close()
        writer.close()


def _drain(reader: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError, InterruptedError):
        reader.recv(4096)
