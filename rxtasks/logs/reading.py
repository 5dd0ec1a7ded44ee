"""Reading the files of a log, while they are written, rotated and removed or long after: `LogFiles`.

One line at a time, so that memory is bounded; files outside of the time asked for are not opened. What cannot be read
(a torn last line, a damaged archive) is skipped and counted.
"""

from __future__ import annotations

import errno
import gzip
import heapq
import os
import stat
import zlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

from rxtasks.errors import ProtocolError, SettingsError
from rxtasks.logs.filenames import Rotated, check_name, current_name, rotated_files, stems
from rxtasks.logs.filter import LogFilter
from rxtasks.logs.line import LogLine

__all__ = ["LogFiles", "LogQuery"]

#: Bytes of a line at most: a message of 64 KiB of control characters takes six times as many.
_LONGEST: Final = 2**20
#: Files that cannot be read and are named.
_MOST_PROBLEMS: Final = 20
#: What says that an archive is damaged.
_DAMAGED: Final = (EOFError, zlib.error, gzip.BadGzipFile)


class LogQuery(Iterator[LogLine]):
    """The lines that a query finds, one at a time, the oldest first; close it, or read it to the end."""

    def __init__(self, lines: Iterator[LogLine], count: _Count) -> None:
        self._lines = lines
        self._count = count

    def __next__(self) -> LogLine:
        return next(self._lines)

    @property
    def skipped(self) -> int:
        """Lines so far that could not be read, and files, of which the rest is missing (see problems)."""
        return self._count.skipped

    @property
    def problems(self) -> list[str]:
        """Say of each file so far that could not be read why, the first few."""
        return list(self._count.problems)

    def close(self) -> None:
        """Close the files."""
        close = getattr(self._lines, "close", None)
        if close is not None:
            close()

    def __enter__(self) -> LogQuery:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Count:
    def __init__(self) -> None:
        self.skipped = 0
        self.problems: list[str] = []

    def unreadable(self, path: Path, error: BaseException) -> None:
        self.skipped += 1
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(f"{path}: {getattr(error, 'strerror', None) or error or type(error).__name__}")


class LogFiles:
    """The log files of a directory, to be read.

    Args:
        directory: where they are; it need not be there.
        name: of the log; None = each log there.

    Raises:
        SettingsError: `name` cannot be one.
    """

    def __init__(self, directory: str | os.PathLike[str], name: str | None = None) -> None:
        self.directory = Path(directory)
        self._name = None if name is None else check_name(name)

    def query(self, wanted: LogFilter | None = None, limit: int | None = None) -> LogQuery:
        """Return the lines that pass, the oldest first; with a limit the last so many of them.

        Of the files of several processes they are merged by time. Without a limit memory holds one line a process; with
        one, so many.

        Raises:
            SettingsError: `limit` is no number.
        """
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
            raise SettingsError(f"a limit of lines is a whole number from 0 or None, not {limit!r}")
        passing, count = LogFilter() if wanted is None else wanted, _Count()
        found = stems(self.directory, self._name)
        if limit is None:
            each = [self._read(stem, passing, count) for stem in found]
        else:
            each = [iter(self._last(stem, passing, limit, count)) for stem in found]
        lines = each[0] if len(each) == 1 else _merged(each)
        if limit is not None and len(each) > 1:
            lines = iter(deque(lines, maxlen=limit))
        return LogQuery(lines, count)

    def _read(self, stem: str, wanted: LogFilter, count: _Count) -> Iterator[LogLine]:
        with _Open(self.directory, stem, count) as files:
            for file in files.listed():
                yield from files.lines(file, wanted, count)

    def _last(self, stem: str, wanted: LogFilter, limit: int, count: _Count) -> list[LogLine]:
        """Return the last lines that pass: the newest files first, until there are enough."""
        found: list[LogLine] = []
        with _Open(self.directory, stem, count) as files:
            for file in reversed(files.listed()):
                if len(found) >= limit:
                    break
                found = [*deque(files.lines(file, wanted, count), maxlen=limit - len(found)), *found]
        return found


def _merged(each: list[Iterator[LogLine]]) -> Iterator[LogLine]:
    try:
        yield from heapq.merge(*each, key=lambda line: line.time)
    finally:
        for lines in each:
            close: Any = getattr(lines, "close", None)
            if close is not None:
                close()


class _Open:
    """The files of one process at one moment.

    The current file is opened before the others are listed: if it becomes full in between, it is known by its inode (or
    has none any more, once it is compressed) and read once.
    """

    def __init__(self, directory: Path, stem: str, count: _Count) -> None:
        self._directory = directory
        self._count = count
        self._path = directory / current_name(stem)
        self._current: IO[bytes] | None = None
        try:
            self._current = _open_file(self._path)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            count.unreadable(self._path, error)
        self._rotated = rotated_files(directory, stem)
        if self._current is not None:
            status = os.fstat(self._current.fileno())
            if status.st_nlink == 0 or self._is_listed((status.st_dev, status.st_ino)):
                self._current.close()
                self._current = None

    def __enter__(self) -> _Open:
        return self

    def __exit__(self, *_: object) -> None:
        if self._current is not None:
            self._current.close()

    def _is_listed(self, inode: tuple[int, int]) -> bool:
        for file in reversed(self._rotated):
            if not file.compressed:
                try:
                    status = os.stat(file.plain)
                except OSError:
                    continue
                if (status.st_dev, status.st_ino) == inode:
                    return True
        return False

    def listed(self) -> list[Rotated | None]:
        """Return the files in the order in which they were written; None is the current one."""
        return [*self._rotated, None]

    def lines(self, file: Rotated | None, wanted: LogFilter, count: _Count) -> Iterator[LogLine]:
        """Yield the lines of a file that pass."""
        if file is None:
            if self._current is not None:
                try:
                    yield from _lines(self._current, wanted, count)
                except OSError as error:
                    count.unreadable(self._path, error)
            return
        if not wanted.may_hold(file.first, file.last):
            return
        try:
            opened = _opened(file)
            if opened is not None:
                with opened:
                    yield from _lines(opened, wanted, count)
        except (OSError, *_DAMAGED) as error:
            count.unreadable(file.path, error)


def _opened(file: Rotated) -> IO[bytes] | gzip.GzipFile | None:
    """Open a full file; it may have been compressed meanwhile, or removed (None)."""
    if not file.compressed:
        try:
            return _open_file(file.plain)
        except FileNotFoundError:
            pass
    try:
        raw = _open_file(file.zipped)
    except FileNotFoundError:
        return None
    return _Unzipped(raw)


def _open_file(path: Path) -> IO[bytes]:
    """Open a file to be read; never waits, as opening a pipe would.

    Raises:
        OSError: it cannot be, or is no file.
    """
    opened = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
        opened.close()
        raise OSError(errno.EINVAL, "no regular file", str(path))
    return opened


class _Unzipped(gzip.GzipFile):
    """An archive that closes its file too."""

    def __init__(self, raw: IO[bytes]) -> None:
        super().__init__(fileobj=raw, mode="rb")
        self._raw = raw

    def close(self) -> None:
        super().close()
        self._raw.close()


def _lines(opened: IO[bytes] | gzip.GzipFile, wanted: LogFilter, count: _Count) -> Iterator[LogLine]:
    matches = wanted.matches
    readline = opened.readline
    while data := readline(_LONGEST):
        if len(data) == _LONGEST and not data.endswith(b"\n"):
            while data and not data.endswith(b"\n"):  # nothing that we have written
                data = readline(_LONGEST)
            count.skipped += 1
            continue
        try:
            line = LogLine.from_json(data)
        except ProtocolError:
            if data.strip():
                count.skipped += 1
            continue
        if matches(line):
            yield line
