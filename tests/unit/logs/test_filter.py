"""Which lines are wanted."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from rxtasks import SettingsError
from rxtasks.logs import LogFilter, LogLine
from rxtasks.logs.filter import moment
from tests.unit.logs.support import START, TASK, WORKER, at, line

POOL = line(0, "worker lost", stream="pool", task_id=None, task_name=None)


@pytest.mark.parametrize(
    ("given", "one", "expected"),
    [
        ({}, line(0), True),
        ({"worker": WORKER}, line(0), True),
        ({"worker": "0ABCDE"}, line(0), True),
        ({"worker": "worker-01WORKER"}, line(0), True),
        ({"worker": "abcde"}, line(0), True),
        ({"worker": "CDE"}, line(0), False),
        ({"worker": "other"}, line(0), False),
        ({"worker": "pool"}, line(0), False),
        ({"worker": "pool"}, POOL, True),
        ({"worker": "0ABCDE"}, line(0, worker_id=None), False),
        ({"task": TASK}, line(0), True),
        ({"task": TASK[-6:]}, line(0), True),
        ({"task": "app.images:resize"}, line(0), True),
        ({"task": "resize"}, line(0), True),
        ({"task": "size"}, line(0), False),
        ({"task": "resize"}, POOL, False),
        ({"level": "info"}, line(0), True),
        ({"level": "Warning"}, line(0), False),
        ({"level": "warn"}, line(0, level="ERROR"), True),
        ({"level": "critical"}, line(0, level="MINE"), True),
        ({"since": at(0)}, line(0), True),
        ({"since": at(0.000001)}, line(0), False),
        ({"until": at(0)}, line(0), True),
        ({"until": at(-0.000001)}, line(0), False),
        ({"text": "ELL"}, line(0), True),
        ({"text": "straße"}, line(0, "STRASSE"), True),
        ({"text": "hullo"}, line(0), False),
        ({"text": "ell", "level": "error"}, line(0), False),
    ],
)
def test_a_line_passes_if_everything_holds(given: dict[str, Any], one: LogLine, expected: bool) -> None:
    """C-06: filter by worker, task, level, time, text."""
    assert expected == LogFilter(**given).matches(one)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"level": "loud"}, "level is one of TRACE, .*CRITICAL, not 'loud'"),
        ({"since": "yesterday"}, "since is a time as .*10m.*not 'yesterday'"),
        ({"until": "2026-13-01"}, "until is a time"),
        ({"since": "9" * 400 + "d"}, "since is a time"),
        ({"tesk": "x"}, "no log filter 'tesk'; filters: worker, task, level, since, until, text"),
    ],
)
def test_a_wrong_query_is_told(query: dict[str, str], said: str) -> None:
    """C-06: what is wrong, where, and what is possible."""
    with pytest.raises(SettingsError, match=said):
        LogFilter.from_query(query)


@pytest.mark.parametrize("wrong", [{"worker": 5}, {"since": 5}, {"level": 20}, {"text": b"x"}])
def test_a_wrong_argument_is_told(wrong: dict[str, Any]) -> None:
    """C-06: no argument of another type goes through."""
    with pytest.raises(SettingsError):
        LogFilter(**wrong)


def test_a_query_says_the_same_there_and_back() -> None:
    """C-06: what a client sends is what the server filters by; empty is none."""
    wanted = LogFilter(worker="ABCDEF", task="t", level="warning", since=at(1), until=at(2), text="x y")
    assert wanted == LogFilter.from_query(wanted.to_query())
    assert LogFilter() == LogFilter.from_query({"worker": "", "since": ""}) == LogFilter.from_query({})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", START - timedelta(seconds=90)),
        ("1h30m", START - timedelta(minutes=90)),
        ("1.5d", START - timedelta(hours=36)),
        ("1w", START - timedelta(days=7)),
        (" 10m ", START - timedelta(minutes=10)),
        ("2026-11-22T10:00:00Z", START),
        ("2026-11-22T12:00+02:00", START),
        ("2026-11-22T12:00:00.000 02:00", START),
    ],
)
def test_times_are_written_as_people_write_them(text: str, expected: datetime) -> None:
    """C-06: ISO 8601 or how long ago."""
    assert expected == moment(text, now=START)


def test_a_time_without_a_zone_is_local() -> None:
    """C-06: an operator's clock on the wall."""
    local = START.astimezone().replace(tzinfo=None)
    assert START == moment(local.isoformat()) == LogFilter(since=local).since
