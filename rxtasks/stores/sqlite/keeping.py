"""Results that cannot be stored, as files beside the store: written before their tasks' ends, removed with their tasks."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterable

from rxtasks.wire.kept import kept_path

__all__ = ["KeptResults"]


class KeptResults:
    """The folder of such files; made with the first of them.

    Args:
        report: told when one could not be written.
    """

    def __init__(self, path: str, report: Callable[[str], None]) -> None:
        self.folder = path + "-results"
        self._report = report

    def keep(self, task_id: str, data: bytes) -> None:
        """Write the file and wait for the disk. Nothing is ever read from it here.

        Raises:
            OSError: the disk is full; it is to be tried again. Any other failure is reported.
        """
        path = kept_path(self.folder, task_id)
        part = f"{path}.part"
        try:
            os.makedirs(self.folder, 0o700, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part)
            fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with open(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(fd)
            os.rename(part, path)
            _sync(self.folder)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(part)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            self._report(f"the result of task {task_id}, which cannot be stored, could not be kept as {path}: {error}")

    def remove(self, task_ids: Iterable[str]) -> None:
        """Remove the files of these tasks."""
        if not os.path.isdir(self.folder):
            return
        for task_id in task_ids:
            with contextlib.suppress(OSError):
                os.unlink(kept_path(self.folder, task_id))


def _sync(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
