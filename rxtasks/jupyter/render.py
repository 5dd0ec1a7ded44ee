"""A card as text and as HTML. Every text of a card is escaped here: it may come from a task (security rule 6)."""

from __future__ import annotations

from html import escape

from rxtasks.jupyter.card import Card, Row

__all__ = ["as_html", "as_text", "colour"]

#: The colour of a status or level; readable on light and on dark.
_COLOURS = {
    "running": "#2f7ed8",
    "busy": "#2f7ed8",
    "succeeded": "#2a9d5c",
    "idle": "#2a9d5c",
    "failed": "#d1453b",
    "error": "#d1453b",
    "critical": "#d1453b",
    "retrying": "#c98a00",
    "warning": "#c98a00",
    "crashed": "#8e44ad",
}
_GREY = "#8a8f98"


def colour(status: str) -> str:
    """Return the CSS colour of a status or a log level."""
    return _COLOURS.get(status.lower(), _GREY)


def as_text(card: Card) -> str:
    """Return the card as a few lines of plain text."""
    head = " ".join(part for part in (card.title, card.status) if part)
    if card.fraction is not None:
        head += f"  {100 * card.fraction:.0f} %"
    if card.measure:
        head += f"  {card.measure}"
    lines = [head]
    lines += [f"  {name}: {value}" for name, value in card.facts]
    if card.rows:
        table = [card.columns, *(row.cells for row in card.rows)]
        widths = [max(len(cells[at]) for cells in table) for at in range(len(card.columns))]
        lines += [
            "  " + "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
            for cells in table
        ]
    lines += [f"  {line.level}: {line.text}" for line in card.lines]
    return "\n".join(lines)


def as_html(card: Card) -> str:
    """Return the card as HTML that refers to nothing outside of itself."""
    parts = [f"<b>{escape(card.title)}</b>"]
    if card.status:
        parts.append(f'<span style="color:{colour(card.status)};font-weight:600">{escape(card.status)}</span>')
    if card.fraction is not None:
        parts.append(_bar(card.fraction))
    if card.measure:
        parts.append(f"<span>{escape(card.measure)}</span>")
    body = f"<div>{' '.join(parts)}</div>"
    if card.facts:
        facts = " · ".join(
            f'<span style="opacity:.7">{escape(name)}</span> {escape(value)}' for name, value in card.facts
        )
        body += f"<div>{facts}</div>"
    if card.rows:
        head = "".join(f'<th style="text-align:left">{escape(name)}</th>' for name in card.columns)
        body += f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(map(_row, card.rows))}</tbody></table>"
    if card.lines:
        lines = "\n".join(
            f'<span style="color:{colour(line.level)}">{escape(line.level)}</span> {escape(line.text)}'
            for line in card.lines
        )
        body += f'<pre style="margin:0">{lines}</pre>'
    return f'<div class="rxtasks-card">{body}</div>'


def _bar(fraction: float) -> str:
    return f'<progress max="100" value="{100 * fraction:.1f}"></progress>'


def _row(row: Row) -> str:
    cells = "".join(f'<td style="text-align:left">{escape(cell)}</td>' for cell in row.cells)
    return f"<tr>{cells}{'' if row.fraction is None else f'<td>{_bar(row.fraction)}</td>'}</tr>"
