"""Which store a command is about, and the pool that runs on it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rxtasks.cli.codes import NOT_FOUND, USAGE
from rxtasks.cli.usage import CommandFailed

if TYPE_CHECKING:
    from rxtasks.configuration import Configuration
    from rxtasks.control.client import ControlClient
    from rxtasks.control.place import Dead, PoolInfo, Running

__all__ = ["configured", "json_option", "no_pool", "reach", "running_pool", "store_options"]

_NO_FLAGS: Mapping[str, object] = MappingProxyType({})
_F = TypeVar("_F", bound=Callable[..., Any])


def store_options(command: _F) -> _F:
    """Give a command the options --store and --config."""
    command = click.option(
        "--config",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="The configuration file; else RXTASKS_CONFIG, else rxtasks.toml or rxtasks.yaml here or above.",
    )(command)
    return click.option(
        "--store",
        metavar="URL",
        help="The store, as sqlite:///PATH; else RXTASKS_STORE, the configuration file, the user's state directory.",
    )(command)


def json_option(command: _F) -> _F:
    """Give a command the option --json."""
    return click.option("--json", "as_json", is_flag=True, help="Write JSON to stdout, the rest to stderr.")(command)


def configured(
    store: str | None, config: Path | None, *, flags: Mapping[str, object] = _NO_FLAGS, tell: bool = True
) -> Configuration:
    """Return the configuration, and say on stderr which store it is and from where.

    Args:
        flags: other flags, by dotted path; None: it was not given.

    Raises:
        SettingsError: it is wrong; `main` tells.
    """
    from rxtasks.configuration import load
    from rxtasks.text import shown

    configuration = load(flags if store is None else {**flags, "store": store}, file=config)
    if tell:
        for warning in configuration.warnings:
            print(f"rxtasks: {shown(warning)}", file=sys.stderr)
        print(
            f"store: {shown(_redacted(configuration.values.store))} ({shown(configuration.sources['store'])})",
            file=sys.stderr,
        )
    return configuration


def reach(configuration: Configuration, *, timeout: float = 10.0) -> ControlClient:
    """Return a client of the pool that runs on the store.

    Raises:
        CommandFailed: none runs (exit code 3); says what is known of the last one and how to start one.
    """
    from rxtasks.control.client import ControlClient

    return ControlClient(running_pool(configuration).socket, timeout)


def running_pool(configuration: Configuration) -> Running:
    """Return the pool that runs on the store.

    Raises:
        CommandFailed: none runs.
    """
    from rxtasks.control.place import Place, Running

    store = configuration.values.store
    if store == "memory":
        return _in_memory()
    found = Place.of(store).find()
    if isinstance(found, Running):
        return found
    raise no_pool(configuration, found)


def _in_memory() -> Running:
    """Return the only pool with a store in memory: such a store has no name that another process could know it by."""
    from rxtasks.control.place import Place, Running

    found = [one for one in Place.all() if isinstance(one, Running) and one.info and one.info.store == "memory"]
    if not found:
        raise CommandFailed(
            "no pool with a store in memory runs; start one with: rxtasks worker start --store memory", NOT_FOUND
        )
    if len(found) > 1:
        pids = ", ".join(str(one.pid) for one in found)
        raise CommandFailed(
            f"several pools with a store in memory run (pids {pids}): which of them is meant cannot be told;"
            " give each a store of its own with --store sqlite:///PATH",
            USAGE,
        )
    return found[0]


def no_pool(configuration: Configuration, found: Dead | None) -> CommandFailed:
    """Return the error that says that no pool runs on the store, what is known of the last one, and how to start one."""
    from rxtasks.text import shown

    flag = _flag(configuration)
    store = _redacted(configuration.values.store)
    start = f"start one with: rxtasks worker start{flag}"
    if found is None:
        last = _last_stop(configuration)
        return CommandFailed(f"no pool runs on the store {store}; {last}{start}{_others(store)}", NOT_FOUND)
    info = found.info
    logs = "" if info.logs is None else f"; its log is in {info.logs}"
    return CommandFailed(
        f"no pool runs on the store {store}: the last one (pid {info.pid}, started {_when(info.started_at)}) was"
        f" killed{_last_seen(info)}{shown(logs)}; {start} (that takes its tasks over)",
        NOT_FOUND,
    )


def _flag(configuration: Configuration) -> str:
    import shlex

    if not configuration.sources["store"].startswith("flag"):
        return ""
    return f" --store {shlex.quote(configuration.values.store)}"


def _redacted(store: str) -> str:
    from rxtasks.control.canonical import redacted

    return redacted(store)


def _others(store: str) -> str:
    """Say on which other stores this user's pools run."""
    from rxtasks.control.place import Place, Running
    from rxtasks.text import shown

    stores = [one.info.store for one in Place.all() if isinstance(one, Running) and one.info is not None]
    if not stores:
        return ""
    return f", or use the pool that runs on {shown(' or '.join(dict.fromkeys(stores)))} with --store"


def _last_stop(configuration: Configuration) -> str:
    """Say how the last pool of the store ended, if that is known."""
    from rxtasks.host.directories import log_name, logs_directory
    from rxtasks.host.ending import Ending
    from rxtasks.text import shown

    ended = Ending.read(logs_directory(configuration), log_name(configuration))
    if ended is None:
        return ""
    return f"the last one (pid {ended.pid}) ended at {_when(ended.ended_at)} ({shown(ended.why)}); "


def _last_seen(info: PoolInfo) -> str:
    """Say when a killed pool was killed: between its last sign of life and the next one, which did not come."""
    seen = info.more.get("seen_at")
    try:
        return "" if seen is None else f" at about {_when(datetime.fromisoformat(seen))}"
    except (TypeError, ValueError):
        return ""


def _when(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")
