"""Where a pool's log files are, and how they are called."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rxtasks.errors import SettingsError

if TYPE_CHECKING:
    from rxtasks.configuration import Configuration

__all__ = ["log_name", "logs_directory", "make_logs_directory"]


def log_name(configuration: Configuration) -> str:
    """Return what the names of the pool's files begin with: pools of several stores share a directory."""
    from rxtasks.control.place import Place

    store = configuration.values.store
    return "memory" if store == "memory" else Place.of(store).name


def logs_directory(configuration: Configuration) -> str | None:
    """Return the directory of the pool's log files, None: it keeps none."""
    return configuration.values.logs.directory


def make_logs_directory(configuration: Configuration) -> str | None:
    """Make that directory, which only this user may enter, and return it.

    Raises:
        SettingsError: it cannot be made, or is another user's.
    """
    from rxtasks.configuration.places import make_private

    directory = logs_directory(configuration)
    if directory is None:
        return None
    try:
        if configuration.sources["logs.directory"] == "state directory":
            make_private(Path(directory).parent)
        make_private(Path(directory))
    except SettingsError as error:
        reason, _, advice = str(error).partition("; ")
        # What to try is about the store, where it says that the directory cannot be made.
        advice = "name another one for the logs with --log-directory" if "--store" in advice else advice
        raise SettingsError(f"{reason}; {advice}" if advice else reason) from error
    return directory
