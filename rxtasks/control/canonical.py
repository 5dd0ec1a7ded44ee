"""One name for each store, however it is spelled; and what may be shown of it."""

from __future__ import annotations

import hashlib
import os
from typing import Final
from urllib.parse import unquote, urlsplit

__all__ = ["MEMORY", "canonical", "redacted", "short_name"]

#: The store that lives in its process.
MEMORY: Final = "memory"
_SQLITE: Final = "sqlite:///"
_PORTS: Final = {"postgresql": 5432}


def canonical(store: str, pid: int | None = None) -> str:
    """Return the one name of a store: of a file with its links resolved, of a server without user, password and parameters.

    A store in memory is that of a process: `pid`, or this one.
    """
    if store == MEMORY:
        return f"{MEMORY}:{os.getpid() if pid is None else pid}"
    if store.startswith(_SQLITE):
        path = store.removeprefix(_SQLITE)
        return _SQLITE + (path if "\0" in path else os.path.realpath(path))
    parts = _split(store)
    if parts is None:
        return store
    scheme, host, port, path = parts
    return f"{scheme}://{host}:{port or ''}{path}"


def _split(store: str) -> tuple[str, str, int | None, str] | None:
    try:
        parts = urlsplit(store)
        port = parts.port
    except ValueError:
        return None
    if not parts.scheme or "://" not in store:
        return None
    scheme = parts.scheme.lower().partition("+")[0]
    scheme = "postgresql" if scheme == "postgres" else scheme
    return scheme, (parts.hostname or "localhost").lower(), port or _PORTS.get(scheme), unquote(parts.path)


def redacted(store: str) -> str:
    """Return the store as it may be shown: without user, password and parameters."""
    if store == MEMORY or store.startswith(_SQLITE):
        return store
    parts = _split(store)
    if parts is None:
        return "(a store)" if "://" in store else store
    scheme, host, port, path = parts
    return f"{scheme}://{host}{f':{port}' if port else ''}{path}"


def short_name(store: str, pid: int | None = None) -> str:
    """Return the name of the store's files: letters and digits, the same length for every store."""
    found = canonical(store, pid)
    digest = hashlib.blake2b(found.encode("utf-8", "backslashreplace"), digest_size=10).hexdigest()
    return f"{'memory' if store == MEMORY else 'pool'}-{digest}"
