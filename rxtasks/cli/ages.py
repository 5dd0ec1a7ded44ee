"""Spans of time and moments, as people write them on a command line and read them in a table."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click

__all__ = ["AGE", "MOMENT", "age", "local", "span"]

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|min|s|m|h|d|w)\s*", re.ASCII)
#: Seconds that a span may take: some thirty thousand years.
_MOST: Final = 1e12


def span(text: str) -> float | None:
    """Return the seconds of "90", "10m", "2h", "7d" or "1h30m"; None: it is none of these."""
    text = text.strip()
    if re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII):
        seconds = float(text)
    else:
        at, seconds = 0, 0.0
        while at < len(text):
            found = _PART.match(text, at)
            if found is None:
                return None
            seconds += float(found[1]) * _UNITS[found[2]]
            at = found.end()
        if not text:
            return None
    return seconds if seconds <= _MOST else None


class _Age(click.ParamType):  # type: ignore[type-arg]
    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if not isinstance(value, str):
            return float(value)
        seconds = span(value)
        if seconds is None:
            self.fail(f"{value!r} is no span of time; write 90s, 10m, 2h, 7d or 1h30m", param, ctx)
        return seconds


class _Moment(click.ParamType):  # type: ignore[type-arg]
    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        seconds = span(value)
        if seconds is not None:
            return datetime.now(UTC) - timedelta(seconds=min(seconds, 1e9))
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no time; write 10m (so long ago) or 2026-01-31T08:00 (local time)", param, ctx)
        return found.astimezone(UTC)  # without a zone: local time


#: Seconds, from "10m" or "7d".
AGE: Final = _Age()
#: An aware time, from "10m" (so long ago) or an ISO time (local where it has no zone).
MOMENT: Final = _Moment()


def age(seconds: float) -> str:
    """Return a span in a word: "3s", "12m", "5h", "4d"."""
    seconds = max(0.0, seconds)
    for unit, size in (("d", 86_400.0), ("h", 3600.0), ("m", 60.0)):
        if seconds >= 2 * size or (unit == "m" and seconds >= size):
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s"


def local(moment: datetime) -> str:
    """Return a time in this machine's zone, to the second."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")
