"""Results of steps on their way: one to be kept, and all of them beside the checkpoint as a new attempt gets them.

Lengths are 4 bytes, little endian::

    a step:    length of the name, name (UTF-8), result
    restored:  the checkpoint as it is (None: there is none), if there are no steps; else
               MAGIC, length of the checkpoint + 1 (0: none), checkpoint, then for each step: length, step
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct
from typing import Final

from rxtasks.errors import ProtocolError

__all__ = ["join_restored", "join_step", "split_restored", "split_step"]

#: Neither a pickle nor JSON begins so.
_MAGIC: Final = b"\0steps"
_LENGTH: Final = Struct("<I")


def join_step(name: str, data: bytes) -> bytes:
    """Return one step."""
    encoded = name.encode("utf-8")
    return b"".join((_LENGTH.pack(len(encoded)), encoded, data))


def split_step(blob: bytes) -> tuple[str, bytes]:
    """Return (name, result) of what `join_step` made.

    Raises:
        ProtocolError: it is no step.
    """
    try:
        (length,) = _LENGTH.unpack_from(blob)
        end = _LENGTH.size + length
        if end > len(blob):
            raise ValueError("it is too short")
        return bytes(blob[_LENGTH.size : end]).decode("utf-8"), bytes(blob[end:])
    except Exception as error:
        raise ProtocolError(f"not the result of a step: {error}") from None


def join_restored(checkpoint: bytes | None, steps: Mapping[str, bytes] | None) -> bytes | None:
    """Return what a new attempt gets of those before it."""
    if not steps:
        return checkpoint
    parts = [_MAGIC, _LENGTH.pack(0 if checkpoint is None else len(checkpoint) + 1), checkpoint or b""]
    for name, data in steps.items():
        step = join_step(name, data)
        parts += (_LENGTH.pack(len(step)), step)
    return b"".join(parts)


def split_restored(blob: bytes | None) -> tuple[bytes | None, dict[str, bytes]]:
    """Return (checkpoint, results of steps by name) of what `join_restored` made.

    Raises:
        ProtocolError: it is cut short.
    """
    if blob is None or bytes(blob[: len(_MAGIC)]) != _MAGIC:
        return blob, {}
    try:
        at = len(_MAGIC)
        (length,) = _LENGTH.unpack_from(blob, at)
        at += _LENGTH.size
        checkpoint = bytes(blob[at : at + length - 1]) if length else None
        at += max(0, length - 1)
        steps: dict[str, bytes] = {}
        while at < len(blob):
            (length,) = _LENGTH.unpack_from(blob, at)
            at += _LENGTH.size
            name, data = split_step(blob[at : at + length])
            steps[name] = data
            at += length
    except Exception as error:
        raise ProtocolError(f"results of steps cannot be read: {error}") from None
    if at != len(blob):
        raise ProtocolError("results of steps are cut short")
    return checkpoint, steps
