"""A line of a task's log as plain text and in colour."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from rxtasks.cli.board import Line
from rxtasks.text import cut, shown

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["coloured", "plain"]

_STYLES = {
    "WARNING": "yellow",
    "ERROR": "red",
    "CRITICAL": "bold red",
    "SUCCESS": "green",
    "DEBUG": "dim",
    "TRACE": "dim",
}


def _head(line: Line) -> str:
    stamp = datetime.fromtimestamp(line.time)
    return f"{stamp:%H:%M:%S}.{stamp.microsecond // 1000:03} {line.level:<8}"


def _source(line: Line) -> str:
    if not line.source:
        return "rxtasks"
    stream = "" if line.stream in ("log", "rxtasks", "traceback") else f" {line.stream}"
    return cut(shown(line.source), 60) + stream


def plain(line: Line) -> str:
    """Return the line without a line end; what came from a task is escaped."""
    return f"{_head(line)}{_source(line)} | {shown(line.message)}"


def coloured(line: Line) -> Text:
    """Return the line for rich; markup in it is text."""
    from rich.text import Text

    text = Text(no_wrap=False)
    text.append(_head(line), _STYLES.get(line.level, ""))
    text.append(_source(line), "cyan")
    text.append(" | ", "dim")
    text.append(shown(line.message), "dim" if line.stream == "traceback" else "")
    return text
