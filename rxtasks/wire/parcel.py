"""A pickle and the buffers that travel beside it (PEP 574), in one run of bytes.

::

    | "rxP1" | count | offset, size  of the pickle | offset, size  of each buffer ... | pickle | buffer | buffer ...
      4        u32     u64, u64                                                         each at a multiple of 64

Whoever reads makes views into it and copies nothing: the arrays that pickle makes of the buffers lie where the bytes lie.
A plain pickle begins with another byte (0x80), so one can be told from the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Final

from rxtasks.wire.framing import Buffer

__all__ = ["LOST", "is_parcel", "pack", "unpack"]

#: Stands for bytes that came while there was no room for them here.
LOST: Final = b"rxP0"

_MARK: Final = b"rxP1"
_HEAD: Final = Struct("<4sI")
_PLACE: Final = Struct("<QQ")
#: Arrays begin at multiples of so many bytes: a line of the processor's cache.
_ALIGN: Final = 64
_GAP: Final = bytes(_ALIGN)


def is_parcel(data: Buffer) -> bool:
    """Say whether `data` is a parcel, not a plain pickle."""
    return bytes(data[:4]) == _MARK


def pack(pickled: bytes, buffers: Sequence[memoryview]) -> tuple[list[Buffer], int]:
    """Return the pieces of the parcel, none of them copied, and their size in all."""
    index = bytearray(_HEAD.pack(_MARK, len(buffers)))
    at = _HEAD.size + (1 + len(buffers)) * _PLACE.size
    pieces: list[Buffer] = [index]
    contents: list[Buffer] = [pickled, *buffers]
    for content in contents:
        size = len(content)
        gap = -at % _ALIGN
        if gap:
            pieces.append(_GAP[:gap])
        at += gap
        index += _PLACE.pack(at, size)
        if size:
            pieces.append(content)
        at += size
    return pieces, at


def unpack(parcel: memoryview) -> tuple[memoryview, list[memoryview]]:
    """Return the pickle and the buffers, as views.

    Raises:
        ValueError: what is said of their places cannot be.
    """
    _, count = _HEAD.unpack_from(parcel)
    first = _HEAD.size + (1 + count) * _PLACE.size
    if first > len(parcel):
        raise ValueError(f"a parcel of {len(parcel)} bytes with {count} buffers")
    views = []
    for offset, size in _PLACE.iter_unpack(parcel[_HEAD.size : first]):
        if offset < first or offset + size > len(parcel):
            raise ValueError(f"a buffer of {size} bytes at {offset} in a parcel of {len(parcel)}")
        views.append(parcel[offset : offset + size])
    return views[0], views[1:]
