"""Telling systemd how the pool is: the protocol of sd_notify(3), one datagram for each message.

The variables of the environment are taken out of it, so that neither workers nor what they start speak for the pool.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import MutableMapping

__all__ = ["Notifier"]


class Notifier:
    """Sends messages to whoever started this process, if it wants any. Never raises, never waits.

    Args:
        address: path of the socket; one that begins with @ is in the abstract namespace of Linux. None = nobody listens.
        watchdog: seconds within which a sign of life is awaited, None = none is.
    """

    def __init__(self, address: str | None = None, watchdog: float | None = None) -> None:
        self.watchdog = watchdog
        self._address = address

    @staticmethod
    def from_environment(environ: MutableMapping[str, str] | None = None) -> Notifier:
        """Return the notifier that the environment asks for, and take the variables out of it."""
        words = os.environ if environ is None else environ
        address = words.pop("NOTIFY_SOCKET", None)
        period, pid = words.pop("WATCHDOG_USEC", ""), words.pop("WATCHDOG_PID", "")
        watchdog = None
        # sd_watchdog_enabled(3): a process id that is another's means that another one is watched.
        if period.isascii() and period.isdigit() and int(period) > 0 and pid in ("", str(os.getpid())):
            watchdog = int(period) / 1e6
        return Notifier(address if address and address[0] in "/@" and len(address) > 1 else None, watchdog)

    @property
    def heard(self) -> bool:
        """Whether anybody listens."""
        return self._address is not None

    def ready(self, status: str, pid: int | None = None) -> None:
        """Say that the pool is ready, and which process it is (None: this one)."""
        self.send(f"READY=1\nMAINPID={os.getpid() if pid is None else pid}\nSTATUS={_line(status)}")

    def status(self, status: str) -> None:
        """Say in one line how it is; `systemctl status` shows it."""
        self.send(f"STATUS={_line(status)}")

    def stopping(self, status: str) -> None:
        """Say that the pool is about to end."""
        self.send(f"STOPPING=1\nSTATUS={_line(status)}")

    def alive(self) -> None:
        """Give the watchdog its sign of life."""
        self.send("WATCHDOG=1")

    def extend(self, seconds: float) -> None:
        """Ask for more time to start or stop in."""
        self.send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def send(self, message: str) -> None:
        """Send one message; nobody there, or nobody who reads, is no error."""
        if self._address is None:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError, ValueError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto(message.encode("utf-8", "replace"), os.fsencode(address))


def _line(text: str) -> str:
    return " ".join(text.split())
