"""What the files of a log are called, and which there are.

::

    rxtasks.log                                                              the one that is written
    rxtasks.000007.20261122T225204.123456Z-20261122T231055.000001Z.log       full; is about to be compressed
    rxtasks.000006.20261122T220000.000100Z-20261122T225204.123001Z.log.gz    full and compressed
    rxtasks-2.log, ...                                                       those of a second process at the same time
    .rxtasks.lock, .rxtasks-2.lock                                           held by the process that writes

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

__all__ = ["CURRENT", "Rotated", "current_name", "lock_name", "rotated_files", "stem_name", "stems"]

CURRENT: Final = "rxtasks.log"
_TIME: Final = "%Y%m%dT%H%M%S.%fZ"
_STAMP: Final = r"\d{8}T\d{6}\.\d{6}Z"
_ROTATED: Final = re.compile(rf"(rxtasks(?:-\d+)?)\.(\d{{6,12}})\.({_STAMP})-({_STAMP})\.log(\.gz)?", re.ASCII)
_CURRENT: Final = re.compile(r"(rxtasks(?:-\d+)?)\.log", re.ASCII)


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


def stem_name(slot: int) -> str:
    """Return what the names of the `slot`th process's files begin with, from 1."""
    return "rxtasks" if slot == 1 else f"rxtasks-{slot}"


def current_name(stem: str) -> str:
    """Return the name of the file that is written."""
    return f"{stem}.log"


def lock_name(stem: str) -> str:
    """Return the name of the file that is locked by who writes."""
    return f".{stem}.lock"


def stems(directory: Path) -> list[str]:
    """Return what the names of the files in the directory begin with, in order; [] where there is none."""
    found = set()
    for name in _names(directory):
        match = _CURRENT.fullmatch(name) or _ROTATED.fullmatch(name)
        if match is not None:
            found.add(match[1])
    return sorted(found, key=lambda stem: (len(stem), stem))


def rotated_files(directory: Path, stem: str) -> list[Rotated]:
    """Return the full files, in the order in which they were written; of one that is there twice the compressed one."""
    found: dict[int, Rotated] = {}
    for name in _names(directory):
        match = _ROTATED.fullmatch(name)
        if match is None or match[1] != stem:
            continue
        number, compressed = int(match[2]), match[5] is not None
        try:
            first, last = _time(match[3]), _time(match[4])
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
