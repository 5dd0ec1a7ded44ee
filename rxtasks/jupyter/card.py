"""`Card`: what is shown of a thing, whatever shows it.

::

    tracker, pool, event, ... ── cards ──> Card ──> text/plain, text/html (render), a widget's state (widget.js)

A card is data of three shapes (facts, a table, lines) under a title with a status and a bar. Its texts come from tasks and
are not trusted: on their way into a card they are cut and made harmless for a terminal; render.py and widget.js add what
HTML needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from rxtasks.text import cut, shown

__all__ = ["LONGEST", "Card", "Line", "Row"]

#: Characters of a text; what is longer is cut in the middle.
LONGEST = 300


def _safe(text: object) -> str:
    return cut(shown(str(text)[: 4 * LONGEST]), LONGEST)


def _all_safe(texts: Iterable[object]) -> tuple[str, ...]:
    return tuple(_safe(text) for text in texts)


def _pairs(pairs: Iterable[tuple[object, object]]) -> tuple[tuple[str, str], ...]:
    return tuple((_safe(name), _safe(value)) for name, value in pairs)


@attrs.frozen
class Row:
    """A row of the table."""

    cells: tuple[str, ...] = attrs.field(converter=_all_safe)
    #: How far what it shows is, between 0 and 1; drawn as a bar behind its progress. None: not known.
    fraction: float | None = None


@attrs.frozen
class Line:
    """A line of a log."""

    level: str = attrs.field(converter=_safe)
    text: str = attrs.field(converter=_safe)


@attrs.frozen
class Card:
    """What is shown of a thing at one moment."""

    title: str = attrs.field(converter=_safe)
    #: One word, shown as a badge; the statuses of tasks and workers have colours.
    status: str = attrs.field(default="", converter=_safe)
    #: The bar, between 0 and 1; None: no bar.
    fraction: float | None = None
    #: What stands beside the bar: "30 of 100 rows".
    measure: str = attrs.field(default="", converter=_safe)
    facts: tuple[tuple[str, str], ...] = attrs.field(default=(), converter=_pairs)
    columns: tuple[str, ...] = attrs.field(default=(), converter=_all_safe)
    rows: Sequence[Row] = ()
    lines: Sequence[Line] = ()
    #: Nothing of it will change any more.
    over: bool = True

    def state(self) -> dict[str, Any]:
        """Return the card as JSON-able data, for the widget."""
        return attrs.asdict(self)
