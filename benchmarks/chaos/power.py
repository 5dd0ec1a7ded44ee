"""A loss of power, simulated: what nobody had synced is undone.

::

    xWrite, xTruncate ──> what was there before goes to FILE.undo ──> the file itself
    xSync ──────────────> the file itself ──> FILE.undo is emptied
    power is lost: every process is killed, then FILE.undo is applied from its end to its beginning

SQLite's file operations go through a VFS of ours, in every process that has the file open; undo files are shared by them,
as the file is. It shows whether what was acknowledged had been synced before: the worst that a disk may do, to lose all
that was not synced. It does not show torn pages, or writes that a disk reorders; SQLite's own tests do. A sync that another
process's write overtakes counts that write as synced. The -shm file is memory of running processes, and goes with them.
"""

from __future__ import annotations

import contextlib
import os
import struct
from pathlib import Path
from typing import Any

import apsw

__all__ = ["install", "lose"]

#: Place and length of what was there before, the length of the file, and how many bytes follow.
_HEAD = struct.Struct("<qqqq")
_SUFFIX = ".undo"
#: The VFS that does the work.
_UNDER = "unix"
#: Kinds of files that hold what is committed.
_KEPT = (apsw.SQLITE_OPEN_MAIN_DB, apsw.SQLITE_OPEN_WAL, apsw.SQLITE_OPEN_MAIN_JOURNAL)


class _File(apsw.VFSFile):
    def __init__(self, inherit: str, name: Any, flags: list[int]) -> None:
        path = name if isinstance(name, str) else name.filename()
        super().__init__(inherit, name, flags)
        self._kept = any(flags[0] & kind for kind in _KEPT)
        if self._kept:
            self._undo = os.open(path + _SUFFIX, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _remember(self, offset: int, length: int) -> None:
        # Through SQLite's own descriptor: to close another one of the file would give its locks away.
        size = self.xFileSize()
        length = max(0, min(length, size - offset))
        before = self.xRead(length, offset) if length else b""
        os.write(self._undo, _HEAD.pack(offset, length, size, len(before)) + before)

    def xWrite(self, data: bytes, offset: int) -> None:
        if self._kept:
            self._remember(offset, len(data))
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:
        if self._kept:
            self._remember(newsize, self.xFileSize() - newsize)
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:
        super().xSync(flags)
        if self._kept:
            os.ftruncate(self._undo, 0)

    def xClose(self) -> None:
        super().xClose()
        if self._kept:
            os.close(self._undo)


class _Power(apsw.VFS):
    def __init__(self) -> None:
        super().__init__("rxtasks-chaos-power", _UNDER, makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        return _File(_UNDER, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        super().xDelete(filename, syncdir)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(filename + _SUFFIX)


_installed: list[_Power] = []


def install() -> None:
    """From now on keep account of what is not synced, in this process."""
    _installed.append(_Power())


def lose(database: Path) -> int:
    """Undo what was not synced, once no process has the database open; return how many writes that were."""
    undone = 0
    for path in (database, database.with_name(database.name + "-wal")):
        undo = path.with_name(path.name + _SUFFIX)
        if undo.exists() and path.exists():
            undone += _apply(path, undo.read_bytes())
            undo.unlink()
    database.with_name(database.name + "-shm").unlink(missing_ok=True)
    return undone


def _apply(path: Path, journal: bytes) -> int:
    records = []
    at = 0
    while at + _HEAD.size <= len(journal):
        offset, _, size, length = _HEAD.unpack_from(journal, at)
        at += _HEAD.size
        records.append((offset, size, journal[at : at + length]))
        at += length
    with path.open("r+b") as file:
        for offset, size, before in reversed(records):
            file.seek(offset)
            file.write(before)
            file.truncate(size)
        os.fsync(file.fileno())
    return len(records)
