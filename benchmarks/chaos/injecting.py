"""System calls of a running process that are made to fail, by strace."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping

__all__ = ["DISK", "can_inject", "inject"]

#: Kinds of faults: which call is to fail, and with what.
DISK: Mapping[str, str] = {
    "full disk": "pwrite64:error=ENOSPC",
    "I/O error at sync": "fdatasync,fsync:error=EIO",
    "I/O error at write": "pwrite64:error=EIO",
    "I/O error at read": "pread64:error=EIO",
}


def inject(kind: str, pid: int) -> subprocess.Popen[bytes]:
    """Let these calls of all threads of a process fail from now on, until what is returned is ended."""
    what = DISK[kind]
    calls = what.partition(":")[0]
    command = ["strace", "-q", "-f", "-o", "/dev/null", "-e", f"trace={calls}", "-e", f"inject={what}", "-p", str(pid)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def can_inject() -> bool:
    """Say whether strace is here, and may look into another process."""
    if shutil.which("strace") is None:
        return False
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        strace = inject("full disk", sleeper.pid)
        try:
            strace.wait(0.5)
            return False  # it was not let in
        except subprocess.TimeoutExpired:
            return True
        finally:
            strace.terminate()
            strace.wait()
            sleeper.kill()
