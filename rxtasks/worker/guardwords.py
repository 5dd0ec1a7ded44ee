"""What a parent and its guardian say to each other: one message at a time over a socket that keeps them apart.

::

    parent ── start ENVIRONMENT, descriptors ──> guardian      the descriptors: see FDS, and the environment's where it changed
           ── terminate PID ──────────────────>
           <── started PID, its pidfd ─────────                the answer to start, or failed ERRNO
           <── ended PID, code or signal ──────                it and all that descended from it are gone
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

__all__ = [
    "ENDED",
    "FAILED",
    "FDS",
    "FORK_SERVER",
    "MARK",
    "NEW_ENVIRONMENT",
    "SAME_ENVIRONMENT",
    "STARTED",
    "TERMINATE",
    "Said",
    "pack_environment",
    "parse",
    "unpack_environment",
]

#: The first argument of `python -m rxtasks.worker` for a guardian that forks workers from itself.
FORK_SERVER: Final = "forkserver"
#: Descriptors of a start, in this order: channel, tokens, memory files, stdout, stderr, working directory.
FDS: Final = 6
#: Start a worker, in the environment that the parent had when the guardian was started; or in the one that is in the file
#: behind one more descriptor, as pack_environment made it.
SAME_ENVIRONMENT: Final = b"="
NEW_ENVIRONMENT: Final = b"+"
#: Send SIGTERM to a worker and all that descends from it.
TERMINATE: Final = b"T"

#: What the guardian says.
STARTED: Final = "S"
FAILED: Final = "F"
ENDED: Final = "E"

#: The variable in the environment of a guardian, and of all that descends from it, which tells them from others' processes
#: when it is gone itself. Its value is nobody else's: 128 random bits.
MARK: Final = "RXTASKS_GUARDIAN"


class Said(NamedTuple):
    """What a guardian said: STARTED or ENDED with a pid, FAILED with an error number."""

    kind: str
    number: int
    #: ENDED: the exit code, or below 0 the signal; None where nobody can tell.
    status: int | None = None


def parse(message: bytes) -> Said:
    """Return what a guardian said.

    Raises:
        ValueError: it is nothing that a guardian says.
    """
    kind, *numbers = message.decode("ascii").split(" ")
    if kind == ENDED:
        pid, status = numbers
        return Said(kind, int(pid), None if status == "?" else int(status))
    if kind not in (STARTED, FAILED):
        raise ValueError(f"no word of a guardian: {message[:40]!r}")
    (number,) = numbers
    return Said(kind, int(number))


def pack_environment(environ: Mapping[bytes, bytes]) -> bytes:
    """Return an environment (os.environb) as bytes."""
    return b"\0".join(name + b"=" + value for name, value in environ.items())


def unpack_environment(packed: bytes) -> dict[bytes, bytes]:
    """Return the environment that was packed."""
    # A name may begin with "=", but not hold another one.
    entries = [entry for entry in packed.split(b"\0") if entry]
    return {entry[:at]: entry[at + 1 :] for entry in entries if (at := entry.find(b"=", 1)) > 0}
