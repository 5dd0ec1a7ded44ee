"""`RotatedFiles`: the log in files of a bounded size, so many of them, so many days; written by this, read by anybody.

::

    on_next(line) ──> one write ──> rxtasks.log ──full──> rename ──thread──> compress, remove the oldest
                          └─ fails ──> kept in memory, tried again every second, told once

Nothing here raises into the stream that it observes: a full disk, a removed directory, a directory that cannot be
written are told once to the logger "rxtasks", and lines wait in memory within a bound meanwhile; of those that had to
go a line tells how many, where they are missing.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Final

from reactivex import abc

from rxtasks.errors import SettingsError
from rxtasks.logs.filenames import NAME, check_name
from rxtasks.logs.filter import LogFilter
from rxtasks.logs.line import POOL, LogLine
from rxtasks.logs.reading import LogFiles, LogQuery
from rxtasks.logs.writing import CurrentFile
from rxtasks.logs.zipping import Keeper
from rxtasks.text import counted

__all__ = ["HELD_BYTES", "HELD_LINES", "RotatedFiles"]

#: Lines, and bytes of them, that are kept while they cannot be written (R6); then the oldest goes, counted.
HELD_LINES: Final = 10_000
HELD_BYTES: Final = 16 * 2**20
#: Seconds between two tries.
_AGAIN: Final = 1.0
#: Seconds after a rotation that failed until the next try.
_ROTATE_AGAIN: Final = 60.0


class RotatedFiles(abc.ObserverBase[LogLine]):
    """Writes lines into a directory; opened with the first line, so that one that is only read changes nothing.

    Args:
        directory: where; made (0700) if it is not there. Processes may share it: each writes files of its own.
        max_bytes: of one file; a line is never divided.
        backups: full files that are kept, compressed.
        days: after which a file is removed.
        name: what the files are called; logs of several names may share a directory.
        report: told, in a sentence, that lines cannot be written, and that they can again; any thread.

    Raises:
        SettingsError: an argument is none of these.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        max_bytes: int = 10_000_000,
        backups: int = 5,
        days: float = 7.0,
        *,
        name: str = NAME,
        report: Callable[[str], None] | None = None,
    ) -> None:
        for what, value, least in (("max_bytes", max_bytes, 1), ("backups", backups, 0)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise SettingsError(f"{what} is a whole number from {least}, not {value!r}")
        if isinstance(days, bool) or not isinstance(days, int | float) or not 0 < days <= 36_500:
            raise SettingsError(f"days is a number over 0, up to 36500, not {days!r}")
        self.directory = Path(os.path.abspath(os.fspath(directory)))
        self._name = check_name(name)
        self._max_bytes = max_bytes
        self._age = timedelta(days=days)
        self._report = report or _log
        self._keep = (backups, days)
        self._keeper = self._new_keeper()
        self._lock = threading.RLock()
        self._file: CurrentFile | None = None
        self._pid = os.getpid()
        #: Encoded lines that could not be written yet.
        self._held: deque[tuple[bytes, datetime]] = deque()
        self._held_bytes = 0
        self._gap = 0
        self._trouble: OSError | None = None
        self._next_try = 0.0
        self._next_rotation = 0.0
        self._keeper_told = False
        self._closed = threading.Event()
        #: Lines that were written, and lines that had to be given up.
        self.written = 0
        self.lost = 0

    # -- the observer --------------------------------------------------------------------------------------------------

    def on_next(self, value: LogLine) -> None:
        """Write one line. Never raises; it is in the hands of the system when this returns, if nothing was told."""
        data = value.to_json() + b"\n"
        if self._pid != os.getpid():
            self._after_fork()
        with self._lock:
            if self._closed.is_set():
                return
            if self._trouble is None and self._put(data, value.time):
                return
            self._hold(data, value.time)
            self._try_again()

    def on_error(self, error: Exception) -> None:
        """End, as on_completed."""
        self.close()

    def on_completed(self) -> None:
        """End: write what waits, and close."""
        self.close()

    @property
    def trouble(self) -> str | None:
        """Why nothing can be written now; None = it can."""
        trouble = self._trouble
        return None if trouble is None else f"{trouble.strerror or trouble}: {self.directory}"

    def query(self, wanted: LogFilter | None = None, limit: int | None = None) -> LogQuery:
        """Return the lines in all files of this log that pass, the oldest first, one at a time; see LogFiles.

        Raises:
            SettingsError: `limit` is no number.
        """
        return LogFiles(self.directory, self._name).query(wanted, limit)

    def close(self, timeout: float = 5.0) -> None:
        """Write what waits, if that is possible now, and end; waits for the compression at most `timeout` seconds."""
        until = monotonic() + timeout
        if not self._lock.acquire(timeout=timeout):  # a disk that does not answer
            self._closed.set()
            return
        try:
            if not self._closed.is_set():
                if self._trouble is not None:
                    self._next_try = 0.0
                    self._try_again()
                self._closed.set()
                self.lost += len(self._held)
                self._held.clear()
                if self._file is not None:
                    self._file.close()
                    self._file = None
        finally:
            self._lock.release()
        self._keeper.wait(max(0.0, until - monotonic()))

    def __enter__(self) -> RotatedFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- writing -------------------------------------------------------------------------------------------------------

    def _put(self, data: bytes, time: datetime) -> bool:
        """Write one line; False: it could not be, which has been told."""
        try:
            file = self._opened()
            if file.size and (file.size + len(data) > self._max_bytes or self._is_old(file)):
                self._rotate(file)
            file.append(data, time)
        except OSError as error:
            self._failed(error)
            return False
        self.written += 1
        return True

    def _opened(self) -> CurrentFile:
        file = self._file
        if file is not None and file.in_place():
            return file
        if file is not None:
            file.close()
            self._file = None
            self._report(f"the log file in {self.directory} was removed or replaced: another one is begun")
        file = self._file = CurrentFile(self.directory, self._name)
        self._keeper.keep(file.stem)
        return file

    def _is_old(self, file: CurrentFile) -> bool:
        return file.first is not None and file.first + self._age < datetime.now(UTC)

    def _rotate(self, file: CurrentFile) -> None:
        """Begin another file; where that is not possible, this one grows on."""
        now = monotonic()
        if now < self._next_rotation:
            return
        try:
            file.rotate()
        except OSError as error:
            self._next_rotation = now + _ROTATE_AGAIN
            self._report(f"the log file in {self.directory} cannot be rotated and grows: {error}")
            return
        self._keeper.keep(file.stem)

    # -- trouble -------------------------------------------------------------------------------------------------------

    def _failed(self, error: OSError) -> None:
        self._next_try = monotonic() + _AGAIN
        first, self._trouble = self._trouble is None, error
        if first:
            self._report(
                f"log lines cannot be written to {self.directory}: {error}; up to {HELD_LINES:,} wait in memory,"
                " and it is tried again every second"
            )
            with contextlib.suppress(RuntimeError):  # the interpreter is ending
                threading.Thread(target=self._retry, name="rxtasks-logs-retry", daemon=True).start()

    def _retry(self) -> None:
        while not self._closed.wait(_AGAIN):
            with self._lock:
                if self._closed.is_set() or self._trouble is None:
                    return
                self._try_again()

    def _hold(self, data: bytes, time: datetime) -> None:
        self._held.append((data, time))
        self._held_bytes += len(data)
        while len(self._held) > HELD_LINES or self._held_bytes > HELD_BYTES:
            self._held_bytes -= len(self._held.popleft()[0])
            self._gap += 1
            self.lost += 1

    def _try_again(self) -> None:
        """Write what waits, if it is time to try; the lock is held."""
        if self._trouble is None or monotonic() < self._next_try:
            return
        held, gap = self._held, self._gap
        if gap and held:
            text = f"{counted(gap, 'line')} missing here: they could not be written ({self._trouble})"
            line = LogLine(held[0][1], "WARNING", text, stream=POOL, fields={"dropped": gap})
            if not self._put(line.to_json() + b"\n", line.time):
                return
            self.written -= 1
            self._gap = 0
        while held:
            data, time = held[0]
            if not self._put(data, time):
                return
            held.popleft()
            self._held_bytes -= len(data)
        self._trouble = None
        self._report(f"log lines are written to {self.directory} again")

    def _new_keeper(self) -> Keeper:
        return Keeper(self.directory, self._name, *self._keep, self._keeper_failed)

    def _keeper_failed(self, error: OSError) -> None:
        if not self._keeper_told:
            self._keeper_told = True
            self._report(f"full log files in {self.directory} cannot be compressed or removed: {error}")

    def _after_fork(self) -> None:
        """In a forked child the file is the parent's: another one is begun. Its threads are not here, its locks may be held."""
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._keeper = self._new_keeper()
        self._trouble = None
        if self._file is not None:
            self._file.close()
            self._file = None
        self._held.clear()
        self._held_bytes = self._gap = 0


def _log(text: str) -> None:
    logging.getLogger("rxtasks").error("%s", text)
