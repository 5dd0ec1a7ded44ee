"""The kinds of worker; a module of its own, so that settings and commands can name them at little cost."""

from __future__ import annotations

__all__ = ["ISOLATIONS"]

#: The kinds of worker that exist here.
ISOLATIONS = ("inline", "thread", "process")
