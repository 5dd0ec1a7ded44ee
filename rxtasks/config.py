"""Every setting of a service, in one frozen class."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import attrs

from rxtasks.errors import SettingsError
from rxtasks.lifecycle.options import ResourceLimits

__all__ = ["Settings", "make_settings"]

_NONE: Final[Mapping[str, Any]] = MappingProxyType({})


def _number(least: float, *, whole: bool = False, none: bool = False, unit: str = "") -> Any:
    def check(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value is None and none:
            return
        kind = int if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kind) or not least <= value < float("inf"):
            what = f"a whole number{unit}" if whole else f"a number{unit}"
            raise SettingsError(
                f"setting {attribute.name} is {what} from {least:.10g}{' or None' if none else ''}, not {value!r}"
            )

    return check


def _flag(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, bool):
        raise SettingsError(f"setting {attribute.name} is True or False, not {value!r}")


def _path(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not isinstance(value, str):
        raise SettingsError(f"setting {attribute.name} is the path of a file or None, not {value!r}")


def _limits(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not isinstance(value, ResourceLimits):
        raise SettingsError(f"setting {attribute.name} is a ResourceLimits or None, not {value!r}")


def _cgroups(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value not in ("auto", "off") and not (isinstance(value, str) and os.path.isdir(value)):
        raise SettingsError(f'setting {attribute.name} is "auto", "off" or a directory that exists, not {value!r}')


def _above(least: float) -> Any:
    def check(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value is None:
            return
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not least < value < float("inf"):
            raise SettingsError(f"setting {attribute.name} is a number above {least:g} or None, not {value!r}")

    return check


def _bounds(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    whole = isinstance(value, Mapping) and all(
        isinstance(name, str) and isinstance(most, int) and not isinstance(most, bool) and most > 0
        for name, most in value.items()
    )
    if not whole:
        raise SettingsError(
            f'setting {attribute.name} holds whole numbers from 1 by name, as {{"mail": 4}}, not {value!r}'
        )


def _rates(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, Mapping) or not all(isinstance(word, str) for pair in value.items() for word in pair):
        raise SettingsError(f'setting {attribute.name} holds rates by name, as {{"mail": "10/min"}}, not {value!r}')
    from rxtasks.lifecycle.rate import parse_rate

    for rate in value.values():
        parse_rate(rate)


@attrs.frozen(kw_only=True)
class Settings:
    """The settings of a TaskService; all have defaults that suit one machine."""

    #: Seconds that a stop gives running tasks to finish.
    drain_timeout: float = attrs.field(default=60.0, validator=_number(0))
    #: Seconds that a worker which runs nothing may take to leave when it is stopped: its worker_stop hooks, the closing of its
    #: resources, its exit functions. Then it is killed. For hooks before and after the service's own stop likewise.
    leave_timeout: float = attrs.field(default=5.0, validator=_number(0.1))
    #: Seconds that a worker may take to become ready.
    start_timeout: float = attrs.field(default=30.0, validator=_number(0.1))
    #: Seconds between two heartbeats of a worker.
    heartbeat: float = attrs.field(default=5.0, validator=_number(0.05))
    #: Seconds for which a subscriber may hold the delivery thread, or take nothing while its buffer is full.
    stall_timeout: float = attrs.field(default=5.0, validator=_number(0.01))
    #: Events that may wait for delivery before work is slowed down.
    buffer_events: int = attrs.field(default=10_000, validator=_number(16, whole=True))
    #: The same in bytes.
    buffer_bytes: int = attrs.field(default=16 * 2**20, validator=_number(4096, whole=True))
    #: Tasks that may wait when a source of requests feeds the engine; at this bound the source is held.
    max_pending: int = attrs.field(default=10_000, validator=_number(1, whole=True))
    #: Tasks that may wait in all; at this bound submit and push raise QueueFull. None = no bound.
    max_queue: int | None = attrs.field(default=None, validator=_number(1, whole=True, none=True))
    #: Days for which a durable store keeps tasks that have ended, with their events and results; None = for ever.
    retention: float | None = attrs.field(default=30.0, validator=_number(0, none=True, unit=" of days"))
    #: Tasks of a name that run at once, over all services of the store: {"name": number}. For tasks that are pushed here, where
    #: their own options say nothing.
    max_running: Mapping[str, int] = attrs.field(default=_NONE, validator=_bounds)
    #: The same by the name of the queue ("default": tasks without one).
    queue_running: Mapping[str, int] = attrs.field(default=_NONE, validator=_bounds)
    #: How often tasks of a name may begin: {"name": "100/s"}.
    rates: Mapping[str, str] = attrs.field(default=_NONE, validator=_rates)
    #: Bytes that the arguments of one task, a result, an output, a checkpoint or an object given to put() may take, pickled.
    max_payload: int = attrs.field(default=2**30, validator=_number(2**20, whole=True))
    #: Seconds of measured run time that a busy worker holds, sent ahead included.
    send_ahead: float = attrs.field(default=0.030, validator=_number(0))
    #: Fork process workers from a process that has loaded what they need (Linux), instead of starting each from nothing.
    fork_server: bool = attrs.field(default=True, validator=_flag)
    #: Units (an event, or each KiB of it) that a task may log or emit ahead of its acknowledgement.
    credit: int = attrs.field(default=1024, validator=_number(2, whole=True))
    #: Attempts that may be interrupted (drain, another task's kill) before the task fails.
    max_interruptions: int = attrs.field(default=20, validator=_number(1, whole=True))
    #: Seconds for which a service's claims in a durable store hold after they were last renewed: one that stands still for
    #: longer is taken for dead, and others run its tasks.
    lease: float = attrs.field(default=15.0, validator=_number(0.2))
    #: Seconds between two renewals; each also looks after the other services of the store.
    lease_renewal: float = attrs.field(default=5.0, validator=_number(0.05))
    #: Seconds between two looks into a durable store for tasks that other services have put there. They ring a bell, so that
    #: their tasks begin at once; looking is for where no bell can ring, or it was not heard.
    poll_interval: float = attrs.field(default=1.0, validator=_number(0.01))
    #: Seconds up to which that interval doubles while nothing is found; a claim of tasks resets it. Below poll_interval: it
    #: stays as it is.
    idle_backoff_max: float = attrs.field(default=30.0, validator=_number(0.01))
    #: Consecutive failures to become ready after which a worker's place is given up.
    max_respawns: int = attrs.field(default=10, validator=_number(1, whole=True))
    #: Attempts after which a process or thread worker is replaced: its successor is started while it works on, so that it
    #: may get a few more, and takes over when it is ready. None = never.
    max_tasks: int | None = attrs.field(default=None, validator=_number(1, whole=True, none=True))
    #: No worker gets more than max_tasks: its successor is started when it has been given its last, and takes over when that
    #: has ended. Up to twice as many workers are there meanwhile, of which no more run tasks.
    max_tasks_strict: bool = attrs.field(default=False, validator=_flag)
    #: Bytes of resident memory (objects that were put, and are shared with others, included) above which a process worker
    #: is replaced in the same way, when an attempt has ended. None = never.
    max_memory: int | None = attrs.field(
        default=None, validator=_number(2**20, whole=True, none=True, unit=" of bytes")
    )
    #: What each process worker's whole process tree may use, where its WorkerSpec says nothing; None = no limits.
    limits: ResourceLimits | None = attrs.field(default=None, validator=_limits)
    #: Where workers that have limits get control groups: "auto" = below this process's own, where they may be made there;
    #: "off" = nowhere (then rlimits, nice and looking have to do); or a directory that was delegated to this process.
    cgroups: str = attrs.field(default="auto", validator=_cgroups)
    #: No new attempts while less memory than this is available: bytes, or below 1 a share of what the machine (or the
    #: container) has. One runs all the same. 2 %: the kernel is about to look for a process to kill. None = never.
    pause_memory: float | None = attrs.field(default=0.02, validator=_above(0))
    #: No new attempts while all processes wait for memory for more than so many percent of the time (Linux's PSI, "full" of
    #: the last 10 s): a machine that only swaps. None = never.
    pause_stall: float | None = attrs.field(default=40.0, validator=_above(0))
    #: No new attempts while the load for each usable CPU is above this: the mean of the last minute. Our own workers are part
    #: of it: 1 is a machine that is busy and no more. None = never; a machine that only computes gets all it can do.
    pause_load: float | None = attrs.field(default=None, validator=_above(0))
    #: Keep each attempt's temp_dir instead of removing it.
    keep_temp: bool = attrs.field(default=False, validator=_flag)
    #: A file that receives every stimulus and instruction of the core as JSON lines; None = no recording.
    record: str | None = attrs.field(default=None, validator=_path)

    def __attrs_post_init__(self) -> None:
        if self.lease_renewal > self.lease / 2:
            raise SettingsError(
                f"setting lease_renewal is at most half of lease ({self.lease:g} s), not {self.lease_renewal!r}:"
                " one renewal that comes late must not cost the lease"
            )


def make_settings(values: dict[str, Any]) -> Settings:
    """Return the settings with `values`.

    Raises:
        SettingsError: a name is no setting, or a value is out of its range; names the nearest settings.
    """
    names = [field.name for field in attrs.fields(Settings)]
    for name in values:
        if name not in names:
            import difflib

            near = difflib.get_close_matches(name, names, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"settings are {', '.join(names)}"
            raise SettingsError(f"there is no setting {name!r}; {hint}")
    return Settings(**values)
