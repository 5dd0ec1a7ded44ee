"""One SQLite library a file and process.

POSIX locks belong to a process and a file: as soon as *anything* in the process closes a descriptor of the file, all of its
locks on it are gone, also those that SQLite holds through another descriptor (https://www.sqlite.org/howtocorrupt.html, 2.2).
The standard library's sqlite3 is another copy of SQLite than apsw's, and does so; a plain open() and close() does so too.
Then other processes may delete the log under the writer, and what it commits is lost. So while a store is open here, anybody
else's way to the file is barred by an audit hook, which sees every open() of Python and every sqlite3.connect().

A forked child has the locks of its parent in its memory, and none in the kernel: there the store cannot be opened at all.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from rxtasks.errors import StoreError

__all__ = ["Guard"]


class _Entry:
    __slots__ = ("count", "files", "path", "pid")

    def __init__(self, path: str, pid: int) -> None:
        self.path = path
        self.pid = pid
        self.count = 0
        #: (device, inode) of the file and of its shared memory.
        self.files: set[tuple[int, int]] = set()


class _Watch:
    """What is open here. An audit hook stays for the life of the process, so there is one, and this is what it asks."""

    def __init__(self) -> None:
        self.lock = threading.RLock()  # a finalizer of the thread that has it may come in
        self.hooked = False
        self.entries: dict[str, _Entry] = {}
        self.files: dict[tuple[int, int], _Entry] = {}

    def look(self, event: str, target: Any) -> None:
        if isinstance(target, int) or not self.files:
            return
        try:
            name = os.fsdecode(target)
            if event == "sqlite3.connect" and name.startswith("file:"):
                name = unquote(urlsplit(name).path)
            found = os.stat(name)
        except (TypeError, ValueError, OSError):
            return
        entry = self.files.get((found.st_dev, found.st_ino))
        if entry is None or entry.pid != os.getpid() or not _still(entry.path, found):
            return
        if event == "open":
            raise StoreError(
                f"{name} is the store {entry.path}, which this process has open: to open and close the file beside it would"
                " take the store's locks away, and tasks would be lost. For a copy use service.backup(path)"
            )
        raise StoreError(
            f"{name} is the store {entry.path}, which this process has open through apsw: a second SQLite library would take"
            " its locks away, and tasks would be lost. Use another process, or a copy made by service.backup(path)"
        )


def _still(path: str, found: os.stat_result) -> bool:
    """Say whether the store's names lead to this file: the number of one that is gone is given to another."""
    for name in (path, path + "-shm"):
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(name), found):
                return True
    return False


_watch: Final = _Watch()


def _hook(event: str, args: tuple[Any, ...], look: Callable[[str, Any], None] = _watch.look) -> None:
    # Called for every event that is audited, marshal's among them: nothing but this test.
    if event == "open" or event == "sqlite3.connect":
        look(event, args[0])


class Guard:
    """Bars other ways to one store's file, from `enter` to `leave`; they may be called by several stores of one file."""

    def __init__(self, path: str) -> None:
        self._path = os.path.realpath(path)

    def enter(self) -> None:
        """A connection is about to be opened.

        Raises:
            StoreError: something else in this process has the file open, or had it when this process was forked.
        """
        with _watch.lock:
            entry = _watch.entries.get(self._path)
            if entry is not None and entry.pid != os.getpid():
                raise StoreError(
                    f"the store {self._path} was open when this process was forked, and cannot be used in the child: its"
                    " locks are the parent's. Start the child anew (subprocess, or multiprocessing with spawn), or stop the"
                    " service before the fork"
                )
            if entry is None:
                self._look_for_others()
                entry = _watch.entries[self._path] = _Entry(self._path, os.getpid())
            entry.count += 1

    def opened(self) -> None:
        """It is open: from now on no one else may open it here."""
        with _watch.lock:
            entry = _watch.entries.get(self._path)
            if entry is None:
                return
            for name in (self._path, self._path + "-shm"):
                with contextlib.suppress(OSError):
                    found = os.stat(name)
                    entry.files.add((found.st_dev, found.st_ino))
            _watch.files.update(dict.fromkeys(entry.files, entry))
            if not _watch.hooked:
                _watch.hooked = True
                sys.addaudithook(_hook)

    def leave(self) -> None:
        """A connection was closed."""
        with _watch.lock:
            entry = _watch.entries.get(self._path)
            if entry is None or entry.pid != os.getpid():
                return
            entry.count -= 1
            if entry.count:
                return
            del _watch.entries[self._path]
            _watch.files = {file: other for file, other in _watch.files.items() if other is not entry}

    def _look_for_others(self) -> None:
        """See whether a descriptor of the file is open here that is none of ours."""
        try:
            wanted = os.stat(self._path)
            numbers = os.listdir("/proc/self/fd")
        except OSError:
            return
        for number in numbers:
            with contextlib.suppress(OSError):
                if os.path.samestat(os.stat(f"/proc/self/fd/{number}"), wanted):
                    raise StoreError(
                        f"this process has {self._path} open already (descriptor {number}), by open() or another SQLite"
                        " library such as sqlite3; when that is closed the store's locks would be gone, and tasks lost."
                        " Close it before, or use the store in a process of its own"
                    )


def _in_child() -> None:
    _watch.lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
