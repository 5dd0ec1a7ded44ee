"""The manual's page of settings, made from the classes.

python -m rxtasks.configuration.reference > rxtasks/manual/settings.md
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any, Final

import attrs

from rxtasks.config import Settings
from rxtasks.configuration.keys import camel, variable
from rxtasks.configuration.meanings import meanings
from rxtasks.configuration.reading import OTHER_VARIABLES, flag_of
from rxtasks.configuration.showing import text_of
from rxtasks.configuration.tree import KIND, ServiceSettings, Values, kind_of

__all__ = ["page"]

_WIDTH: Final = 100
_BEGINNING: Final = """\
# Settings

A pool that is started with `rxtasks worker start` is set up by flags, the environment and one configuration file; what none
of them says is as by default. Flags beat the environment, that beats the file. See what holds, and where each value comes
from, with `rxtasks config show`; see what is wrong with `rxtasks config check`. (In a program, a `TaskService` takes its
settings as arguments, and reads neither file nor environment.)

## The file

The file is the one that `--config` or `RXTASKS_CONFIG` names. Without that it is the first that is found: in the working
directory, then in each directory above it, `rxtasks.toml`, then `pyproject.toml` if it has a table `[tool.rxtasks]`, then
`rxtasks.yaml` or `rxtasks.yml`; then, without `pyproject.toml`, in `$XDG_CONFIG_HOME/rxtasks` (by default
`~/.config/rxtasks`) and in `/etc/rxtasks`. Only that one is read; if another lies beside it, a warning says so. A file that
nobody named is refused if it belongs to another user than this one or root, because it names modules to import. `rxtasks
config path --all` shows the places.

Keys are written in snake_case or in camelCase. Relative paths count from the directory of the file, `~` is the home
directory. TOML has no word for nothing: write `"none"`; in YAML, `null` means it too. These two files say the same:

```toml
store = "sqlite:///data/tasks.db"
modules = ["shop.tasks"]

[workers]
count = 4
poll_interval_ms = 1000
limits = { memory_mb = 512 }
```

```yaml
store: sqlite:///data/tasks.db
modules: [shop.tasks]
workers: {count: 4, pollIntervalMs: 1000, limits: {memoryMb: 512}}
```

## The environment

The variable of a setting is `RXTASKS_` and its path in capitals: `workers.count` is `RXTASKS_WORKERS_COUNT`. Lists are
separated by commas (`RXTASKS_MODULES=shop.tasks,shop.mail`), tables are written `name=value,name=value`; `none` is nothing;
`true`, `yes`, `on`, `1` and `false`, `no`, `off`, `0` are flags. A variable that is set but empty is a mistake (an empty
list for `RXTASKS_MODULES` and `RXTASKS_WORKERS_FALLBACK`, an empty table for tables). A variable that begins with `RXTASKS_`
and is nearly a setting's is a mistake too; one that is nothing like a setting's is told as a warning.

## The flags

Settings with a flag of their own name it below. Every other is given with `--set KEY=VALUE`, written as in the environment.

## The store

Which store a command is about is decided in this order: `--store`, `RXTASKS_STORE`, the configuration file, and else the file
`tasks.db` in the user's state directory, `$XDG_STATE_HOME/rxtasks` (by default `~/.local/state/rxtasks`), which is made with
mode 0700. Every command says which it is.
"""
_END: Final = """\
## Other variables

These begin like a setting's and are none:
"""


def page() -> str:
    """Return the page."""
    blocks = [_BEGINNING]
    blocks += _table(Values, "", "Settings at the top", "")
    for name, table in _inner(Values):
        blocks += _tables(table, name)
    lines = [f"- `{name}`: {what}" for name, what in sorted(OTHER_VARIABLES.items())]
    lines.append("- whatever else is nothing like a setting: a warning, and no more")
    blocks.append(f"{_END}\n" + "\n".join(lines) + "\n")
    return "\n".join(blocks)


def _tables(table: type[Any], path: str) -> Iterator[str]:
    yield from _table(table, path, f"Table `{path}`", (table.__doc__ or "").strip().splitlines()[0])
    for name, inner in _inner(table):
        yield from _tables(inner, f"{path}.{name}")


def _inner(table: type[Any]) -> Iterator[tuple[str, type[Any]]]:
    """Yield the tables in a table."""
    for field in attrs.fields(attrs.resolve_types(table)):
        if KIND not in field.metadata:
            assert field.type is not None
            yield field.name, field.type


def _table(table: type[Any], path: str, heading: str, about: str) -> Iterator[str]:
    yield f"## {heading}\n" + (f"\n{about}\n" if about else "")
    meaning = meanings(Settings if table is ServiceSettings else table)
    for field in attrs.fields(table):
        if KIND in field.metadata:
            yield _setting(field, f"{path}.{field.name}" if path else field.name, meaning[field.name])


def _setting(field: attrs.Attribute[Any], path: str, meaning: str) -> str:
    kind = kind_of(field)
    expected = kind.expected if kind.expected.startswith("holds ") else f"is {kind.expected}"
    default = {"store": "`tasks.db` in the state directory", "logs.directory": "`logs` in the state directory"}.get(
        path
    )
    flag = flag_of(path)
    takes = f"{flag}=VALUE" if flag.startswith("--set") else f"{flag} VALUE"
    tables, _, name = path.rpartition(".")
    keys = " or ".join(f"`{key}`" for key in dict.fromkeys((name, camel(name))))
    facts = [
        f"value: {expected.removeprefix('is ')}",
        f"default: {default or f'`{text_of(field.default)}`'}",
        f"file: {keys}" + (f" in `[{tables}]`" if tables else ""),
        f"environment: `{variable(path)}`",
        f"flag: `{takes}`" + (", repeatable" if flag == "--module" else ""),
    ]
    wrapped = textwrap.fill(meaning, _WIDTH, break_long_words=False, break_on_hyphens=False)
    return f"### {path}\n\n{wrapped}\n\n" + "\n".join(f"- {fact}" for fact in facts) + "\n"


if __name__ == "__main__":
    print(page(), end="")
