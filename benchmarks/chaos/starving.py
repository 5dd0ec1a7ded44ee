"""A worker whose memory runs out: the kernel's OOM killer ends it, and nobody else.

::

    the driver moves the worker into a control group of little memory, and names it in a file
    its next beat finds its name there and asks for more memory than there is ──> SIGKILL by the kernel

It needs a memory controller that may be written to, of cgroup v1 or v2; where there is none, no memory runs out.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

__all__ = ["LITTLE", "Starvation", "eat_if_asked", "hungry"]

#: Bytes of memory that processes in the group have together, and that one asks for.
LITTLE, _MUCH = 16 * 2**20, 64 * 2**20
_ROOT = Path("/sys/fs/cgroup")
_PAGE = 4096


def hungry(folder: str, pid: int) -> Path:
    """Return the file that asks this worker to eat."""
    return Path(folder, f"hungry-{pid}")


def eat_if_asked(folder: str, pid: int) -> None:
    """In a worker: take more memory than there is, if its file is there."""
    if hungry(folder, pid).exists():
        eaten = bytearray(_MUCH)
        for at in range(0, _MUCH, _PAGE):
            eaten[at] = 1


class Starvation:
    """A control group of little memory, until `end`.

    Raises:
        OSError: it cannot be made here.
    """

    def __init__(self, name: str) -> None:
        for home in _homes():
            self._path = home / name
            with contextlib.suppress(OSError):
                self._path.mkdir()
                if self._limit():
                    return
                self.end()
        raise OSError("no control group of little memory can be made here")

    def _limit(self) -> bool:
        for limit in ("memory.limit_in_bytes", "memory.max"):
            if (self._path / limit).exists():
                (self._path / limit).write_text(str(LITTLE))
                break
        else:
            return False
        for swap, most in (("memory.memsw.limit_in_bytes", LITTLE), ("memory.swap.max", 0)):
            with contextlib.suppress(OSError):
                if (self._path / swap).exists():
                    (self._path / swap).write_text(str(most))
        return True

    @staticmethod
    def possible() -> bool:
        """Say whether one can be made here."""
        try:
            Starvation(f"rxtasks-chaos-probe-{os.getpid()}").end()
        except OSError:
            return False
        return True

    def take(self, pid: int) -> bool:
        """Move a process in; False: it is gone."""
        try:
            (self._path / "cgroup.procs").write_text(str(pid))
        except OSError:
            return False
        return True

    def killed(self) -> int:
        """Return how many processes the kernel has ended for want of memory."""
        for name in ("memory.oom_control", "memory.events"):
            with contextlib.suppress(OSError, ValueError):
                for line in (self._path / name).read_text().splitlines():
                    if line.startswith("oom_kill "):
                        return int(line.split()[1])
        return 0

    def end(self) -> None:
        """Remove the group; its processes have ended."""
        with contextlib.suppress(OSError):
            self._path.rmdir()


def _homes() -> list[Path]:
    """Return where a group of memory may be made: beside all others, else within the one that this process is in."""
    found = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            found += [_ROOT / "memory", _ROOT / "memory" / path.lstrip("/")]
        elif not controllers:
            found += [_ROOT, _ROOT / path.lstrip("/")]
    return found
