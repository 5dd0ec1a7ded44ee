"""What SQLite says when something is wrong, as a StoreError that says what to do."""

from __future__ import annotations

import apsw

from rxtasks.errors import StoreError

__all__ = ["store_error"]

_ADVICE: list[tuple[type[BaseException], str]] = [
    (apsw.FullError, "the disk is full: free some space; nothing that was acknowledged is lost"),
    (apsw.ReadOnlyError, "the file or its directory cannot be written: check owner and mode, and how it is mounted"),
    (apsw.CantOpenError, "the file cannot be opened: check that its directory exists and may be written"),
    (apsw.NotADBError, "the file is no SQLite database: give the store a file of its own, or restore a backup"),
    (apsw.CorruptError, "the file is damaged: run `rxtasks store check`, and restore a backup"),
    (apsw.BusyError, "another process holds the write lock: find it with `fuser`, and let it go on or end it"),
    (apsw.LockedError, "another connection of this process holds the lock"),
    (apsw.IOError, "the system could not read or write the file: see its log (dmesg) for the disk"),
    (apsw.PermissionsError, "the system does not allow it: check owner and mode of the file"),
]


def store_error(path: str, error: BaseException) -> StoreError:
    """Return the error as a StoreError of the store at `path`."""
    if isinstance(error, StoreError):
        return error
    advice = next((text for kind, text in _ADVICE if isinstance(error, kind)), None)
    said = f"{type(error).__name__}: {error}"
    made = StoreError(f"the store {path} failed ({said})" + (f"; {advice}" if advice else ""))
    made.__cause__ = error
    return made
