"""`LogFilter`: which lines are wanted, by worker, task, level, time and text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

import attrs

from rxtasks.errors import SettingsError
from rxtasks.logs.line import POOL, LogLine
from rxtasks.reactive.filters import LEVELS, SYNONYMS

__all__ = ["LogFilter", "moment", "severity"]

#: Characters from which on a part of an id stands for it.
_PART: Final = 4
_DURATION: Final = re.compile(r"(?:\d+(?:\.\d+)?[smhdw])+")
_UNQUOTED: Final = re.compile(r"(T.*) (\d\d:?\d\d)$")
_STEP: Final = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def severity(level: str) -> int:
    """Return a level's number as in logging and loguru (INFO 20); of a level that is not in the list that of CRITICAL.

    So a line of an unknown level always passes.
    """
    return LEVELS.get(level, 50)


def moment(value: str, what: str = "a time", *, now: datetime | None = None) -> datetime:
    """Return the time that a user writes: ISO 8601 (without a zone: local time), or how long ago ("90s", "10m", "1h30m").

    Raises:
        SettingsError: it is neither; the message begins with `what`.
    """
    text = value.strip()
    wrong = f"{what} is a time as 2026-11-22T10:30 (local, or with a zone: ...Z) or how long ago as 90s, 10m, 1h30m, 7d"
    try:
        if _DURATION.fullmatch(text):
            ago = sum(float(number) * _SECONDS[unit] for number, unit in _STEP.findall(text))
            return (datetime.now(UTC) if now is None else now) - timedelta(seconds=ago)
        # In a URL that was not quoted the + of a zone is a space.
        return datetime.fromisoformat(_UNQUOTED.sub(r"\1+\2", text)).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        raise SettingsError(f"{wrong}; not {value!r}") from None


def _time(what: str, value: datetime | str | None) -> datetime | None:
    if value is None:
        return None
    if isinstance(value, str):
        return moment(value, what)
    if not isinstance(value, datetime):
        raise SettingsError(f"{what} is a datetime or a text such as 10m, not {value!r}")
    try:
        return value.astimezone(UTC)
    except (OverflowError, OSError, ValueError):  # the year 1 or 9999, in another zone
        return value.replace(tzinfo=UTC)


def _since(value: datetime | str | None) -> datetime | None:
    return _time("since", value)


def _until(value: datetime | str | None) -> datetime | None:
    return _time("until", value)


def _level(value: str | None) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        name = value.strip().upper()
        name = SYNONYMS.get(name, name)
        if name in LEVELS:
            return name
    raise SettingsError(f"level is one of {', '.join(LEVELS)}, not {value!r}")


def _words(value: str | None) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise SettingsError(f"the filters worker, task and text are texts, not {value!r}")


@attrs.frozen
class LogFilter:
    """Passes the lines for which everything that is given holds; without arguments every line.

    Raises:
        SettingsError: an argument is none of what it may be; names it.
    """

    #: A worker's id, or its first or last characters (at least four); "pool": what the pool says itself.
    worker: str | None = attrs.field(default=None, converter=_words)
    #: A task's id, or its first or last characters, or a task's name, or what follows the last ":" or "." of it.
    task: str | None = attrs.field(default=None, converter=_words)
    #: The least level, in any case.
    level: str | None = attrs.field(default=None, converter=_level)
    #: The first and the last moment, both included; a datetime without a zone is local time.
    since: datetime | None = attrs.field(default=None, converter=_since)
    until: datetime | None = attrs.field(default=None, converter=_until)
    #: What the message contains, in any case of letters.
    text: str | None = attrs.field(default=None, converter=_words)

    @staticmethod
    def from_query(query: Mapping[str, str]) -> LogFilter:
        """Return the filter that a URL's query or a command's options ask for; an empty value is as none.

        Raises:
            SettingsError: a key is not known, or a value is wrong; names both and what is possible.
        """
        known = ("worker", "task", "level", "since", "until", "text")
        for key in query:
            if key not in known:
                raise SettingsError(f"there is no log filter {key!r}; filters: {', '.join(known)}")
        given = {key: value or None for key, value in query.items()}
        return LogFilter(
            given.get("worker"),
            given.get("task"),
            given.get("level"),
            given.get("since"),
            given.get("until"),
            given.get("text"),
        )

    def to_query(self) -> dict[str, str]:
        """Return what from_query makes an equal filter of."""
        given = {field.name: getattr(self, field.name) for field in attrs.fields(LogFilter)}
        return {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in given.items()
            if value is not None
        }

    def matches(self, line: LogLine) -> bool:
        """Say whether the line is wanted."""
        if self.level is not None and severity(line.level) < LEVELS[self.level]:
            return False
        if self.since is not None and line.time < self.since:
            return False
        if self.until is not None and line.time > self.until:
            return False
        if self.worker is not None and not self._of_worker(self.worker, line):
            return False
        if self.task is not None and not self._of_task(self.task, line):
            return False
        return self.text is None or self.text.casefold() in line.message.casefold()

    def may_hold(self, first: datetime | None, last: datetime | None) -> bool:
        """Say whether lines from `first` to `last` (None: not known) can be among those wanted."""
        if self.since is not None and last is not None and last < self.since:
            return False
        return not (self.until is not None and first is not None and first > self.until)

    @staticmethod
    def _of_worker(worker: str, line: LogLine) -> bool:
        if worker == POOL:
            return line.stream == POOL
        return line.worker_id is not None and _is_id(worker.removeprefix("worker-"), line.worker_id)

    @staticmethod
    def _of_task(task: str, line: LogLine) -> bool:
        if line.task_id is not None and _is_id(task, line.task_id):
            return True
        name = line.task_name
        return name is not None and (name == task or re.split("[:.]", name)[-1] == task)


def _is_id(part: str, whole: str) -> bool:
    if part == whole:
        return True
    part = part.upper()
    return len(part) >= _PART and (whole.upper().endswith(part) or whole.upper().startswith(part))
