"""Figures as an aligned table. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchmarks.figures import Bar

__all__ = ["CRASHED", "MISSING", "align", "bar_text", "figure_text"]

#: What stands in the place of a figure that there is not.
CRASHED = "crashed"
MISSING = "not installed"


def figure_text(figure: float, unit: str = "") -> str:
    """Return `figure` with three significant digits (whole above 100, thousands parted) and its unit."""
    if not math.isfinite(figure):
        return "-"
    if abs(figure) >= 100:
        text = f"{figure:,.0f}"
    elif figure == 0:
        text = "0"
    else:
        text = f"{figure:.{max(0, 2 - math.floor(math.log10(abs(figure))))}f}"
    return f"{text} {unit}" if unit else text


def bar_text(bar: Bar | None, unit: str, *, aim: bool = False) -> str:
    """Return the bar's limit, or its aim, as shown in the table."""
    figure = None if bar is None else bar.aim if aim else bar.limit
    if bar is None or figure is None:
        return "-"
    number = f"{figure:g}"
    return f"{'>=' if bar.lower_bound else '<='} {number}{unit if unit in ('', 'x') else ' ' + unit}"


def align(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return the rows under their header, columns as wide as their widest cell, figures to the right."""
    table = [list(header), *(list(row) for row in rows)]
    for row in table:
        if len(row) != len(header):
            raise ValueError(f"a row has {len(row)} cells, the header {len(header)}")
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    right = [_all_figures([row[column] for row in rows]) for column in range(len(header))]
    lines = [_line(row, widths, right) for row in table]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def _all_figures(cells: Sequence[str]) -> bool:
    return bool(cells) and all(cell[:1].isdigit() or cell[:1] in "-<>" or cell in (CRASHED, MISSING) for cell in cells)


def _line(row: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    cells = (
        cell.rjust(width) if to_right else cell.ljust(width)
        for cell, width, to_right in zip(row, widths, right, strict=True)
    )
    return "  ".join(cells).rstrip()
