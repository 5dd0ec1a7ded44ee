"""When a task that repeats runs next."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxtasks.clock import us_from_utc, utc_from_us
from rxtasks.errors import SettingsError
from rxtasks.lifecycle.cron import check_cron, next_occurrence
from rxtasks.lifecycle.rate import parse_rate


def _next(cron: str, tz: str | None, *after: int) -> str:
    found = next_occurrence(cron, tz, us_from_utc(datetime(*after, tzinfo=UTC)))  # type: ignore[misc,arg-type]
    return utc_from_us(found).isoformat()


def test_the_next_moment_is_behind_the_last_one() -> None:
    """E-16: UTC unless a zone is given; the moment itself is not the next."""
    assert _next("*/10 * * * *", None, 2023, 11, 15, 12, 0) == "2023-11-15T12:10:00+00:00"
    assert _next("0 9 * * MON", None, 2023, 11, 15, 12, 0) == "2023-11-20T09:00:00+00:00"
    assert _next("0 9 * * *", "Europe/Berlin", 2023, 11, 15, 12, 0) == "2023-11-16T08:00:00+00:00"
    assert _next("0 9 * * *", "Europe/Berlin", 2023, 7, 15, 12, 0) == "2023-07-16T07:00:00+00:00"
    assert _next("0 0 29 2 *", None, 2023, 1, 1) == "2024-02-29T00:00:00+00:00"


def test_an_hour_that_is_left_out_or_comes_twice_runs_once() -> None:
    """E-16: daylight saving time, as Debian's cron has it."""
    assert _next("30 2 * * *", "Europe/Berlin", 2024, 3, 31, 0, 0) == "2024-03-31T01:00:00+00:00"
    assert _next("30 2 * * *", "Europe/Berlin", 2024, 10, 27, 0, 30) == "2024-10-28T01:30:00+00:00"


@pytest.mark.parametrize(
    ("cron", "tz", "said"),
    [
        ("* * *", None, "five fields"),
        ("* * * * * *", None, "five fields"),
        ("61 * * * *", None, "minute"),
        ("0 0 31 2 *", None, "cannot be read|never"),
        ("* * * * *", "Nowhere/At all", "Nowhere"),
        ("* * * * *", "/etc/passwd", "time zone"),
    ],
)
def test_what_cannot_be_read_is_refused(cron: str, tz: str | None, said: str) -> None:
    """E-16: the error says what is wrong."""
    with pytest.raises(SettingsError, match=said):
        check_cron(cron, tz)


@given(st.integers(0, 4 * 10**15), st.sampled_from(("* * * * *", "17 3 * * *", "0 0 1 * *")))
def test_the_next_is_later_and_stays_the_next_until_then(after_us: int, cron: str) -> None:
    """E-16: no moment is passed over, none comes twice."""
    found = next_occurrence(cron, None, after_us)
    assert found > after_us // 1_000_000 * 1_000_000
    assert next_occurrence(cron, None, found - 1_000_000) == found


@pytest.mark.parametrize(
    ("rate", "expected"), [("100/s", (10_000, 10)), ("10/min", (6_000_000, 1)), ("3/s", (333_334, 1))]
)
def test_rates(rate: str, expected: tuple[int, int]) -> None:
    """E-20: never faster than said: the time between two is rounded up."""
    assert parse_rate(rate) == expected


@pytest.mark.parametrize("rate", ["", "10", "0/s", "-1/s", "10/", "10/fortnight", "1e3/s", "\u0663/s"])
def test_what_is_no_rate_is_refused(rate: str) -> None:
    """E-20: with an example."""
    with pytest.raises(SettingsError, match="100/s"):
        parse_rate(rate)
