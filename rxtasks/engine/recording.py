"""A recording of a run: every stimulus and instruction of the core as JSON lines, from which the run can be replayed.

::

    {"run": id, "rxtasks": version, "settings": ..., "specs": [...], "places": [...], "durable": ...}    how it began
    {"run": id, "now": [mono_ns, wall_us, chance], "in": [...], "out": [...]}                       one line a step

Several services may write one file; `run` tells them apart. A line is written as soon as its step is taken, so that what kills
the process costs nothing but the last one.

What the core decides by is written exactly; what only passes through it is not: bytes appear as {"bytes": length}, arguments
and results that are more than a short word or number as {"seen": type}, so that a line stays short and shows no secret
argument. Each word is {"is": class, field: value, ...}; what JSON has no form for is an object with one of the keys below.
Options are written once, `{"is": "TaskOptions", "same": number, ...}`, and then by their number: the core puts tasks together
whose options are one object, so they are one in a replay too.
"""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

import attrs
import orjson

from rxtasks.clock import us_from_utc
from rxtasks.errors import ProtocolError, SettingsError
from rxtasks.lifecycle.errorinfo import TaskErrorInfo
from rxtasks.lifecycle.events import LogEvent, OutputEvent, ProgressEvent, StatusEvent
from rxtasks.lifecycle.options import TaskOptions
from rxtasks.lifecycle.task import new_id
from rxtasks.pool.words import Instruction, Now, Stimulus
from rxtasks.wire.handle import Put
from rxtasks.wire.message import Request
from rxtasks.wire.sealed import Sealed
from rxtasks.wire.steps import split_step

if TYPE_CHECKING:
    from rxtasks.engine.core import Core

__all__ = ["LONG", "Recording", "Shown", "Writer"]

#: Characters from which on a text is shown by its beginning.
LONG: Final = 512
#: Keys of objects that stand for what JSON has no form for.
_KEYS: Final = frozenset(
    {"is", "tuple", "set", "bytes", "step", "seen", "time", "text", "int", "float", "dict", "class"}
)
#: The engine's notes on a claim point back at workers: left out.
_LEFT_OUT: Final = frozenset({"worker", "change", "credit", "ending"})
#: Fields that hold what handlers made: passed through.
_OPAQUE: Final = {
    (StatusEvent, "result"),
    (OutputEvent, "value"),
    (LogEvent, "extra"),
    (ProgressEvent, "data"),
    (TaskErrorInfo, "details"),
}
#: Forms of a value in row form (wire.message).
_FORMS: Final = ("j", "p", "t", "o", "r")
#: Characters of a text that is shown though it passes through.
_SHORT: Final = 40
_INT64: Final = 2**63


class Shown:
    """Stands in a replay for what a recording does not have: it is shown again as it was."""

    def __init__(self, shown: Any) -> None:
        self.shown = shown


class Writer:
    """Makes JSON of words; knows which options are one object."""

    def __init__(self) -> None:
        self._numbers: dict[int, tuple[weakref.ref[TaskOptions], int]] = {}
        self._count = 0

    def plain(self, value: Any) -> Any:
        """Return the value as what JSON has a form for."""
        if value is None or value is True or value is False:
            return value
        kind = type(value)
        if kind is int:
            return value if -_INT64 <= value < _INT64 else {"int": str(value)}
        if kind is str:
            return value if len(value) <= LONG and value.isascii() else self._text(value)
        if kind is float:
            return value if value - value == 0.0 else {"float": repr(value)}
        if kind is list:
            return self._row(value) or [self.plain(item) for item in value]
        if kind is tuple:
            return {"tuple": self._row(value) or [self.plain(item) for item in value]}
        if hasattr(value, "_fields"):
            return self._word(value, [(name, getattr(value, name)) for name in value._fields])
        if isinstance(value, Shown):
            return value.shown
        if isinstance(value, bytes | bytearray | memoryview | Sealed):
            return {"bytes": len(value)}
        if isinstance(value, Enum):
            return {"is": kind.__name__, "value": value.value}
        if isinstance(value, datetime):
            return {"time": us_from_utc(value)}
        if isinstance(value, set | frozenset):
            return {"set": sorted([self.plain(item) for item in value], key=repr)}
        if isinstance(value, Mapping):
            return self._mapping(value)
        if isinstance(value, type):
            return {"class": f"{value.__module__}:{value.__qualname__}"}
        if kind is Put:
            return {"is": "Put", "key": value.key, "kind": value.kind, "blob": self.plain(value.blob)}
        if attrs.has(kind):
            return self._attrs(value, kind)
        return _seen(value)

    def _text(self, value: str) -> Any:
        try:
            encoded = value.encode()
        except UnicodeEncodeError:  # a lone surrogate
            encoded = b""
        if encoded and len(value) <= LONG:
            return value
        from hashlib import blake2b

        digest = blake2b(value.encode(errors="surrogatepass"), digest_size=8).hexdigest()
        return {"text": len(value), "starts": ascii(value[:100])[1:-1], "digest": digest}

    def _row(self, value: Any) -> list[Any] | None:
        """Return a value in row form; None: it is none."""
        if len(value) > 1 and type(value[0]) is str and value[0] in _FORMS:
            return [value[0], *[self._opaque(item) for item in value[1:]]]
        return None

    def _opaque(self, value: Any) -> Any:
        if value is None or isinstance(value, bool | int | float | Shown):
            return self.plain(value)
        return self.plain(value) if type(value) is str and len(value) <= _SHORT else _seen(value)

    def _mapping(self, value: Mapping[Any, Any]) -> Any:
        if all([type(key) is str and key not in _KEYS for key in value]):
            return {key: self.plain(item) for key, item in value.items()}
        return {"dict": [[self.plain(key), self.plain(item)] for key, item in value.items()]}

    def _word(self, value: Any, fields: list[tuple[str, Any]]) -> dict[str, Any]:
        named = {name: self.plain(item) for name, item in fields if name not in _LEFT_OUT}
        return {"is": type(value).__name__, **named}

    def _attrs(self, value: Any, kind: type[Any]) -> Any:
        if kind is Request and value.op == "step":
            return {**self._word(value, [("request_id", value.request_id)]), **self._step(value)}
        shown: dict[str, Any] = {"is": kind.__name__}
        if kind is TaskOptions:
            before = self._count
            shown["same"] = self._number(value)
            if shown["same"] <= before:
                return shown  # written in full where it came first
        for field in attrs.fields(kind):
            name = field.name
            if name in _LEFT_OUT:
                continue
            item = getattr(value, name)
            if name == "payload":
                shown[name] = _payload(item)
            elif name == "payloads":
                shown[name] = [_payload(each) for each in item]
            elif (kind, name) in _OPAQUE:
                shown[name] = self._opaque(item)
            else:
                shown[name] = self.plain(item)
        return shown

    def _step(self, request: Request) -> dict[str, Any]:
        try:
            name, data = split_step(bytes(request.blob))
            blob: Any = {"step": self.plain(name), "bytes": len(data)}
        except ProtocolError:
            blob = {"bytes": len(request.blob)}
        return {"token": request.token, "op": request.op, "blob": blob}

    def _number(self, options: TaskOptions) -> int:
        key = id(options)
        known = self._numbers.get(key)
        if known is not None and known[0]() is options:
            return known[1]
        self._count += 1
        gone = self._numbers.pop
        self._numbers[key] = weakref.ref(options, lambda _: gone(key, None)), self._count
        return self._count


def _payload(value: Any) -> Any:
    if isinstance(value, Shown):
        return value.shown
    return {"bytes": len(value)} if isinstance(value, bytes | bytearray | memoryview | Sealed) else _seen(value)


def _seen(value: Any) -> dict[str, Any]:
    """Return what is shown of an object that passes through: its type, and how many it holds."""
    kind = type(value)
    shown: dict[str, Any] = {"seen": kind.__qualname__ if kind.__module__ == "builtins" else _name(kind)}
    if isinstance(value, str | list | tuple | dict | set | frozenset):
        shown["size"] = len(value)
    return shown


def _name(kind: type[Any]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


class Recording:
    """Appends to a file; closed with the driver.

    Raises:
        SettingsError: the file cannot be opened for that.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._run = new_id()
        self._writer = Writer()
        self._begun = False
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SettingsError(
                f"setting record: {path!r} cannot be written ({error.strerror}); name a file in a folder that is there"
            ) from error

    def step(self, core: Core, stimuli: list[Stimulus], now: Now) -> list[Instruction]:
        """Have the core take the step, and append it; also one in which it fails.

        Raises:
            Exception: what the core raised.
        """
        if not self._begun:
            self._begun = True
            self._write(self._beginning(core))
        line: dict[str, Any] = {"run": self._run, "now": [now.mono_ns, now.wall_us, now.chance]}
        line["in"] = [self._writer.plain(stimulus) for stimulus in stimuli]  # before the core makes its notes on claims
        try:
            instructions = core.step(stimuli, now)
        except BaseException as error:
            self._write({**line, "raised": f"{type(error).__name__}: {error}"})
            raise
        line["out"] = [self._writer.plain(instruction) for instruction in instructions]
        self._write(line)
        return instructions

    def _beginning(self, core: Core) -> dict[str, Any]:
        from rxtasks import __version__

        plain, pool = self._writer.plain, core.pool
        return {
            "run": self._run,
            "rxtasks": __version__,
            "settings": plain(core.settings),
            "specs": plain(pool._specs),
            "places": [[place.number, plain(place.spec)] for place in pool.places],
            "defines": plain(pool.defines),
            "durable": core.recorder.durable,
        }

    def _write(self, line: dict[str, Any]) -> None:
        if self._fd < 0:
            return
        try:
            data = memoryview(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
            while data:
                data = data[os.write(self._fd, data) :]
        except (OSError, TypeError, ValueError) as error:  # the run matters more than its record
            logging.getLogger("rxtasks").warning("the recording %s ends here: %s", self._path, error)
            self.close()

    def close(self) -> None:
        """Close the file; idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
