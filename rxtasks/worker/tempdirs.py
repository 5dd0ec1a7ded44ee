"""Directories of attempts: made when first asked for, removed after the attempt; artifacts outlive it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["keep", "make", "remove"]


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
