"""What the process tree of a worker uses, read from /proc (L-01).

Memory is the proportional set size (PSS, proc(5)) of all its processes, with what of it is swapped out: a page that n
processes share, as those that a fork has not written to, counts as 1/n in each. So workers that were forked from one process
are not charged with its memory each, and their sum is what they take of the machine. Objects that were put (TaskService.put)
are left out: all workers share them.

PSS costs the kernel a walk through the page tables: 0.2 ms, and 25 ms for a process of 1 GB. So `look` begins with the
resident set sizes, at 0.03 ms, takes off what was found to be shared by the last walk, and goes on only where that is above
what the caller asks for.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Final

from rxtasks.pool.limits import Usage
from rxtasks.wire.sealed import PUT_NAME
from rxtasks.worker.children import descendants

__all__ = ["Tree", "disk_bytes", "temp_dirs"]

_TICK: Final = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_PAGE: Final = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
#: Shared memory of a process above which its mappings are looked at one by one, for objects that were put.
_MUCH: Final = 2**20
#: Directory entries looked at for one sum; more are not counted.
_MOST_FILES: Final = 20_000


class Tree:
    """A process with all that descend from it. Holds no descriptor; a process number that means another one now is noticed."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._began = (_stat(pid) or _NOTHING)[1]
        #: CPU seconds never fall, though a process that nobody waits for takes its own with it.
        self._cpu = 0.0
        #: Bytes by which PSS was below the resident set sizes when it was last looked at.
        self._shared = 0
        #: CPU ticks, resident pages and descendants at that time, and what was found.
        self._before: tuple[int, int, list[int]] | None = None
        self._memory = 0

    def look(self, above: float = -1.0) -> Usage | None:
        """Return what it uses now; None when the process is gone.

        Args:
            above: bytes up to which an estimate will do.
        """
        first = _stat(self.pid)
        if first is None or first[1] != self._began:
            return None
        ticks, resident = first[0], first[2]
        below = descendants(self.pid)
        for pid in below:
            more = _stat(pid)
            if more is not None:
                ticks += more[0]
                resident += more[2]
        self._cpu = max(self._cpu, ticks / _TICK)
        memory = max(0, resident * _PAGE - self._shared)
        if memory <= above:
            return Usage(self._cpu, memory, exact=False)
        now = (ticks, resident, below)
        if now == self._before:  # it has done nothing since
            return Usage(self._cpu, self._memory)
        found = [_proportional(pid) for pid in (self.pid, *below)]
        if found[0] is not None:  # else the kernel has no such file, or the worker has become another user's
            memory = sum(part for part in found if part is not None)
            self._shared = max(0, resident * _PAGE - memory)
            self._before, self._memory = now, memory
        return Usage(self._cpu, memory)


_NOTHING: Final = (0, 0, 0)


def _stat(pid: int) -> tuple[int, int, int] | None:
    """Return CPU ticks, start time and resident pages of a process, None when it is gone."""
    try:
        text = _read(f"/proc/{pid}/stat")
    except OSError:
        return None
    words = text.rpartition(b")")[2].split()
    if len(words) < 22:
        return None
    return sum(map(int, words[11:15])), int(words[19]), int(words[21])


def _proportional(pid: int) -> int | None:
    """Return the proportional set size of a process, swapped memory included; None: it cannot be told."""
    try:
        pss, shared = _sums(_read(f"/proc/{pid}/smaps_rollup"))
        if shared > _MUCH:
            pss -= _put(_read(f"/proc/{pid}/smaps"))
        return pss
    except (OSError, ValueError):
        return None


def _sums(rollup: bytes) -> tuple[int, int]:
    """Return PSS with swap, and how much of it is shared memory."""
    pss = shared = 0
    for line in rollup.splitlines():
        if line.startswith((b"Pss:", b"SwapPss:")):
            pss += int(line.split()[1]) * 1024
        elif line.startswith(b"Pss_Shmem:"):
            shared = int(line.split()[1]) * 1024
    return pss, shared


def _put(smaps: bytes) -> int:
    """Return how much of the PSS is of objects that were put."""
    total, counts = 0, False
    name = f"/memfd:{PUT_NAME} ".encode()
    for line in smaps.splitlines():
        if line.startswith(b"Pss:"):
            if counts:
                total += int(line.split()[1]) * 1024
        elif line[:1].islower() or line[:1].isdigit():  # a mapping begins with its address, the rest with capitals
            counts = name in line
    return total


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(fd, 65536):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(fd)


def temp_dirs(place: str) -> list[tuple[str, str]]:
    """Return (task id, path) of the temp_dirs of attempts in `place`, and in the workers' own directories there."""
    found: list[tuple[str, str]] = []
    for name, path in _ours(place):
        below = [_attempt(*entry) for entry in _ours(path)]
        found += below or [_attempt(name, path)]
    return found


def _ours(place: str) -> list[tuple[str, str]]:
    """Return name and path of what lies there by one of our names (worker.tempdirs, worker.leftovers), if that can be told."""
    try:
        with os.scandir(place) as entries:
            return [(entry.name, entry.path) for entry in entries if entry.name.startswith("rxtasks-")]
    except OSError:
        return []


def _attempt(name: str, path: str) -> tuple[str, str]:
    return name[len("rxtasks-") :].rsplit("-", 2)[0], path


def disk_bytes(paths: Iterable[str]) -> int:
    """Return how many bytes the disk holds for the files below these directories (of at most 20,000 entries)."""
    total = left = 0
    left = _MOST_FILES
    seen: set[tuple[int, int]] = set()
    for stat in _stats(paths):
        left -= 1
        if left < 0:
            break
        if stat.st_nlink > 1:
            if (stat.st_dev, stat.st_ino) in seen:
                continue
            seen.add((stat.st_dev, stat.st_ino))
        total += stat.st_blocks * 512
    return total


def _stats(paths: Iterable[str]) -> Iterator[os.stat_result]:
    waiting = list(paths)
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    try:
                        yield entry.stat(follow_symlinks=False)
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(entry.path)
                    except OSError:  # gone meanwhile
                        continue
        except OSError:
            continue
