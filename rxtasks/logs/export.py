"""Lines into one file of the user's, or into a stream."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import IO

from rxtasks.logs.line import LogLine
from rxtasks.logs.render import Format, render

__all__ = ["export"]


def export(lines: Iterable[LogLine], target: str | os.PathLike[str] | IO[str], format: Format = "json") -> int:
    """Write the lines in a format of `render` to a path or a text stream; return how many. One at a time.

    A path is written under another name beside it, which becomes its own when it is complete.

    Raises:
        SettingsError: there is no such format.
        OSError: it cannot be written; what was at the path before is there.
    """
    if not isinstance(target, str | os.PathLike):
        return _write(lines, target, format)
    path = os.fspath(target)
    part = f"{path}.{os.getpid()}.part"
    try:
        with open(part, "x", encoding="utf-8", opener=_private) as file:
            count = _write(lines, file, format)
        os.replace(part, path)
    except BaseException:
        if os.path.exists(part):
            os.unlink(part)
        raise
    return count


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _write(lines: Iterable[LogLine], stream: IO[str], format: Format) -> int:
    count = 0
    for line in lines:
        stream.write(render(line, format) + "\n")
        count += 1
    return count
