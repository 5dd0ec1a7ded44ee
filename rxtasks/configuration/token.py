"""The token of the control API: read when it is needed, never kept among the settings."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping

from rxtasks.configuration.tree import Control
from rxtasks.errors import SettingsError

__all__ = ["read_token"]

_MOST_BYTES = 4096


def read_token(control: Control, environ: Mapping[str, str]) -> str | None:
    """Return the token from its file, or else from the environment; None if there is none.

    Raises:
        SettingsError: the file cannot be read, others can read it, or there is nothing in it.
    """
    path = control.token_file
    if path is None:
        return environ.get(control.token_env, "").strip() or None
    try:
        with open(path, "rb") as file:
            found = os.fstat(file.fileno())
            text = file.read(_MOST_BYTES).decode("utf-8").strip()
    except OSError as error:
        raise SettingsError(f"control.token_file: {path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError:
        raise SettingsError(f"control.token_file: {path} holds no text") from None
    if found.st_mode & (stat.S_IRGRP | stat.S_IROTH | stat.S_IWGRP | stat.S_IWOTH):
        raise SettingsError(f"control.token_file: {path} is open to others; try: chmod 600 {path}")
    if not text:
        raise SettingsError(f"control.token_file: {path} is empty")
    return text
