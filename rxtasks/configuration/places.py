"""Directories of this user, by the XDG base directory specification (version 0.8)."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from rxtasks.errors import SettingsError

__all__ = ["config_directories", "make_private", "state_directory"]

_NAME: Final = "rxtasks"
_SYSTEM: Final = Path("/etc") / _NAME


def _base(environ: Mapping[str, str], variable: str, below_home: str) -> Path:
    """Return the base directory of this kind; a relative one counts for none."""
    given = environ.get(variable, "")
    return Path(given) if os.path.isabs(given) else _home(environ) / below_home


def _home(environ: Mapping[str, str]) -> Path:
    given = environ.get("HOME", "")
    if os.path.isabs(given):
        return Path(given)
    try:
        return Path("~").expanduser()
    except RuntimeError:  # neither HOME nor an entry of the user's
        return Path("/")


def state_directory(environ: Mapping[str, str]) -> Path:
    """Return where this user's store and logs are by default."""
    return _base(environ, "XDG_STATE_HOME", ".local/state") / _NAME


def config_directories(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Return where configuration files are looked for above all projects."""
    return _base(environ, "XDG_CONFIG_HOME", ".config") / _NAME, _SYSTEM


def make_private(directory: Path) -> None:
    """Make a directory that only this user may enter (mode 0700), if it is not there.

    Raises:
        SettingsError: it cannot be made, or is another user's.
    """
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        directory.mkdir(mode=0o700, exist_ok=True)
        found = directory.stat()
    except OSError as error:
        raise SettingsError(
            f"the directory {directory} cannot be made: {error.strerror or error};"
            " name a store in another place with --store, RXTASKS_STORE or in the configuration file"
        ) from error
    if found.st_uid != os.geteuid():
        raise SettingsError(
            f"the directory {directory} belongs to another user (uid {found.st_uid});"
            " do this as that user, or name a store in another place with --store"
        )
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise SettingsError(f"the directory {directory} can be written by others; try: chmod 700 {directory}")
