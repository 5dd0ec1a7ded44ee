"""The wall clock of a run, which can be set forward and back while the machine's own is left alone.

Every process of the run loads wall_clock.c (LD_PRELOAD), which adds to the time of day what stands in one shared file; so a
step is seen by all of them at once, in each call that asks for the time, as when an administrator or NTP sets the clock.
Clocks that measure durations go on. It needs a C compiler (`cc`) and Linux; where there is none, the clock cannot be set.
"""

from __future__ import annotations

import mmap
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

__all__ = ["WallClock"]

_SOURCE = Path(__file__).with_name("wall_clock.c")
_PATH = "RXTASKS_CHAOS_CLOCK"
_MOVED = struct.Struct("=q")


class WallClock:
    """What the processes of a run add to the time of day; nothing at first.

    Args:
        folder: where its two files lie; the run's own.

    Raises:
        subprocess.CalledProcessError: the compiler failed.
    """

    def __init__(self, folder: Path) -> None:
        library, shared = folder / "clock.so", folder / "clock"
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, _SOURCE, "-ldl"], check=True)
        shared.write_bytes(_MOVED.pack(0))
        with shared.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _MOVED.size)
        #: What a process needs in its environment.
        self.environment = {_PATH: str(shared), "LD_PRELOAD": str(library)}
        #: Seconds by which it has been moved most.
        self.most = 0.0

    @staticmethod
    def possible() -> bool:
        """Say whether it can be made here."""
        return sys.platform == "linux" and "LD_PRELOAD" not in os.environ and shutil.which("cc") is not None

    def set(self, seconds: float) -> None:
        """Let the clock be so far from the machine's own."""
        self.most = max(self.most, seconds)
        _MOVED.pack_into(self._map, 0, int(seconds * 1e6))
