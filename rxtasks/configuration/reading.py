"""Loaders for typed-settings: a file, the environment and flags, each value checked where it stands.

A loader knows where a value was written, and so says what is wrong with it: all mistakes of a source are collected before the
first is told.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

import attrs

from rxtasks.configuration.files import Found
from rxtasks.configuration.keys import PREFIX, camel, nearest, snake, variable
from rxtasks.configuration.kinds import Kind, Wrong, shown
from rxtasks.configuration.redaction import is_secret_name
from rxtasks.configuration.tree import COVERED
from rxtasks.text import cut

__all__ = ["OTHER_VARIABLES", "Read", "flag_of", "from_environment", "from_file", "from_flags"]

#: Variables that begin like a setting's and are none, and what they are for.
OTHER_VARIABLES: Final[Mapping[str, str]] = {
    "RXTASKS_CONFIG": "the configuration file",
    "RXTASKS_GUARDIAN": "of the processes of a pool",
    "RXTASKS_READY_FD": "of a pool that is started with --detach",
    "RXTASKS_CONTROL_TOKEN": "the token of the control API",
    "RXTASKS_TASK_ID": "of a handler's environment",
    "RXTASKS_WORKER_ID": "of a handler's environment",
    "RXTASKS_WORKSPACE": "of a handler's environment",
}
#: From what likeness on an unknown variable is taken for a slip of the pen.
_LIKE: Final = 0.8
#: Mistakes of a file that are told; and characters of a key that are shown.
_MOST_MISTAKES: Final = 20
_WIDTH: Final = 100
#: What others, and TaskService itself, call some settings.
_OTHER_NAMES: Final[Mapping[str, str]] = {"isolation": "workers.mode", "retain": "retain_days", "store_url": "store"}
#: Keys that ask for more than the name of another one.
_SPEAKING: Final[Mapping[str, str]] = {
    "tool": "in a file of its own settings stand without [tool.rxtasks]",
    "control.token": "a token is kept apart: name the file that holds it with control.token_file",
}
#: Flags that are not named as the last part of the setting's path.
_FLAGS: Final[Mapping[str, str]] = {
    "modules": "--module",
    "logs.directory": "--log-directory",
    "logs.level": "--log-level",
    "workers.drain_timeout_seconds": "--drain-timeout",
}
#: Settings that have a flag of their own; every other can be given with --set.
_OWN_FLAGS: Final = frozenset(
    {"store", "workers.count", "workers.mode", "workers.concurrency", "control.listen", *_FLAGS}
)


def flag_of(path: str) -> str:
    """Return the flag of a setting."""
    if path in _OWN_FLAGS:
        return _FLAGS.get(path) or "--" + path.rpartition(".")[2].replace("_", "-")
    return f"--set {path}"


@attrs.define
class Read:
    """What one source says: values by dotted path with the place of each, and what is wrong with it."""

    values: dict[str, Any] = attrs.field(factory=dict)
    places: dict[str, str] = attrs.field(factory=dict)
    mistakes: list[str] = attrs.field(factory=list)
    warnings: list[str] = attrs.field(factory=list)

    def take(self, path: str, place: str, value: Any) -> None:
        """Add a value."""
        self.values[path] = value
        self.places[path] = place


def _mistake(where: str, name: str, kind: Kind, value: Any, error: Wrong) -> str:
    is_ = kind.expected if kind.expected.startswith("holds ") else f"is {kind.expected}"
    given = "" if is_secret_name(name) else f", not {shown(value)}"
    hint = f"; {error.hint}" if error.hint else ""
    return f"{where}: {name} {is_}{given}{hint}"


# -- a file ------------------------------------------------------------------------------------------------------------


def from_file(found: Found, kinds: Mapping[str, Kind]) -> Read:
    """Read a file's settings."""
    made = Read()
    base = os.path.abspath(found.path.parent)
    tables = {path.rpartition(".")[0] for path in kinds}
    tables |= {table.rpartition(".")[0] for table in tables}
    _read_table(made, str(found.path), base, found.content, "", "", kinds, tables)
    made.warnings += [f"{path} is not read: {found.path} comes first" for path in found.ignored]
    return made


def _read_table(
    made: Read,
    file: str,
    base: str,
    table: Mapping[Any, Any],
    prefix: str,
    written: str,
    kinds: Mapping[str, Kind],
    tables: set[str],
) -> None:
    seen: dict[str, str] = {}
    for key, value in table.items():
        if len(made.mistakes) >= _MOST_MISTAKES:
            made.mistakes[_MOST_MISTAKES:] = [f"{file}: there is more that is wrong"]
            return
        name = cut(f"{written}{key}", _WIDTH)
        if not isinstance(key, str):
            made.mistakes.append(f"{file}: a key is a name, not {shown(key)}; if it is one, write it in quotes")
            continue
        path = prefix + snake(key)
        if path in seen:
            made.mistakes.append(f"{file}: {name} and {seen[path]} are the same setting: keep one of them")
            continue
        seen[path] = name
        if path in made.values:
            made.mistakes.append(f"{file}: {name} stands there twice: keep one of them")
        elif path in kinds:
            try:
                made.take(path, file, kinds[path].typed(value, base))
            except Wrong as error:
                made.mistakes.append(_mistake(file, name, kinds[path], value, error))
        elif path in tables and path:
            if isinstance(value, Mapping):
                _read_table(made, file, base, value, f"{path}.", f"{name}.", kinds, tables)
            elif value is not None:
                made.mistakes.append(f"{file}: {name} is a table of settings, not {shown(value)}")
        else:
            made.mistakes.append(f"{file}: there is no setting {name}{_instead(key, prefix, kinds, tables)}")


def _instead(key: str, prefix: str, kinds: Mapping[str, Kind], tables: set[str]) -> str:
    """Say which setting may have been meant, spelt as its writer spells."""
    word = snake(key)
    if (path := prefix + word) in _SPEAKING:
        return f"; {_SPEAKING[path]}"
    if prefix == "service." and word in COVERED:
        return f"; did you mean {COVERED[word]}?"
    here = {
        path.removeprefix(prefix).partition(".")[0]
        for path in (*kinds, *filter(None, tables))
        if path.startswith(prefix) and path != prefix
    }
    spelt = camel if key != word and "-" not in key else str

    def whole(path: str) -> str:
        return ".".join(spelt(part) for part in path.split("."))

    if near := nearest(word, here):
        return f"; did you mean {whole(prefix + near[0])}?"
    if "." in key and (near := nearest(snake(key), kinds)):
        return f"; did you mean {whole(near[0])}? In a file it is a key of a table"
    by_last = (
        {path.rpartition(".")[2]: path for path in sorted(kinds, reverse=True)} | dict(COVERED) | dict(_OTHER_NAMES)
    )
    if near := nearest(word, by_last):
        return f"; did you mean {whole(by_last[near[0]])}?"
    if near := nearest(word, kinds):
        return f"; did you mean {whole(near[0])}?"
    return (
        f"; {'settings here' if prefix else 'settings'} are {', '.join(whole(prefix + name) for name in sorted(here))}"
    )


def _instead_of(path: str, kinds: Mapping[str, Kind]) -> str:
    """Say which setting may have been meant by a dotted path."""
    below = [name for name in kinds if name.startswith(f"{path}.")]
    near = below or nearest(path, kinds) or nearest(path.rpartition(".")[2], kinds)
    if not near:
        return _instead(path.rpartition(".")[2], "", kinds, set())
    return f"; did you mean {near[0]}?"


# -- the environment ---------------------------------------------------------------------------------------------------


def from_environment(environ: Mapping[str, str], kinds: Mapping[str, Kind], base: str) -> Read:
    """Read the settings of the environment, and see what may have been meant as one."""
    made = Read()
    variables = {variable(path): path for path in kinds}
    for name in sorted(environ):
        if not name.startswith(PREFIX):
            continue
        path = variables.get(name)
        place = f"environment {name}"
        if path is not None:
            try:
                made.take(path, place, kinds[path].text(environ[name], base))
            except Wrong as error:
                empty = not environ[name].strip()
                why = Wrong("unset it to leave the setting as it is") if empty else error
                made.mistakes.append(_mistake("environment", name, kinds[path], environ[name], why))
        elif name not in OTHER_VARIABLES:
            _judge(name, variables, made)
    return made


def _judge(name: str, variables: Mapping[str, str], made: Read) -> None:
    """Tell of a variable that is no setting: as a mistake if it is nearly one."""
    import difflib

    word = name.removeprefix(PREFIX)
    known = {variable.removeprefix(PREFIX): variable for variable in (*variables, *OTHER_VARIABLES)}
    of_table = [variable for variable in variables if variable.startswith(f"{name}_") or variable.endswith(f"_{word}")]
    if of_table:
        made.mistakes.append(f"environment: there is no setting {name}; did you mean {of_table[0]}?")
    elif near := difflib.get_close_matches(word, known, n=1, cutoff=_LIKE):
        made.mistakes.append(f"environment: there is no setting {name}; did you mean {known[near[0]]}?")
    else:
        made.warnings.append(f"environment: {name} is no setting, and does nothing")


# -- flags -------------------------------------------------------------------------------------------------------------


def from_flags(flags: Mapping[str, object], kinds: Mapping[str, Kind], base: str) -> Read:
    """Read the flags: settings by dotted path, as values or as text; None: it was not given."""
    made = Read()
    for path, value in flags.items():
        if value is None:
            continue
        if path not in kinds:
            made.mistakes.append(f"flag: there is no setting {path}{_instead_of(path, kinds)}")
            continue
        flag = flag_of(path)
        kind = kinds[path]
        try:
            made.take(
                path, f"flag {flag}", kind.text(value, base) if isinstance(value, str) else kind.typed(value, base)
            )
        except Wrong as error:
            made.mistakes.append(_mistake("flag", flag, kind, value, error))
    return made
