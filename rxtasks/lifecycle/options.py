"""What a caller may ask of the way in which one task runs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal

import attrs

from rxtasks.errors import SettingsError
from rxtasks.lifecycle.retry import RetryPolicy

__all__ = ["DEFAULT_OPTIONS", "OPEN_OPTIONS", "OpenOptions", "ResourceLimits", "TaskOptions", "filled", "merge_options"]


def _seconds(what: str, *, zero: bool, none: bool = True) -> Any:
    def check(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value is None and none:
            return
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not number or value < 0 or (value == 0 and not zero):
            raise SettingsError(f"{what}.{attribute.name} is seconds {'from' if zero else 'above'} 0, not {value!r}")

    return check


def _aware(_: Any, attribute: attrs.Attribute[Any], value: datetime | None) -> None:
    if value is not None and (not isinstance(value, datetime) or value.tzinfo is None):
        raise SettingsError(f"TaskOptions.{attribute.name} is an aware datetime (with tzinfo), not {value!r}")


def _whole(least: int) -> Any:
    def check(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise SettingsError(f"TaskOptions.{attribute.name} is a whole number from {least}, not {value!r}")

    return check


def _priority(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**31) <= value < 2**31:
        raise SettingsError(f"TaskOptions.priority is a whole number (higher runs first), not {value!r}")


def _words(value: Iterable[str] | str) -> tuple[str, ...]:
    # What is no collection is left to the validator.
    return (value,) if isinstance(value, str) or not isinstance(value, Iterable) else tuple(value)


def _text(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not isinstance(value, str):
        raise SettingsError(f"TaskOptions.{attribute.name} is text or None, not {value!r}")


def _texts(_: Any, attribute: attrs.Attribute[Any], value: tuple[Any, ...]) -> None:
    for word in value:
        if not isinstance(word, str):
            raise SettingsError(f"TaskOptions.{attribute.name} holds text, not {word!r}")


def _policy(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, RetryPolicy):
        raise SettingsError(f"TaskOptions.retry is a RetryPolicy, not {value!r}")


def _limits(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not isinstance(value, ResourceLimits):
        raise SettingsError(f"TaskOptions.limits is a ResourceLimits or None, not {value!r}")


def _one_of(*words: str) -> Any:
    def check(owner: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value not in words:
            raise SettingsError(f"{type(owner).__name__}.{attribute.name} is {' or '.join(words)}, not {value!r}")

    return check


def _limit(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is None:
        return
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or value <= 0:
        raise SettingsError(f"ResourceLimits.{attribute.name} is a number above 0, not {value!r}")


@attrs.frozen
class ResourceLimits:
    """What a worker's whole process tree may use; None = no limit."""

    #: Percent of one core; the mean over a second counts (over three for "kill").
    cpu_percent: float | None = attrs.field(default=None, validator=_limit)
    #: Proportional set size (PSS) and swap of all processes, without objects that were put. At least what the worker itself
    #: takes, some 10 MB and what it imports.
    memory_bytes: int | None = attrs.field(default=None, validator=_limit)
    #: Held on the disk by the files in the temp_dir of each attempt that runs.
    disk_bytes: int | None = attrs.field(default=None, validator=_limit)
    #: "warn": an over_limit event and no more. "throttle": the CPU is held at its limit; above one of memory or disk,
    #: everybody else has the CPU first (and with cgroups of version 2 the kernel slows down what asks for more memory).
    #: "kill": the tree is killed; the task has crashed, and runs again until it has done so max_crashes times.
    over_limit: Literal["warn", "throttle", "kill"] = attrs.field(
        default="warn", validator=_one_of("warn", "throttle", "kill")
    )

    @property
    def bounded(self) -> bool:
        """True if anything is limited."""
        return not (self.cpu_percent is None and self.memory_bytes is None and self.disk_bytes is None)


@attrs.frozen
class TaskOptions:
    """How one task is queued, run, retried and found again."""

    #: The name shown; None = the handler's.
    name: str | None = attrs.field(default=None, validator=_text)
    #: Higher runs first; equal ones in order of arrival.
    priority: int = attrs.field(default=0, validator=_priority)
    #: Seconds from now before it may run.
    delay: float | None = attrs.field(default=None, validator=_seconds("TaskOptions", zero=True))
    #: The aware time before which it does not run.
    run_at: datetime | None = attrs.field(default=None, validator=_aware)
    #: Run again and again: five fields (minute, hour, day of month, month, day of week). Each occurrence is a task of its
    #: own; the next one is stored with the end of the one before. One that ends as cancelled ends the schedule.
    cron: str | None = attrs.field(default=None, validator=_text)
    #: The time zone of `cron`, such as "Europe/Berlin"; None = UTC.
    tz: str | None = attrs.field(default=None, validator=_text)
    #: Soft timeout of one attempt, seconds: the handler is asked to checkpoint.
    timeout: float | None = attrs.field(default=None, validator=_seconds("TaskOptions", zero=False))
    #: Seconds between asking (timeout, cancel) and killing the process tree.
    grace: float = attrs.field(default=5.0, validator=_seconds("TaskOptions", zero=True, none=False))
    retry: RetryPolicy = attrs.field(factory=RetryPolicy, validator=_policy)
    #: Worker crashes after which the task fails; 1 = never run again after a crash.
    max_crashes: int = attrs.field(default=3, validator=_whole(1))
    #: A repeat returns the existing task while it has not ended.
    dedup_key: str | None = attrs.field(default=None, validator=_text)
    #: Ids of tasks that must have ended well before this one may run.
    depends_on: tuple[str, ...] = attrs.field(default=(), converter=_words, validator=_texts)
    #: What becomes of it when one of them fails or is cancelled.
    on_dependency_failure: Literal["cancel", "run"] = attrs.field(default="cancel", validator=_one_of("cancel", "run"))
    #: Of all tasks of the store with this lock one runs at a time. Free between two attempts.
    lock: str | None = attrs.field(default=None, validator=_text)
    #: Tasks of this one's name that run at once, over all services of the store.
    max_running: int | None = attrs.field(default=None, validator=attrs.validators.optional(_whole(1)))
    #: How often tasks of this name may begin: "100/s", "10/min", "5/h"; spread evenly.
    rate: str | None = attrs.field(default=None, validator=_text)
    queue: str | None = attrs.field(default=None, validator=_text)
    #: Run only in workers of this isolation (mixed pools); None = any.
    isolation: str | None = attrs.field(default=None, validator=_text)
    limits: ResourceLimits | None = attrs.field(default=None, validator=_limits)
    tags: tuple[str, ...] = attrs.field(default=(), converter=_words, validator=_texts)


@attrs.frozen
class OpenOptions(TaskOptions):
    """Options of a task that was pushed by name where its function was not known. What they leave at its default is for the
    function's own to say, in the process that runs it (`filled`).
    """


DEFAULT_OPTIONS = TaskOptions()
OPEN_OPTIONS = OpenOptions()
#: Options that count while a task runs, and not for whether and when it may.
_WHILE_IT_RUNS = ("timeout", "grace", "retry", "max_crashes", "limits")

_FIELDS = tuple(field.name for field in attrs.fields(TaskOptions))


def merge_options(base: TaskOptions, changes: dict[str, Any]) -> TaskOptions:
    """Return `base` with `changes`.

    Raises:
        SettingsError: a name is no option or a value is out of its range.
    """
    for name in changes:
        if name not in _FIELDS:
            raise SettingsError(f"TaskOptions has no {name!r}; it has {', '.join(_FIELDS)}")
    return attrs.evolve(base, **changes) if changes else base


def filled(options: TaskOptions, own: TaskOptions) -> TaskOptions:
    """Return options that are open with what their function's `own` say: timeout, grace, retry, max_crashes and limits. What
    decides whether and when a task may run (priority, queue, lock and the like) was settled when it was pushed.
    """
    said = {name: getattr(options, name) for name in _FIELDS}
    for name in _WHILE_IT_RUNS:
        if said[name] == getattr(DEFAULT_OPTIONS, name):
            said[name] = getattr(own, name)
    made = TaskOptions(**said)
    return DEFAULT_OPTIONS if made == DEFAULT_OPTIONS else made
