"""Finding the configuration file, and reading what stands in it.

::

    --config, RXTASKS_CONFIG            named: it has to be there
    working directory, then upwards     rxtasks.toml, pyproject.toml with [tool.rxtasks], rxtasks.yaml, rxtasks.yml
    $XDG_CONFIG_HOME/rxtasks            the same without pyproject.toml
    /etc/rxtasks

The first that is found is the only one that is read. A file that nobody named is taken from this user or root only: it says
which modules are imported.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from rxtasks.configuration.places import config_directories
from rxtasks.errors import SettingsError

__all__ = ["FOUND_IN", "Found", "find", "named", "read", "searched"]

_PYPROJECT: Final = "pyproject.toml"
#: Names of files, in the order in which they are looked for.
FOUND_IN: Final = ("rxtasks.toml", _PYPROJECT, "rxtasks.yaml", "rxtasks.yml")
_MOST_BYTES: Final = 2**20
_SUFFIXES: Final = (".toml", ".yaml", ".yml")


@attrs.frozen
class Found:
    """A configuration file and what stands in it."""

    path: Path
    #: What stands in it, by the keys as they are written there.
    content: Mapping[str, Any]
    #: Others beside it, which are not read.
    ignored: tuple[Path, ...] = ()


def named(path: Path, by: str) -> Found:
    """Read the file that was named; `by` says where.

    Raises:
        SettingsError: it is not there, or cannot be read.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise SettingsError(f"{by}: {path} is no configuration file: its name has to end in .toml, .yaml or .yml")
    if not path.exists():
        raise SettingsError(f"{by}: there is no file {path}")
    content = read(path)
    if content is None:
        raise SettingsError(f"{by}: {path} has no table [tool.rxtasks]")
    return Found(path, content)


def find(directory: Path, environ: Mapping[str, str]) -> Found | None:
    """Return the first file that is found, None if there is none.

    Raises:
        SettingsError: it cannot be read, or is another user's.
    """
    for folder, names in _folders(directory, environ):
        there = [path for name in names if os.path.lexists(path := folder / name)]
        for index, path in enumerate(there):
            content = read(path)
            if content is None:
                continue
            _check_owner(path)
            others = [other for other in there[index + 1 :] if other.name != _PYPROJECT or _has_table(other)]
            return Found(path, content, tuple(others))
    return None


def _folders(directory: Path, environ: Mapping[str, str]) -> Iterator[tuple[Path, tuple[str, ...]]]:
    for folder in (directory, *directory.parents):
        yield folder, FOUND_IN
    for folder in config_directories(environ):
        yield folder, tuple(name for name in FOUND_IN if name != _PYPROJECT)


def searched(directory: Path, environ: Mapping[str, str]) -> list[Path]:
    """Return every place where a file is looked for, in order."""
    return [folder / name for folder, names in _folders(directory, environ) for name in names]


def _has_table(path: Path) -> bool:
    try:
        return read(path) is not None
    except SettingsError:
        return False


def _check_owner(path: Path) -> None:
    owner = path.stat().st_uid
    if owner not in (os.geteuid(), 0):
        try:
            name = path.owner()
        except KeyError:
            name = str(owner)
        raise SettingsError(
            f"{path} belongs to another user ({name}), and nobody named it; if you trust it, name it with --config {path}"
        )


def read(path: Path) -> Mapping[str, Any] | None:
    """Return what stands in a file; None: a pyproject.toml without [tool.rxtasks].

    Raises:
        SettingsError: it cannot be read, is not well-formed, or is no table.
    """
    text = _text(path)
    content = _from_toml(path, text) if path.suffix.lower() == ".toml" else _from_yaml(path, text)
    if path.name == _PYPROJECT:
        tool = content.get("tool")
        if not isinstance(tool, Mapping) or "rxtasks" not in tool:
            return None
        content = tool["rxtasks"]
        if not isinstance(content, Mapping):
            raise SettingsError(f"{path}: tool.rxtasks is a table, [tool.rxtasks]")
    return content


def _text(path: Path) -> str:
    try:
        # Without waiting: it might be a pipe.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise SettingsError(f"{path} is no regular file")
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror or error}; check owner and mode") from error
    if len(data) > _MOST_BYTES:
        raise SettingsError(f"{path} is larger than {_MOST_BYTES >> 20} MiB: that is no configuration file")
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{path}, line {line}: this is not UTF-8") from error


def _from_toml(path: Path, text: str) -> Mapping[str, Any]:
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}, {_line_of(str(error), text)}") from error
    except RecursionError as error:
        raise SettingsError(f"{path} is not well-formed TOML: it is nested too deeply") from error


def _line_of(message: str, text: str) -> str:
    """Return the parser's message with the line first, as YAML's."""
    what, _, where = message.rpartition(" (at ")
    found = re.match(r"line (\d+)", where)
    line = int(found[1]) if found is not None else len(text.rstrip().splitlines()) or 1
    return f"line {line} is not well-formed TOML: {what or message}"


def _from_yaml(path: Path, text: str) -> Mapping[str, Any]:
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"{path} is YAML, which needs PyYAML; install it with: pip install 'rxtasks[cli]'"
        ) from error

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        """YAML's plain types only, and no key twice."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
            lines: dict[Any, int] = {}
            for key_node, _ in node.value:
                key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
                line = key_node.start_mark.line + 1
                if key is not None and key in lines:
                    raise SettingsError(f"{path}, line {line}: {key!r} stands there twice (first in line {lines[key]})")
                if key is not None and key != "<<":
                    lines[key] = line
            made: dict[Hashable, Any] = super().construct_mapping(node, deep)
            return made

    try:
        content = yaml.load(text, Loader)
    except SettingsError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise SettingsError(f"{path}{where} is not well-formed YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{path} is not well-formed YAML: {str(error).splitlines()[0]}") from error
    except (ValueError, RecursionError, OverflowError) as error:
        raise SettingsError(f"{path} is not well-formed YAML: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, Mapping):
        raise SettingsError(f"{path} holds settings by name, as workers: {{count: 4}}, not {type(content).__name__}")
    return content
