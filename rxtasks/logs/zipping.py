"""Compressing full files and removing old ones, on a thread that is there while there is something to do.

Safe against a kill at any moment: a file is compressed into one of another name, which gets its own when it is complete
and on the disk; only then the plain one goes. If both are there, the compressed one is complete.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import os
import shutil
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from rxtasks.logs.filenames import Rotated, current_name, rotated_files, stems

__all__ = ["PART", "Keeper", "compress"]

#: What an archive is called that is not complete.
PART: Final = ".part"
_CHUNK: Final = 256 * 1024


def compress(file: Rotated) -> None:
    """Compress one full file.

    Raises:
        OSError: it could not be read, or there is no room; it is there as before.
    """
    part = file.zipped.with_name(file.zipped.name + PART)
    try:
        with open(file.plain, "rb") as plain:
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            with open(descriptor, "wb") as raw:
                with gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=6) as zipped:
                    shutil.copyfileobj(plain, zipped, _CHUNK)
                raw.flush()
                os.fsync(raw.fileno())
        os.replace(part, file.zipped)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise
    os.unlink(file.plain)


class Keeper:
    """Keeps the full files of one process in order.

    Args:
        backups: how many of them are kept.
        days: after how many days they are removed, those of this log's other processes too.
        failed: called with what went wrong, on the keeper's thread.
    """

    def __init__(
        self, directory: Path, name: str, backups: int, days: float, failed: Callable[[OSError], None]
    ) -> None:
        self._directory = directory
        self._name = name
        self._backups = backups
        self._days = days
        self._failed = failed
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._again: str | None = None

    def keep(self, stem: str) -> None:
        """See to it that the full files of `stem` are compressed and not too many; returns at once."""
        with self._lock:
            self._again = stem
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="rxtasks-logs-keep", daemon=True)
                with contextlib.suppress(RuntimeError):  # the interpreter is ending; the next start does it
                    thread.start()
                    self._thread = thread

    def wait(self, timeout: float) -> bool:
        """Wait until it is done; False: the time was over first."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout)
        return self._thread is None or not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._lock:
                stem, self._again = self._again, None
                if stem is None:
                    self._thread = None
                    return
            try:
                self.now(stem)
            except OSError as error:
                self._failed(error)

    def now(self, stem: str) -> None:
        """Do it on this thread.

        Raises:
            OSError: something could not be done; the rest was.
        """
        problem: OSError | None = None
        for left in self._directory.glob(f"{stem}.*{PART}"):  # of one that was killed; nobody else compresses these
            _remove(left)
        for each in stems(self._directory, self._name):
            files = rotated_files(self._directory, each)
            old = datetime.now(UTC) - timedelta(days=self._days)
            surplus = files[: max(0, len(files) - self._backups)] if each == stem else []
            for file in files:
                try:
                    if file in surplus or file.last < old:
                        _remove(file.plain)
                        _remove(file.zipped)
                    elif each != stem:
                        continue
                    elif file.compressed:
                        _remove(file.plain)  # it was killed between the two
                    else:
                        compress(file)
                except FileNotFoundError:
                    continue  # somebody has removed it
                except OSError as error:
                    problem = error
            if each != stem:
                _remove_left(self._directory / current_name(each), old)
        if problem is not None:
            raise problem


def _remove_left(path: Path, old: datetime) -> None:
    """Remove what a process has written last that is no more, if it is old."""
    with contextlib.suppress(OSError):
        if os.stat(path).st_mtime >= old.timestamp():
            return
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # else it is written still
            os.unlink(path)
        finally:
            os.close(descriptor)


def _remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
