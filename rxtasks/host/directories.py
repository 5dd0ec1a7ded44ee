"""Where a pool's log files are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rxtasks.configuration import Configuration

__all__ = ["logs_directory", "make_logs_directory"]


def logs_directory(configuration: Configuration) -> str | None:
    """Return the directory of the pool's log files, None: it keeps none.

    The one that is the default is shared by the pools of a user: each store has a directory of its own in it. One that is
    named in the settings is used as it is.
    """
    from rxtasks.control.place import Place

    directory = configuration.values.logs.directory
    if directory is None or not configuration.sources["logs.directory"].startswith(("state directory", "default")):
        return directory
    store = configuration.values.store
    return os.path.join(directory, "memory" if store == "memory" else Place.of(store).name)


def make_logs_directory(configuration: Configuration) -> str | None:
    """Make that directory, which only this user may enter, and return it.

    Raises:
        SettingsError: it cannot be made, or is another user's.
    """
    from rxtasks.configuration.places import make_private

    directory = logs_directory(configuration)
    if directory is not None:
        made = [Path(directory)]
        if directory != configuration.values.logs.directory:
            # Below the user's state directory, which is private too: state/logs/NAME.
            made = [made[0].parent.parent, made[0].parent, made[0]]
        for one in made:
            make_private(one)
    return directory
