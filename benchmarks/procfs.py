"""CPU time and memory of processes, from /proc (Linux)."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cpu_seconds", "proportional_bytes", "resident_bytes", "tree"]

_PAGE = os.sysconf("SC_PAGE_SIZE")


def tree(root: int) -> list[int]:
    """Return `root` and all its living descendants."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
            except OSError:
                continue
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found.extend(parents.get(pid, ()))
    return found


def cpu_seconds(pids: list[int]) -> float:
    """Return the CPU seconds of all threads of these processes, by the scheduler's nanoseconds.

    Counts living threads only: made for pools that start and end none in between.
    """
    total = 0
    for pid in pids:
        for entry in Path(f"/proc/{pid}/task").iterdir():
            total += int((entry / "schedstat").read_text("ascii").split()[0])
    return total / 1e9


def proportional_bytes(pid: int) -> int:
    """Return the proportional set size of one process: a page that n processes share counts as 1/n."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"the kernel tells no PSS of {pid}")


def resident_bytes(pid: int) -> int:
    """Return the resident set of one process."""
    return int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * _PAGE
