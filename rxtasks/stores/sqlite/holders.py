"""Who holds the write lock of a store, as far as the kernel tells (Linux)."""

from __future__ import annotations

import os

__all__ = ["holder_of"]

#: The byte of the -shm file whose lock is the write lock of the log: https://www.sqlite.org/walformat.html, section 2.3.1.
_WRITE_LOCK = 120


def holder_of(path: str) -> str | None:
    """Return "process N (its command)" of whoever else holds the write lock of the store at `path`; None: not known."""
    try:
        inode = os.stat(path + "-shm").st_ino
        with open("/proc/locks", encoding="ascii", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return None
    for line in lines:
        fields = line.split()
        # 1: POSIX ADVISORY WRITE 1234 fd:01:5678 120 120
        if len(fields) < 8 or fields[1] not in ("POSIX", "OFDLCK") or fields[3] != "WRITE":
            continue
        first, last = int(fields[6]), fields[7]
        if not fields[5].endswith(f":{inode}") or first > _WRITE_LOCK or (last != "EOF" and int(last) < _WRITE_LOCK):
            continue
        pid = int(fields[4])
        if pid > 0 and pid != os.getpid():
            return f"process {pid}{_command(pid)}"
    return None


def _command(pid: int) -> str:
    """Return its name and, where that matters, that it is stopped. No arguments: they may hold secrets."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            text = file.read()
    except OSError:
        return ""
    name, _, rest = text.partition("(")[2].rpartition(")")
    stopped = ", which is stopped: continue it (kill -CONT) or end it" if rest.split()[:1] in (["T"], ["t"]) else ""
    return f" ({name}{stopped})"
