"""Files of JSON lines, written by processes that may be killed at any moment."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

__all__ = ["Lines", "now_us", "read_lines"]


def now_us() -> int:
    """Return microseconds of a clock that all processes of the machine share, and that nobody sets."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000


class Lines:
    """Appends lines, each whole in one write."""

    def __init__(self, path: Path, *, sync: bool = False) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._sync = sync

    def write(self, **row: Any) -> None:
        """Append a line; with sync=True, it is on disk when this returns."""
        os.write(self._fd, json.dumps({"at": now_us(), **row}).encode() + b"\n")
        if self._sync:
            os.fsync(self._fd)


def read_lines(*paths: Path) -> list[dict[str, Any]]:
    """Return the rows of these files; what stands behind the last newline was never written whole."""
    found: list[dict[str, Any]] = []
    for path in paths:
        if path.exists():
            whole, _, _ = path.read_bytes().rpartition(b"\n")
            found += [json.loads(line) for line in whole.splitlines()]
    return found
