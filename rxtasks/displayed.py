"""`Displayed`: what shows itself in a notebook.

The faces import the core, never the other way. A notebook asks an object for its picture by a method of the object,
though, and people expect one without having imported anything for it. So the classes that users see carry this method,
and it alone knows where pictures are made; the room is imported when a notebook asks.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["Displayed"]


class Displayed:
    """Has a rich representation in Jupyter (text, HTML, and a live widget where there is something to watch)."""

    __slots__ = ()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """Return the object's picture by MIME type; IPython calls it."""
        bundle: dict[str, Any] = import_module("rxtasks.jupyter").bundle(self, include, exclude)
        return bundle
