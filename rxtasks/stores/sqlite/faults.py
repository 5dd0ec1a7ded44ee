"""What SQLite says when something is wrong: what it means, and as a StoreError that says what to do."""

from __future__ import annotations

import errno
from enum import Enum

import apsw

from rxtasks.errors import StoreError

__all__ = ["Fault", "fault_of", "store_error"]


class Fault(Enum):
    """What an error in a transaction means for the connection and for the other works."""

    #: It is about one of the works: the others can be done.
    WORK = 1
    #: There is no room on the disk.
    FULL = 2
    #: What the connection believes to be on disk may not be there (a failed fsync is never reported again,
    #: https://wiki.postgresql.org/wiki/Fsync_Errors): open the file anew, and see to its log, before going on.
    DISK = 3
    #: It can be tried again later as it is.
    LATER = 4


_DISK = (
    apsw.IOError,
    apsw.CorruptError,
    apsw.NotADBError,
    apsw.CantOpenError,
    apsw.ReadOnlyError,
    apsw.PermissionsError,
    apsw.SchemaChangeError,
    apsw.NoMemError,
    apsw.InternalError,
    apsw.ProtocolError,
)

_ADVICE: list[tuple[type[BaseException], str]] = [
    (
        apsw.FullError,
        "the disk is full: free some space. Nothing that was acknowledged is lost, tasks that run can still end and ended ones"
        " be pruned; new ones are refused until there is room again",
    ),
    (apsw.ReadOnlyError, "the file or its directory cannot be written: check owner and mode, and how it is mounted"),
    (apsw.CantOpenError, "the file cannot be opened: check that its directory exists and may be written"),
    (apsw.NotADBError, "the file is no SQLite database: give the store a file of its own, or restore a backup"),
    (apsw.CorruptError, "the file is damaged: run service.check(), and restore a backup"),
    (apsw.BusyError, "another process holds the write lock: let it go on, or end it"),
    (apsw.LockedError, "another connection of this process holds the lock"),
    (apsw.IOError, "the system could not read or write the file: see its log (dmesg) for the disk"),
    (apsw.PermissionsError, "the system does not allow it: check owner and mode of the file"),
]


def fault_of(error: BaseException, system_errno: int = 0) -> Fault:
    """Return what an error means; `system_errno`: what the system said to SQLite last."""
    if isinstance(error, apsw.FullError) or (isinstance(error, OSError) and error.errno in _NO_ROOM):
        return Fault.FULL
    if isinstance(error, apsw.IOError) and system_errno in _NO_ROOM:
        return Fault.FULL
    if isinstance(error, _DISK):
        return Fault.DISK
    if isinstance(error, apsw.BusyError | apsw.LockedError | apsw.InterruptError | OSError | StoreError):
        return Fault.LATER
    return Fault.WORK


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def store_error(path: str, error: BaseException, holder: str | None = None) -> StoreError:
    """Return the error as a StoreError of the store at `path`; `holder`: who has its write lock."""
    if isinstance(error, StoreError):
        return error
    advice = next((text for kind, text in _ADVICE if isinstance(error, kind)), None)
    if isinstance(error, apsw.BusyError) and holder is not None:
        advice = f"{holder} holds the write lock: let it go on, or end it"
    said = f"{type(error).__name__}: {error}"
    made = StoreError(f"the store {path} failed ({said})" + (f"; {advice}" if advice else ""))
    made.__cause__ = error
    return made
