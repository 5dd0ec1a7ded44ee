"""What a parent asks of its fork server: one message, with descriptors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["FDS", "FORK_SERVER", "SAME_ENVIRONMENT", "pack_environment", "unpack_environment"]

#: The first argument of `python -m rxtasks.worker` for a fork server.
FORK_SERVER: Final = "forkserver"
#: Descriptors of a request, in this order: channel, tokens, memory files, stdout, stderr, working directory.
FDS: Final = 6
#: The request of a parent whose environment is what it was when the server started; else it is pack_environment's.
SAME_ENVIRONMENT: Final = b"="


def pack_environment(environ: Mapping[bytes, bytes]) -> bytes:
    """Return the request of a parent with this environment (os.environb)."""
    return b"+" + b"\0".join(name + b"=" + value for name, value in environ.items())


def unpack_environment(request: bytes) -> dict[bytes, bytes]:
    """Return the environment that such a request holds."""
    # A name may begin with "=", but not hold another one.
    entries = [entry for entry in request[1:].split(b"\0") if entry]
    return {entry[:at]: entry[at + 1 :] for entry in entries if (at := entry.find(b"=", 1)) > 0}
