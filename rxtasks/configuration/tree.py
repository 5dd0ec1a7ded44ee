"""Every setting of a pool that an operator starts, as one tree of frozen classes.

The `#:` comment of each says what it means, and its kind what it takes; the manual's page is made from both
(rxtasks.configuration.reference). The part `service` has the settings of rxtasks.config.Settings that have no place of their
own here, made from that class: a setting that is added there is one here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, get_type_hints

import attrs

from rxtasks.config import Settings
from rxtasks.configuration.kinds import (
    Choice,
    Flag,
    Kind,
    Listen,
    Names,
    Number,
    PathName,
    Settled,
    StoreUrl,
    Table,
    Text,
)
from rxtasks.configuration.redaction import redacted_url
from rxtasks.observe.levels import LEVELS
from rxtasks.pool.kinds import ISOLATIONS

__all__ = [
    "COVERED",
    "KIND",
    "Control",
    "Limits",
    "Logs",
    "Resources",
    "ServiceSettings",
    "Values",
    "Workers",
    "kind_of",
]

#: Where the metadata of a field have its kind.
KIND: Final = "rxtasks.kind"
#: Settings of a service that have a place of their own in the tree: name -> dotted path.
COVERED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "drain_timeout": "workers.drain_timeout_seconds",
        "poll_interval": "workers.poll_interval_ms",
        "idle_backoff_max": "workers.idle_backoff_max_ms",
        "limits": "workers.limits",
        "retention": "retain_days",
    }
)


#: Bounds of what is counted on in smaller units: some 1000 TiB, and a thousand years.
_MOST_MIB: Final = 10**9
_MOST_DAYS: Final = 365_250


def _setting(kind: Kind, default: Any, **options: Any) -> Any:
    return attrs.field(default=default, metadata={KIND: kind}, **options)


def kind_of(field: attrs.Attribute[Any]) -> Kind:
    """Return what a setting of the tree takes."""
    kind: Kind = field.metadata[KIND]
    return kind


def _module(word: str) -> str | None:
    if word.endswith(".py"):
        return "the file tasks.py is the module tasks"
    return None if all(part.isidentifier() for part in word.split(".")) else f"{word!r} is no such name"


def _mode(word: str) -> str | None:
    return None if word in ISOLATIONS else f"{word!r} is none"


_QUEUES: Final = "a list of names of queues"
_MODULES: Final = "a list of names of modules, such as package.module"


@attrs.frozen(kw_only=True)
class Limits:
    """What each worker's whole process tree may use."""

    #: Percent of one core.
    cpu_percent: float | None = _setting(Number(0, above=True, none=True), None)
    #: Memory, MiB (2**20 bytes).
    memory_mb: float | None = _setting(Number(0, _MOST_MIB, above=True, none=True), None)
    #: Disk that the files in the temp_dirs of what it runs hold, MiB (2**20 bytes).
    disk_mb: float | None = _setting(Number(0, _MOST_MIB, above=True, none=True), None)


@attrs.frozen(kw_only=True)
class Resources:
    """What is done about workers that use too much."""

    #: What happens to a worker above one of workers.limits: an event and no more (warn), it is slowed down (throttle), or it is
    #: killed, which is a crash of what it runs (kill).
    over_limit_action: str = _setting(Choice(("warn", "throttle", "kill")), "warn")


@attrs.frozen(kw_only=True)
class Workers:
    """The workers of the pool."""

    #: How many; none = one for each usable CPU. With 0 the pool runs nothing itself.
    count: int | None = _setting(Number(0, 1000, whole=True, none=True), None)
    #: Where tasks run: each worker a process, a thread, or the pool's own thread (inline). The page `isolation` compares them.
    mode: str = _setting(Choice(("process", *(kind for kind in ISOLATIONS if kind != "process"))), "process")
    #: Async tasks that one worker runs at once.
    concurrency: int = _setting(Number(1, 100_000, whole=True), 1)
    #: Names of the queues whose tasks are run; none = every queue.
    queues: tuple[str, ...] | None = _setting(Names(_QUEUES, none=True), None)
    #: Modes to take, in this order, when `mode` does not exist on this machine; an empty list = fail instead.
    fallback: tuple[str, ...] = _setting(Names(f"a list of modes ({', '.join(ISOLATIONS)})", _mode), ("thread",))
    #: Milliseconds between two looks into the store for tasks that other processes have put there. They ring a bell, so that
    #: tasks begin at once; looking is for where no bell can ring, or it was not heard.
    poll_interval_ms: float = _setting(Number(10, 86_400_000, unit="of milliseconds"), 1000)
    #: Milliseconds up to which that interval doubles while nothing is found; each claim of tasks resets it.
    idle_backoff_max_ms: float = _setting(Number(10, 86_400_000, unit="of milliseconds"), 30_000)
    #: Seconds that a stop gives running tasks to finish.
    drain_timeout_seconds: float = _setting(Number(0, 86_400 * 365, unit="of seconds"), 60.0)
    limits: Limits = attrs.field(factory=Limits)
    resources: Resources = attrs.field(factory=Resources)


@attrs.frozen(kw_only=True)
class Logs:
    """The merged log of the pool."""

    #: The directory of the log files. By default `logs` in the user's state directory.
    directory: str | None = _setting(PathName(none=True), None)
    #: Least level that is kept.
    level: str = _setting(Choice(tuple(level.lower() for level in LEVELS)), "info")
    #: Bytes after which a log file is closed, compressed and followed by another.
    max_bytes: int = _setting(Number(1024, whole=True, unit="of bytes"), 10 * 2**20)
    #: Closed log files that are kept.
    backups: int = _setting(Number(0, 10_000, whole=True), 5)
    #: Days after which a closed log file is deleted; none = never.
    days: float | None = _setting(Number(0, _MOST_DAYS, above=True, none=True, unit="of days"), 7.0)
    #: Lines that are held in memory for whoever asks.
    ring: int = _setting(Number(1, 10_000_000, whole=True, unit="of lines"), 10_000)
    #: Whether a line that a worker repeats at once is shown once, with how often it came.
    duplicates: bool = _setting(Flag(), True)


@attrs.frozen(kw_only=True)
class Control:
    """How the pool is steered while it runs. There is always a socket that only its own user can reach."""

    #: An address and a port to listen on besides; none = nowhere. Whoever asks there needs a token.
    listen: str | None = _setting(Listen(), None)
    #: The file that holds the token. It must not be readable by others.
    token_file: str | None = _setting(PathName(none=True), None)
    #: The environment variable that holds the token, where there is no file.
    token_env: str = _setting(Text("the name of an environment variable"), "RXTASKS_CONTROL_TOKEN")


def _kind_from(name: str, hint: Any) -> Kind:
    """Return the kind of a setting of the service by its type."""
    none = type(None) in getattr(hint, "__args__", ())
    base = str(hint)
    if hint is bool:
        return Flag()
    if base.startswith("collections.abc.Mapping"):
        values: Kind = Number(1, whole=True) if hint.__args__[1] is int else Text("a rate")
        return Table("a table of numbers by name" if hint.__args__[1] is int else "a table of rates by name", values)
    if "float" in base or "int" in base:
        return Number(-1e308, whole="float" not in base, none=none)
    return PathName(none=none, words=("auto", "off") if name == "cgroups" else ())


def _settled(field: attrs.Attribute[Any], hint: Any) -> Settled:
    """Return the kind of a setting of the service: of its type, with the service's own check."""
    from rxtasks.errors import SettingsError

    def validate(value: Any) -> None:
        if field.validator is not None:
            field.validator(None, field, value)

    expected = "a value of its own kind"
    try:
        validate(_NO_VALUE)
    except SettingsError as error:
        before, _, _ = str(error).rpartition(", not ")
        _, _, expected = before.partition(f"setting {field.name} ")
    kind = _kind_from(field.name, hint)
    words = expected.removeprefix("is ").replace("None", "none").replace("True or False", "true or false")
    return Settled(kind, validate, words)


class _NoValue:
    """What no setting takes."""


_NO_VALUE: Final = _NoValue()


def _service() -> type[Any]:
    hints = get_type_hints(Settings)
    fields = {
        field.name: _setting(_settled(field, hints[field.name]), field.default)
        for field in attrs.fields(Settings)
        if field.name not in COVERED
    }
    made = attrs.make_class("ServiceSettings", fields, frozen=True, kw_only=True)
    made.__annotations__ = {name: hints[name] for name in fields}
    made.__doc__ = "Settings of the service itself; rarely to be touched."
    made.__module__ = __name__
    return attrs.resolve_types(made, globals(), {})


if TYPE_CHECKING:
    # Without the settings that have a place of their own it is this one.
    ServiceSettings = Settings
else:
    ServiceSettings = _service()


@attrs.frozen(kw_only=True)
class Values:
    """All settings."""

    #: Where tasks are kept: sqlite:///PATH (three slashes and a path), or memory, which ends with the pool. By default the file
    #: tasks.db in the user's state directory.
    store: str = attrs.field(default="memory", metadata={KIND: StoreUrl()}, repr=redacted_url)
    #: Modules that each worker imports before its first task; what they register can be pushed by name.
    modules: tuple[str, ...] = _setting(Names(_MODULES, _module), ())
    #: Days for which the store keeps tasks that have ended, with their events and results; none = for ever.
    retain_days: float | None = _setting(Number(0, _MOST_DAYS, none=True, unit="of days"), 30.0)
    workers: Workers = attrs.field(factory=Workers)
    logs: Logs = attrs.field(factory=Logs)
    control: Control = attrs.field(factory=Control)
    service: ServiceSettings = attrs.field(factory=ServiceSettings)
