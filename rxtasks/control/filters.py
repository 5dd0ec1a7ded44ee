"""The filter of log lines, from parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["FILTERS", "log_filter"]

#: The parameters that make it.
FILTERS = ("worker", "task", "level", "since", "until", "text")


def log_filter(given: Mapping[str, Any]) -> Any:
    """Return the LogFilter that these parameters describe.

    Raises:
        SettingsError: one of them is wrong; names it.
    """
    from rxtasks.logs import LogFilter

    return LogFilter.from_query({name: given[name] for name in FILTERS if name in given})
