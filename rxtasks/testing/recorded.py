"""Replays recordings of real runs (setting record=) through the core: it must ask for the same things again.

::

    recording ──> stimuli, in their order and at their times ──> a fresh core ──> instructions == those of the recording

    python -m rxtasks.testing.recorded run.jsonl
"""

from __future__ import annotations

import argparse
import difflib
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import attrs
import orjson

from rxtasks.clock import utc_from_us
from rxtasks.config import Settings
from rxtasks.engine.core import Core
from rxtasks.engine.recording import Shown, Writer
from rxtasks.errors import ProtocolError
from rxtasks.lifecycle import errorinfo, events, options, retry, status
from rxtasks.pool import info, limits, pressure, words
from rxtasks.pool import places as pool_places
from rxtasks.pool.words import Now
from rxtasks.stores import base, gates
from rxtasks.wire import message, outcome
from rxtasks.wire.handle import Put
from rxtasks.wire.steps import join_step

__all__ = ["Differs", "Replayed", "check_recording", "main"]

#: Where the classes of words and of what they hold are.
_MODULES: Final = (
    words,
    message,
    base,
    gates,
    options,
    retry,
    status,
    events,
    errorinfo,
    info,
    outcome,
    limits,
    pressure,
)
#: Lines of a difference that are shown.
_LINES: Final = 40


class Differs(AssertionError):
    """The core asked for other things than in the recording."""


@attrs.frozen
class Replayed:
    """What was replayed."""

    #: Runs of an engine, and their steps.
    runs: int
    steps: int
    stimuli: int
    instructions: int
    #: The last line is not whole: the process was killed as it wrote it.
    cut: bool

    def __str__(self) -> str:
        cut = "; the last line is not whole and was left out" if self.cut else ""
        return (
            f"{self.runs} runs, {self.steps} steps: {self.stimuli} stimuli led to the same {self.instructions}"
            f" instructions{cut}"
        )


class _Text(str):
    """A long text of which the beginning is known."""

    shown: Any

    __slots__ = ("shown",)


class _Reader:
    """Makes words of JSON."""

    def __init__(self) -> None:
        self._options: dict[int, Any] = {}
        self._classes = dict(_classes())
        self._special: dict[str, Callable[[dict[str, Any]], Any]] = {
            "tuple": lambda value: tuple(self.made(value["tuple"])),
            "set": lambda value: frozenset(self.made(value["set"])),
            "step": lambda value: join_step(self.made(value["step"]), bytes(value["bytes"])),
            "bytes": lambda value: bytes(value["bytes"]),
            "seen": Shown,
            "time": lambda value: utc_from_us(value["time"]),
            "text": _text,
            "class": lambda value: _class(value["class"]),
            "int": lambda value: int(value["int"]),
            "float": lambda value: float(value["float"]),
            "dict": lambda value: {self.made(key): self.made(item) for key, item in value["dict"]},
        }

    def made(self, value: Any) -> Any:
        """Return what the JSON stands for."""
        if isinstance(value, list):
            return [self.made(item) for item in value]
        if not isinstance(value, dict):
            return value
        name = value.get("is")
        if name is not None:
            return self._object(name, value)
        for key, make in self._special.items():
            if key in value:
                return make(value)
        return {key: self.made(item) for key, item in value.items()}

    def _object(self, name: str, value: dict[str, Any]) -> Any:
        if name == "TaskOptions" and len(value) == 2:
            return self._options[value["same"]]
        kind = self._classes.get(name)
        if kind is None:
            raise ProtocolError(
                f"the recording has a {name!r}, which this rxtasks does not know: replay it with its own"
            )
        fields = {key: self.made(item) for key, item in value.items() if key not in ("is", "same")}
        if "payload" in value and isinstance(value["payload"], dict):
            fields["payload"] = Shown(value["payload"])  # nothing but its size is known
        if name == "Put":
            return Put(fields["key"], fields["kind"], fields["blob"], None)
        if issubclass(kind, status.TaskStatus | status.WorkerStatus):
            return kind(fields["value"])
        try:
            made = kind(**fields)
        except TypeError as error:
            raise ProtocolError(f"the recording's {name} is another one than this rxtasks has: {error}") from None
        if name == "TaskOptions":
            self._options[value["same"]] = made
        return made


def _class(name: str) -> Any:
    """Return a class of Python's or of rxtasks; of any other one its name, which does as well and imports nothing."""
    module, _, path = name.partition(":")
    if module == "builtins" or module.startswith("rxtasks."):
        return getattr(sys.modules.get(module), path, name)
    return name


def _text(value: dict[str, Any]) -> str:
    made = _Text(f"{value['starts']}{value['digest']}")
    made.shown = value
    return made


def _classes() -> Iterator[tuple[str, type[Any]]]:
    for module in (*_MODULES, pool_places):
        for name, kind in inspect.getmembers(module, inspect.isclass):
            if kind.__module__.startswith("rxtasks."):
                yield name, kind
    yield "Put", Put
    yield "Settings", Settings


class _Writer(Writer):
    """As what records, and shows again what is only known by its beginning."""

    def plain(self, value: Any) -> Any:
        return value.shown if type(value) is _Text else super().plain(value)


class _Run:
    """One engine of the recording."""

    def __init__(self, line: dict[str, Any]) -> None:
        self._reader = _Reader()
        self._writer = _Writer()
        made = self._reader.made
        known = {field.name for field in attrs.fields(Settings)}
        settings = {key: made(item) for key, item in line["settings"].items() if key in known}
        self.core = Core(made(line["specs"]), Settings(**settings))
        self.core.recorder.durable = line["durable"]
        pool = self.core.pool
        pool.places[:] = [pool_places.Place(number, made(spec)) for number, spec in line["places"]]
        pool.defines = made(line["defines"])
        pool._numbered = max((place.number for place in pool.places), default=-1) + 1
        self.steps = 0

    def step(self, line: dict[str, Any]) -> tuple[int, int]:
        """Take one step; return how many stimuli and instructions it had.

        Raises:
            Differs: it asked for other things.
        """
        self.steps += 1
        stimuli = self._reader.made(line["in"])
        raised = None
        try:
            instructions = self.core.step(stimuli, Now(*line["now"]))
        except Exception as error:
            instructions, raised = [], f"{type(error).__name__}: {error}"
        self.core.spent.clear()
        if raised != line.get("raised"):
            raise Differs(
                f"step {self.steps}: recorded {line.get('raised') or 'no error'}, replayed {raised or 'none'}"
            )
        found = [_normal(self._writer.plain(instruction)) for instruction in instructions]
        numbers: dict[int, int] = {}
        wanted = [_unnumbered(instruction, numbers) for instruction in line.get("out", [])]
        again = [_unnumbered(instruction, {}) for instruction in found]
        if wanted != again:
            raise Differs(f"step {self.steps}, at {line['now'][0]} ns:\n{_difference(wanted, again)}")
        return len(stimuli), len(found)


def _unnumbered(value: Any, numbers: dict[int, int]) -> Any:
    """Return it without the numbers of options, which count what was written."""
    if isinstance(value, list):
        return [_unnumbered(item, numbers) for item in value]
    if isinstance(value, dict):
        return {key: _unnumbered(item, numbers) for key, item in value.items() if key != "same" or "is" not in value}
    return value


def _normal(value: Any) -> Any:
    return orjson.loads(orjson.dumps(value))


def _difference(wanted: list[Any], found: list[Any]) -> str:
    def lines(values: list[Any]) -> list[str]:
        return orjson.dumps(values, option=orjson.OPT_INDENT_2).decode().splitlines()

    said = list(difflib.unified_diff(lines(wanted), lines(found), "recorded", "replayed", n=6, lineterm=""))
    more = f"\n... {len(said) - _LINES} more lines" if len(said) > _LINES else ""
    return "\n".join(said[:_LINES]) + more


def check_recording(path: str | Path) -> Replayed:
    """Replay the recording at `path` (what `TaskService(record=path)` has written); return what was replayed.

    A recording that was cut off, because the process was killed, is replayed up to there.

    Raises:
        Differs: the core asked for other things than in the recording; the message has the first step and the difference.
        ProtocolError: it is no recording, or one of an rxtasks with other words.
        OSError: it cannot be read.
    """
    runs: dict[str, _Run] = {}
    steps = stimuli = instructions = 0
    cut = False
    with open(path, "rb") as file:
        for number, data in enumerate(file, start=1):
            if cut:
                raise ProtocolError(f"{path}, line {number - 1}: it is not whole, and others follow it")
            try:
                line = orjson.loads(data)
            except orjson.JSONDecodeError:
                cut = True
                continue
            try:
                key = line["run"]
                if "settings" in line:
                    runs[key] = _Run(line)
                    continue
                run = runs[key]
            except (KeyError, TypeError, AttributeError) as error:
                raise ProtocolError(f"{path}, line {number}: no line of a recording ({error!r})") from None
            try:
                took, asked = run.step(line)
            except Differs as error:
                raise Differs(f"{path}, line {number}: {error}") from None
            steps, stimuli, instructions = steps + 1, stimuli + took, instructions + asked
    if not runs:
        raise ProtocolError(f"{path} is no recording: it has no run; record one with TaskService(record=...)")
    return Replayed(len(runs), steps, stimuli, instructions, cut)


def main(arguments: Sequence[str] | None = None) -> None:
    """Replay recordings from the command line; exits with 1 if one of them differs."""
    parser = argparse.ArgumentParser(
        prog="python -m rxtasks.testing.recorded",
        description="Replay recordings of real runs through the core: it must ask for the same things again.",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="what TaskService(record=FILE) has written")
    given: Any = parser.parse_args(arguments)
    failed = False
    for file in given.files:
        try:
            print(f"{file}: {check_recording(file)}")
        except (Differs, ProtocolError, OSError) as error:
            failed = True
            print(f"{file}: {type(error).__name__}: {error}", file=sys.stderr)
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
