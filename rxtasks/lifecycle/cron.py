"""When a task that repeats runs next: five-field cron expressions (minute, hour, day of month, month, day of week).

Read by cronsim, which follows Debian's cron, daylight saving time included: an hour that is left out runs what was due in it
right after, one that comes twice runs it once. UTC unless a time zone is given.
"""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

from rxtasks.clock import us_from_utc
from rxtasks.errors import SettingsError

__all__ = ["check_cron", "next_occurrence"]

#: An expression has occurrences within so many years or is refused; cronsim looks no farther.
_FIELDS = "minute hour day-of-month month day-of-week"


def check_cron(cron: str, tz: str | None = None) -> None:
    """Do nothing if the expression and the time zone can be read, and it ever comes due.

    Raises:
        SettingsError: otherwise; says which part is wrong.
    """
    next_occurrence(cron, tz, 0)


def next_occurrence(cron: str, tz: str | None, after_us: int) -> int:
    """Return the first moment of the expression behind `after_us`; both are microseconds of the wall clock.

    Raises:
        SettingsError: the expression or the time zone cannot be read, or there is no such moment.
    """
    from cronsim import CronSim, CronSimError

    if len(cron.split()) != 5:
        raise SettingsError(f"TaskOptions.cron has five fields ({_FIELDS}), not {cron!r}")
    after = datetime.fromtimestamp(after_us // 1_000_000, UTC).astimezone(_zone(tz))
    try:
        found = next(CronSim(cron, after))
    except CronSimError as error:
        raise SettingsError(
            f"TaskOptions.cron {cron!r} cannot be read: {error}; it has five fields ({_FIELDS})"
        ) from error
    except StopIteration:
        raise SettingsError(f"TaskOptions.cron {cron!r} never comes due") from None
    return us_from_utc(found)


def _zone(tz: str | None) -> tzinfo:
    if tz is None:
        return UTC
    try:
        return ZoneInfo(tz)
    except (KeyError, ValueError, OSError) as error:
        raise SettingsError(
            f"TaskOptions.tz is the name of a time zone such as 'Europe/Berlin', not {tz!r} (where the system has no"
            " zones, install tzdata)"
        ) from error
