"""Who holds the locks of a store, as far as the kernel tells (Linux)."""

from __future__ import annotations

import os
from collections.abc import Iterator

__all__ = ["holder_of", "is_held_here"]

#: Bytes of the -shm file whose locks are the write lock of the log, and the one that every connection holds while it is open:
#: https://www.sqlite.org/walformat.html, section 2.3.1, and unixShmSystemLock of SQLite's os_unix.c.
_WRITE_LOCK, _OPEN_LOCK = 120, 128


def holder_of(path: str) -> str | None:
    """Return "process N (its command)" of whoever else holds the write lock of the store at `path`; None: not known."""
    for kind, pid in _locks(path, _WRITE_LOCK):
        if kind == "WRITE" and pid > 0 and pid != os.getpid():
            return f"process {pid}{_command(pid)}"
    return None


def is_held_here(path: str) -> bool:
    """Say whether this process is seen to hold the lock that goes with an open connection to the store at `path`."""
    return any(pid == os.getpid() for _, pid in _locks(path, _OPEN_LOCK))


def _locks(path: str, byte: int) -> Iterator[tuple[str, int]]:
    """Yield kind (READ, WRITE) and pid of each lock on this byte of the -shm file."""
    try:
        inode = os.stat(path + "-shm").st_ino
        with open("/proc/locks", encoding="ascii", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        fields = line.split()
        # 1: POSIX ADVISORY WRITE 1234 fd:01:5678 120 120
        if len(fields) < 8 or fields[1] not in ("POSIX", "OFDLCK") or not fields[5].endswith(f":{inode}"):
            continue
        first, last = int(fields[6]), fields[7]
        if first <= byte and (last == "EOF" or int(last) >= byte):
            yield fields[3], int(fields[4])


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
