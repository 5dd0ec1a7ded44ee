"""Plain tables: columns as wide as what stands in them, cut to a terminal's width, colours only on one."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final, TextIO

import click

from rxtasks.text import cut, shown

__all__ = ["coloured", "painted", "print_table", "status_colour", "width_of"]

#: Characters of a cell of a table that goes to no terminal.
_WIDEST: Final = 200
#: Columns of a terminal below which no cell is cut.
_NARROWEST: Final = 9
_COLOURS: Final = {
    "running": "cyan",
    "succeeded": "green",
    "failed": "red",
    "cancelled": "yellow",
    "retrying": "magenta",
}


def coloured(stream: TextIO | None = None) -> bool:
    """Say whether colours may be written: to a terminal, unless NO_COLOR is set (https://no-color.org)."""
    stream = sys.stdout if stream is None else stream
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def painted(text: str, colour: str | None) -> str:
    """Return the text in a colour where colours may be written."""
    return click.style(text, fg=colour) if colour and coloured() else text


def status_colour(status: str) -> str | None:
    """Return the colour of a task's status, None = none."""
    return _COLOURS.get(status)


def width_of(text: str) -> int:
    """Return how many columns of a terminal the text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def print_table(
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    colours: Sequence[str | None] = (),
    colour_column: int = 0,
) -> None:
    """Print rows under their heads. What is in a cell is escaped.

    Args:
        colours: for each row the colour of its cell in `colour_column`.
    """
    cells = [[cut(shown(cell), _WIDEST) for cell in row] for row in rows]
    widths = [max([width_of(row[at]) for row in cells] + [len(head)]) for at, head in enumerate(heads)]
    if sys.stdout.isatty():
        _fit(widths, shutil.get_terminal_size().columns - 2 * (len(widths) - 1))
    print(_line(heads, widths))
    for at, row in enumerate(cells):
        line = [
            cut(cell, widths[number]) if width_of(cell) > widths[number] else cell for number, cell in enumerate(row)
        ]
        paint = colours[at] if at < len(colours) else None
        print(_line(line, widths, colour_column, paint))


def _fit(widths: list[int], room: int) -> None:
    """Make the widest columns narrower until all fit into the room; the first one, which holds ids, is left alone."""
    while len(widths) > 1 and sum(widths) > room:
        at = max(range(1, len(widths)), key=lambda number: widths[number])
        if widths[at] <= _NARROWEST:
            return
        widths[at] -= 1


def _line(cells: Sequence[str], widths: Sequence[int], column: int = 0, colour: str | None = None) -> str:
    padded = [cell + " " * (width - width_of(cell)) for cell, width in zip(cells, widths, strict=True)]
    padded[-1] = padded[-1].rstrip()
    padded[column] = painted(padded[column], colour)
    return "  ".join(padded).rstrip()
