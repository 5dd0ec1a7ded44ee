"""Directories of attempts: made when first asked for, removed after the attempt; artifacts outlive it.

They lie in one of their worker's own, so that they are found and removed when it is killed (leftovers.py).
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from rxtasks.worker.leftovers import OwnDirectory

__all__ = ["TempRoot", "keep", "make", "remove"]


class TempRoot:
    """Where a worker makes its attempts' directories.

    Args:
        root: they lie here and are left where their worker is killed; None: in a directory of the worker's own.
        token: names that one; "" = by chance, and what dead processes have left is removed when it is made.
        keep: they are left where they are made, in the system's place where there is no root.
    """

    def __init__(self, root: str | None, token: str = "", *, keep: bool = False) -> None:
        self._root = root
        self._token = token
        self._keep = keep
        self._own: OwnDirectory | None = None
        self._lock = threading.Lock()

    def make(self, task_id: str, attempt: int) -> Path:
        """Return a new directory, only its owner's.

        Raises:
            OSError: it cannot be made.
        """
        if self._keep or self._root is not None:
            return make(self._root, task_id, attempt)
        with self._lock:
            own = self._own
            if own is None or not os.path.isdir(own.path):  # or it has been removed, or this is a forked child
                try:
                    own = self._own = self._make_own()
                except (ImportError, OSError):  # no locks: on this system, or in this file system
                    return make(None, task_id, attempt)
            path = own.path
        return make(path, task_id, attempt)

    def _make_own(self) -> OwnDirectory:
        import tempfile

        from rxtasks.worker.leftovers import OwnDirectory, sweep

        place = tempfile.gettempdir()
        if self._token:
            with contextlib.suppress(FileExistsError):  # of a worker that had this number before
                return OwnDirectory(place, self._token)
        else:
            threading.Thread(target=sweep, args=([place],), name="rxtasks-sweep", daemon=True).start()
        return OwnDirectory(place, f"{self._token or os.getpid()}-{os.urandom(8).hex()}")

    def close(self) -> None:
        """Remove all that is left."""
        with self._lock:
            own, self._own = self._own, None
        if own is not None:
            own.remove()


def make(root: str | None, task_id: str, attempt: int) -> Path:
    """Return a new directory, only its owner's, in `root` (None = the system's)."""
    import tempfile
    from pathlib import Path

    if root is not None:
        os.makedirs(root, mode=0o700, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=f"rxtasks-{task_id}-{attempt}-", dir=root))


def remove(path: Path) -> str | None:
    """Remove a directory with all that is in it, never through links; return why it could not be, or None."""
    import shutil

    failures: list[str] = []

    def again(function: Callable[..., Any], where: str, error: Any) -> None:
        try:  # a directory without write permission is the usual reason
            parent = os.path.dirname(where)
            os.chmod(parent, stat.S_IRWXU)
            if not os.path.islink(where):
                os.chmod(where, stat.S_IRWXU)
            function(where)
        except FileNotFoundError:
            pass
        except OSError as failure:
            failures.append(f"{where}: {failure.strerror}")

    shutil.rmtree(path, onerror=again)
    if os.path.lexists(path) and not failures:
        shutil.rmtree(path, ignore_errors=True)
    return f"{path} could not be removed: {failures[0]}" if os.path.lexists(path) and failures else None


def keep(path: Path, temp_dir: Path, root: str | None, task_id: str) -> Path:
    """Move a file or directory to `<root>/rxtasks-artifacts/<task_id>/` and return its new path.

    Raises:
        FileNotFoundError: there is none at `path`.
    """
    import shutil
    import tempfile
    from pathlib import Path

    source = path if path.is_absolute() else temp_dir / path
    if not os.path.lexists(source):
        raise FileNotFoundError(f"no file {source} to keep")
    base = Path(root or tempfile.gettempdir())
    base = base / "rxtasks-artifacts" if root is not None else base / f"rxtasks-artifacts-{os.getuid()}"
    folder = base / task_id
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    target = folder / source.name
    number = 1
    while os.path.lexists(target):
        number += 1
        target = folder / f"{source.stem}-{number}{source.suffix}"
    shutil.move(source, target)
    return target
