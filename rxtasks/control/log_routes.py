"""Operations on the merged logs."""

from __future__ import annotations

from typing import Any, Final

import orjson

from rxtasks.control.desk import Desk
from rxtasks.control.filters import log_filter
from rxtasks.control.named import listing
from rxtasks.control.streaming import follow_logs
from rxtasks.control.words import Call, Operation, Parameter, Reply
from rxtasks.reactive.filters import LEVELS

__all__ = ["LOGS"]

#: Bytes of lines in one answer, at most.
_MOST: Final = 4 * 2**20
_TEXT: Final = {"type": "string", "minLength": 1, "maxLength": 1000}
#: What says these says more than a schema can: any case, parts of a time.
_CHECKED: Final = "rxtasks.logs.LogFilter"
_TIME: Final = {
    "anyOf": [
        {"type": "string", "format": "date-time"},
        {"type": "string", "pattern": "^[1-9][0-9]{0,4}[smhdw]$"},
    ],
    "x-checked-by": _CHECKED,
}
_LEVEL: Final = {"type": "string", "enum": [level.lower() for level in LEVELS], "x-checked-by": _CHECKED}

_FILTERS: Final = (
    Parameter(
        "worker", "query", _TEXT, 'Lines of this worker, by its id or a part; "pool": what the pool says itself.'
    ),
    Parameter("task", "query", _TEXT, "Lines of this task, by its id, a part of that, or its name."),
    Parameter("level", "query", _LEVEL, "Of this level and above, in any case of letters."),
    Parameter("text", "query", _TEXT, "Lines that contain this."),
    Parameter(
        "since", "query", _TIME, 'From this time on: ISO 8601 (without a zone: local time), or how long ago as "10m".'
    ),
    Parameter("until", "query", _TIME, "Up to this time."),
)


def _logs(desk: Desk, call: Call) -> Reply:
    found = list(desk.host.query_logs(log_filter(call.given)))[-call.given.get("limit", 1000) :]
    shown: list[Any] = []
    size = 0
    for line in reversed(found):
        data = line.to_json()
        size += len(data)
        if size > _MOST and shown:
            break
        shown.append(orjson.Fragment(data))
    return Reply({"lines": shown[::-1], "cut": len(shown) < len(found)})


LOGS: Final = (
    Operation(
        "GET",
        "/v1/logs",
        "query_logs",
        "The last lines of the merged logs that fit, in order; `cut`: those before them did not fit into 4 MiB.",
        _logs,
        parameters=(
            *_FILTERS,
            Parameter("limit", "query", {"type": "integer", "minimum": 1, "maximum": 10_000}, "Lines at most; 1000."),
        ),
        answers={200: listing("lines", {"type": "object"}, cut={"type": "boolean"})},
        lane="work",
    ),
    Operation(
        "GET",
        "/v1/logs/follow",
        "follow_logs",
        "The lines to come, as server-sent events; `overflow` tells a slow client that it has missed some, and ends.",
        follow=follow_logs,
        parameters=_FILTERS,
        answers={200: None},
        media_type="text/event-stream",
    ),
)
