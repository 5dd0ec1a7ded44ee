"""A service without workers on the store that a command is about: it sees and changes what others run."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rxtasks.cli.codes import NOT_FOUND, USAGE
from rxtasks.cli.place import configured
from rxtasks.cli.usage import CommandFailed
from rxtasks.text import shown

if TYPE_CHECKING:
    from rxtasks.configuration import Configuration
    from rxtasks.service import TaskService

__all__ = ["opened", "path_of", "served"]

_SQLITE = "sqlite:///"


@contextlib.contextmanager
def opened(store: str | None, config: Path | None, *, make: bool = False) -> Iterator[TaskService]:
    """Give a service on the store; says on stderr which it is.

    Args:
        make: A store that does not exist is made.

    Raises:
        CommandFailed: there is no such store (exit code 3), or it is one in memory (2).
        SettingsError: the configuration is wrong.
    """
    configuration = configured(store, config)
    with served(configuration, make=make) as service:
        yield service


@contextlib.contextmanager
def served(configuration: Configuration, *, make: bool = False) -> Iterator[TaskService]:
    """Give a service on the configured store, as `opened` does."""
    from rxtasks.service import TaskService

    path = path_of(configuration)
    if not make and not _exists(path):
        raise CommandFailed(
            f"there is no store at {path}: a first task (rxtasks task push) or pool (rxtasks worker start) makes it;"
            " another one is named by --store or RXTASKS_STORE",
            NOT_FOUND,
        )
    arguments = configuration.service_arguments() | {"workers": 0, "echo": None, "on_exit": "drain"}
    service = TaskService(**arguments)
    try:
        with service:
            yield service
    finally:
        durable = service._durable
        if durable is not None and not durable.joined:
            durable.release()


def _exists(path: str) -> bool:
    """Say whether something is there; what may not be looked at is, and opening it tells why it cannot be."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def path_of(configuration: Configuration) -> str:
    """Return the path of the configured store's file.

    Raises:
        CommandFailed: it is a store in memory.
    """
    url = configuration.values.store
    if not url.startswith(_SQLITE):
        raise CommandFailed(
            f"the store is {shown(url)}, which only its own process can look into; name a durable one with"
            " --store sqlite:///PATH",
            USAGE,
        )
    return os.path.abspath(url.removeprefix(_SQLITE))
