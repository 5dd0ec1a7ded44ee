"""How often tasks may begin, as text: "100/s", "10/min", "5/h"."""

from __future__ import annotations

import math
import re

from rxtasks.errors import SettingsError

__all__ = ["parse_rate"]

_UNITS = {
    "s": 1,
    "sec": 1,
    "second": 1,
    "m": 60,
    "min": 60,
    "minute": 60,
    "h": 3600,
    "hour": 3600,
    "d": 86400,
    "day": 86400,
}
_RATE = re.compile(r"\s*(\d{1,9})\s*/\s*([a-z]+)\s*", re.ASCII)
#: Microseconds' worth of a rate that may come at once.
_AT_ONCE_US = 100_000


def parse_rate(rate: str) -> tuple[int, int]:
    """Return (microseconds between two tasks, tasks that may come at once: a tenth of a second's worth, at least one).

    Raises:
        SettingsError: it is no rate.
    """
    match = _RATE.fullmatch(rate)
    unit = None if match is None else _UNITS.get(match[2])
    if match is None or unit is None or not int(match[1]):
        raise SettingsError(
            f'a rate is a number of tasks a unit of time, such as "100/s", "10/min" or "5/h", not {rate!r}'
        )
    interval = max(1, math.ceil(unit * 1_000_000 / int(match[1])))
    return interval, max(1, _AT_ONCE_US // interval)
