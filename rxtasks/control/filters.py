"""The filter of log lines, from parameters."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

__all__ = ["log_filter"]


def log_filter(given: Mapping[str, Any]) -> Any:
    """Return the LogFilter that these parameters describe."""
    from rxtasks.logs import LogFilter

    words = {name: given.get(name) for name in ("worker", "task", "level", "text")}
    times = {name: datetime.fromisoformat(given[name]) for name in ("since", "until") if name in given}
    return LogFilter(**words, **times)
