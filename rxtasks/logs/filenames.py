"""What the files of a log are called, and which there are.

::

    rxtasks.log                                                              the one that is written
    rxtasks.000007.20261122T225204.123456Z-20261122T231055.000001Z.log       full; is about to be compressed
    rxtasks.000006.20261122T220000.000100Z-20261122T225204.123001Z.log.gz    full and compressed
    rxtasks~2.log, ...                                                       those of a second process at the same time
    .rxtasks.lock, .rxtasks~2.lock                                           held by the process that writes

"rxtasks" is the log's name; logs of other names may lie beside it.

A full file gets its name once and keeps it: it tells the order, and the times of the first and last line, so that a
query for an hour opens no file of another. (logging.handlers.RotatingFileHandler moves every file on with each
rotation: who reads meanwhile reads one twice or none, and a kill between compressing and removing doubles a file.)
"""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import attrs

from rxtasks.errors import SettingsError

__all__ = ["NAME", "Rotated", "check_name", "current_name", "lock_name", "rotated_files", "stem_name", "stems"]

#: What a log is called that has no name of its own.
NAME: Final = "rxtasks"
_TIME: Final = "%Y%m%dT%H%M%S.%fZ"
_STAMP: Final = r"\d{8}T\d{6}\.\d{6}Z"
_STEM: Final = r"(([A-Za-z0-9][A-Za-z0-9_-]*)(?:~\d+)?)"
_ROTATED: Final = re.compile(rf"{_STEM}\.(\d{{6,12}})\.({_STAMP})-({_STAMP})\.log(\.gz)?", re.ASCII)
_CURRENT: Final = re.compile(rf"{_STEM}\.log", re.ASCII)


@attrs.frozen
class Rotated:
    """A full file."""

    directory: Path
    stem: str
    number: int
    first: datetime
    last: datetime
    compressed: bool = False

    @property
    def plain(self) -> Path:
        """Where it is before it is compressed."""
        return self.directory / (
            f"{self.stem}.{self.number:06}.{self.first.strftime(_TIME)}-{self.last.strftime(_TIME)}.log"
        )

    @property
    def zipped(self) -> Path:
        """Where it is then."""
        return self.plain.with_name(self.plain.name + ".gz")

    @property
    def path(self) -> Path:
        """Where it is."""
        return self.zipped if self.compressed else self.plain


def check_name(name: str) -> str:
    """Return the name of a log.

    Raises:
        SettingsError: it cannot be one.
    """
    if not isinstance(name, str) or not _CURRENT.fullmatch(f"{name}.log") or "~" in name or len(name) > 100:
        raise SettingsError(f"the name of a log has letters, digits, - and _ (at most 100), not {name!r}")
    return name


def stem_name(name: str, slot: int) -> str:
    """Return what the names of the `slot`th process's files begin with, from 1."""
    return name if slot == 1 else f"{name}~{slot}"


def current_name(stem: str) -> str:
    """Return the name of the file that is written."""
    return f"{stem}.log"


def lock_name(stem: str) -> str:
    """Return the name of the file that is locked by who writes."""
    return f".{stem}.lock"


def stems(directory: Path, name: str | None) -> list[str]:
    """Return what the names of a log's files (None: of each log there) begin with, in order; [] where there is none."""
    found = set()
    for there in _names(directory):
        match = _CURRENT.fullmatch(there) or _ROTATED.fullmatch(there)
        if match is not None and name in (None, match[2]):
            found.add(match[1])
    return sorted(found, key=lambda stem: (len(stem), stem))


def rotated_files(directory: Path, stem: str) -> list[Rotated]:
    """Return the full files, in the order in which they were written; of one that is there twice the compressed one."""
    found: dict[int, Rotated] = {}
    for name in _names(directory):
        match = _ROTATED.fullmatch(name)
        if match is None or match[1] != stem:
            continue
        number, compressed = int(match[3]), match[6] is not None
        try:
            first, last = _time(match[4]), _time(match[5])
        except ValueError:  # the 31st of February
            continue
        if compressed or number not in found:
            found[number] = Rotated(directory, stem, number, first, last, compressed)
    return [found[number] for number in sorted(found)]


def _time(text: str) -> datetime:
    return datetime.strptime(text, _TIME).replace(tzinfo=UTC)


def _names(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
