"""What a notebook's frontend is asked: which cell runs, whether widgets can be shown, and to show something.

IPython is looked for, never imported: without a notebook nothing of it is needed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import attrs

from rxtasks.jupyter.card import Card
from rxtasks.jupyter.live import LiveView
from rxtasks.jupyter.render import as_html, as_text

__all__ = ["VIEW", "CellRun", "current_cell", "in_kernel", "make_widget", "show", "static"]

#: The MIME type of a widget's view.
VIEW: Final = "application/vnd.jupyter.widget-view+json"

_HERE = Path(__file__).parent


@attrs.frozen
class CellRun:
    """One run of one cell."""

    #: The cell, the same in every run of it; None where the frontend does not say.
    cell_id: str | None
    #: The run.
    run_id: str


def _shell() -> Any:
    interactive = sys.modules.get("IPython")
    return None if interactive is None else interactive.get_ipython()


def in_kernel() -> bool:
    """Return whether this is a Jupyter kernel, so that there may be a frontend."""
    return getattr(_shell(), "kernel", None) is not None


def current_cell() -> CellRun | None:
    """Return the run of a cell that this code belongs to; None outside of a notebook."""
    shell = _shell()
    if getattr(shell, "kernel", None) is None:
        return None
    parent = shell.get_parent()
    run_id = parent.get("header", {}).get("msg_id")
    return None if run_id is None else CellRun(parent.get("metadata", {}).get("cellId"), run_id)


def static(card: Card) -> dict[str, Any]:
    """Return the card by MIME type, as it is now."""
    return {"text/plain": as_text(card), "text/html": as_html(card)}


@cache
def _widget_class() -> Any:
    body = {
        "__doc__": "Shows a card and draws it anew when it changes.",
        "__module__": __name__,
        "_esm": (_HERE / "widget.js").read_text("utf-8"),
        "_css": (_HERE / "widget.css").read_text("utf-8"),
        "card": import_module("traitlets").Dict().tag(sync=True),
    }
    return type("CardWidget", (import_module("anywidget").AnyWidget,), body)


def make_widget(view: LiveView) -> Any:
    """Return a widget that follows `view`, or None where none can be shown: no kernel, no anywidget that can be used."""
    if not in_kernel():
        return None
    try:
        kind = _widget_class()
    except Exception:  # not there, or without what it needs (ipywidgets, traitlets of its time): shown as HTML
        return None
    widget = kind(card=view.card.state())

    def update(card: Card) -> None:
        widget.card = card.state()

    view.listen(update)
    return widget


def show(bundle: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    """Show `bundle` in the running cell; return what changes it afterwards. Outside of a notebook nothing is shown."""
    if not in_kernel():
        return _nowhere
    handle = import_module("IPython.display").display(bundle, raw=True, display_id=True)
    return lambda changed: handle.update(changed, raw=True)


def _nowhere(_: dict[str, Any]) -> None:
    """Show nothing."""
