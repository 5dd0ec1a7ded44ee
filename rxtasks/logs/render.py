"""Lines as text: plain, coloured, JSON. What came from a task is escaped (security rule 6), markup is text.

Where it is not said otherwise, colour is for terminals that want it: not where NO_COLOR is set (no-color.org) or TERM
is "dumb".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal, get_args

from rxtasks.errors import SettingsError
from rxtasks.logs.line import POOL, LogLine
from rxtasks.text import cut, shown, steers

__all__ = ["Format", "choose_format", "render"]

Format = Literal["plain", "json", "color"]

#: Characters of the source, of the level and of the fields that are shown.
_SOURCE: Final = 60
_LEVEL: Final = 20
_FIELDS: Final = 300
_RESET: Final = "\x1b[0m"
_SOURCE_STYLE: Final = "\x1b[36m"
_DIM: Final = "\x1b[2m"
#: SGR sequences (ECMA-48) by level; INFO is as the terminal writes anyway.
_STYLES: Final = {
    "TRACE": "\x1b[2m",
    "DEBUG": "\x1b[2m",
    "SUCCESS": "\x1b[32m",
    "WARNING": "\x1b[33m",
    "ERROR": "\x1b[31m",
    "CRITICAL": "\x1b[1;31m",
}
#: Streams that are not worth a word.
_USUAL: Final = ("log", "loguru", "pool")


def choose_format(stream: Any, environ: Mapping[str, str]) -> Format:
    """Return "color" for a terminal that wants it, else "plain"."""
    try:
        terminal = bool(stream.isatty())
    except (AttributeError, ValueError, OSError):
        terminal = False
    wanted = not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
    return "color" if terminal and wanted else "plain"


def render(line: LogLine, format: Format = "plain") -> str:
    """Return the line without a line end, safe for a terminal in each format; times are local, but UTC in JSON.

    ::

        2026-11-22 22:52:04.123 INFO     7QX2MD app.images:resize | wrote a.png

    Raises:
        SettingsError: there is no such format.
    """
    if format == "json":
        return _escaped_json(line.to_json().decode())
    if format not in get_args(Format):
        raise SettingsError(f"a format of log lines is one of {', '.join(get_args(Format))}, not {format!r}")
    local = _local(line.time)
    level = cut(shown(line.level), _LEVEL)
    head = f"{local:%Y-%m-%d %H:%M:%S}.{local.microsecond // 1000:03} {level:<8}"
    source = cut(shown(line.source), _SOURCE)
    stream = "" if line.stream in _USUAL else f" {cut(shown(line.stream), _SOURCE)}"
    late = " (late)" if line.late else ""
    message = shown(line.message)
    fields = _fields(line)
    if format == "plain":
        return f"{head} {source}{stream}{late} | {message}{fields}"
    style = _STYLES.get(line.level, "")
    head = f"{style}{head}{_RESET}" if style else head
    fields = f"{_DIM}{fields}{_RESET}" if fields else ""
    return f"{head} {_SOURCE_STYLE}{source}{_RESET}{_DIM}{stream}{late} |{_RESET} {message}{fields}"


def _local(time: datetime) -> datetime:
    try:
        return time.astimezone()
    except (OverflowError, ValueError, OSError):  # the year 1 or 9999
        return time


def _fields(line: LogLine) -> str:
    if not line.fields or line.repeated or line.stream == POOL:
        return ""
    parts = [f"{key}={value if isinstance(value, str) else _json(value)}" for key, value in line.fields.items()]
    return f" [{cut(shown(' '.join(parts)), _FIELDS)}]"


def _json(value: Any) -> str:
    return json.dumps(value, default=repr, ensure_ascii=False)


def _escaped_json(text: str) -> str:
    r"""Return JSON that says the same, with what could steer a terminal as \uXXXX: it stands inside of strings only."""
    if text.isascii() and "\x7f" not in text:
        return text
    return "".join(json.dumps(char)[1:-1] if steers(char) else char for char in text)
