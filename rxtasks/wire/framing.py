"""Frames: how messages are told apart, numbered and checked on a byte stream; sans I/O.

::

    0       4      6   7   8       12      16          24
    | crc32 | "rx" | 1 | 0 | total | head  | seq       | head ... | body ... |
      u32              u8    u32     u32     u64

`total` is the whole frame in bytes, header included; `head` the bytes of the head; the body is what remains. `seq`
counts the frames of one direction from 1: a gap or a repeat means that bytes were lost or that somebody else wrote
into the channel. The checksum covers all that follows it, so a changed length cannot shift the border between head and
body. After the "rx" stands the version of this layout. All numbers are little-endian.

Lengths are checked when the header is complete, before anything of that size is allocated. A reader that has met a
bad frame stays broken: after lost bytes nothing tells where the next frame begins.

Copies: a body that lies whole within one piece of input is handed on as a view of that piece; only a frame that
straddles pieces is gathered, in a store that is used again for a later one.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Final, NoReturn, TypeAlias
from zlib import crc32

from rxtasks.errors import PayloadError, ProtocolError

__all__ = ["HEADER_SIZE", "MAX_FRAME", "MAX_PART", "Buffer", "Frame", "FrameReader", "FrameWriter"]

#: What carries bytes here; a memoryview is one-dimensional, of format "B" and contiguous.
Buffer: TypeAlias = bytes | bytearray | memoryview

#: (head, body): the body is a view that holds until the reader is fed again or the input is changed.
Frame: TypeAlias = tuple[bytes, memoryview]

#: Bytes of the largest frame, header included.
MAX_FRAME: Final = 16 * 2**20
#: Bytes of a larger value that travel in one frame, so that others can pass between two of them.
MAX_PART: Final = 2**20

_MARK: Final = int.from_bytes(b"rx\x01\x00", "little")
_HEADER: Final = Struct("<IIIIQ")  # crc, mark, total, head, seq
_SEALED: Final = Struct("<IIIQ")  # the same without crc
_CRC: Final = Struct("<I")
_CRC_SIZE: Final = _CRC.size
HEADER_SIZE: Final = _HEADER.size

#: Bytes of a new store.
_FIRST_STORE: Final = 4096
#: Bytes of the store that is kept for the next straddling frame; a larger one is given back.
_KEPT_STORE: Final = 2 * MAX_PART


class FrameWriter:
    """Numbers and seals the frames of one direction."""

    __slots__ = ("_seq",)

    def __init__(self) -> None:
        self._seq = 0

    def frame(self, head: bytes, body: Sequence[Buffer] = ()) -> bytes:
        """Return the next frame: `head` and the pieces of `body` one after another.

        Raises:
            PayloadError: the frame would be larger than MAX_FRAME; no number is used up.
        """
        size = len(head)
        total = HEADER_SIZE + size + sum(map(len, body))
        if total > MAX_FRAME:
            raise PayloadError(f"a message of {total} bytes is larger than a frame may be ({MAX_FRAME} bytes)")
        self._seq += 1
        sealed = _SEALED.pack(_MARK, total, size, self._seq)
        if len(body) == 1:  # a part of something large: copied once only
            crc = crc32(body[0], crc32(head, crc32(sealed)))
            return b"".join((_CRC.pack(crc), sealed, head, body[0]))
        content = b"".join((sealed, head, *body))
        return _CRC.pack(crc32(content)) + content


class FrameReader:
    """Finds the frames in a stream of bytes, whatever pieces it comes in."""

    __slots__ = ("_error", "_fill", "_need", "_seq", "_spare", "_store")

    def __init__(self) -> None:
        self._seq = 0
        self._store = memoryview(bytearray(_FIRST_STORE))  # the frame that has begun, if any
        self._spare = memoryview(bytearray(_FIRST_STORE))
        self._fill = 0  # bytes of it that are there
        self._need = HEADER_SIZE  # bytes of it that must be there to go on
        self._error: str | None = None

    @property
    def held(self) -> int:
        """Bytes of a frame that has begun and is not complete."""
        return self._fill

    def feed(self, data: Buffer, frames: list[Frame] | None = None) -> list[Frame]:
        """Return the frames that `data` completes, in order (appended to `frames` where given).

        Raises:
            ProtocolError: a frame has a wrong mark, length, number or checksum. Sound frames before it have been
                appended to `frames`. The reader stays broken: it raises at every later call.
        """
        if frames is None:
            frames = []
        if self._error is not None:
            raise ProtocolError(self._error)
        view = memoryview(data)
        at, end = 0, len(view)
        if self._fill:
            at = self._gather(view, frames)
        expected = self._seq + 1
        while end - at >= HEADER_SIZE:
            crc, mark, total, head, seq = _HEADER.unpack_from(view, at)
            if mark != _MARK or total > MAX_FRAME or HEADER_SIZE + head > total:
                self._refuse(mark, total, head)
            stop = at + total
            if stop > end:
                break
            if crc32(view[at + _CRC_SIZE : stop]) != crc or seq != expected:
                self._refuse_content(view[at + _CRC_SIZE : stop], crc, seq)
            start = at + HEADER_SIZE
            body = start + head
            frames.append((bytes(view[start:body]), view[body:stop]))
            self._seq = seq
            expected = seq + 1
            at = stop
        if at < end:
            self._begin(view[at:])
        return frames

    def _gather(self, view: memoryview, frames: list[Frame]) -> int:
        """Go on with the frame that has begun; return how much of `view` is used up."""
        at, end = 0, len(view)
        while True:
            fill = self._fill
            take = min(self._need - fill, end - at)
            self._store[fill : fill + take] = view[at : at + take]
            at += take
            self._fill = fill = fill + take
            if fill < self._need:
                return at
            crc, mark, total, head, seq = _HEADER.unpack_from(self._store, 0)
            if mark != _MARK or total > MAX_FRAME or HEADER_SIZE + head > total:
                self._refuse(mark, total, head)
            if fill == total:
                break
            self._reserve(total)
        whole = self._store[:total]
        if crc32(whole[_CRC_SIZE:]) != crc or seq != self._seq + 1:
            self._refuse_content(whole[_CRC_SIZE:], crc, seq)
        self._seq = seq
        frames.append((bytes(whole[HEADER_SIZE : HEADER_SIZE + head]), whole[HEADER_SIZE + head :]))
        self._fill = 0
        self._need = HEADER_SIZE
        # What begins behind it must not overwrite the frame just handed on: the two stores take turns.
        done, self._store = self._store, self._spare
        self._spare = done if len(done) <= _KEPT_STORE else memoryview(bytearray(_FIRST_STORE))
        return at

    def _begin(self, rest: memoryview) -> None:
        size = len(rest)
        if size >= HEADER_SIZE:
            _, _, total, _, _ = _HEADER.unpack_from(rest, 0)
            self._reserve(total)
        self._store[:size] = rest
        self._fill = size

    def _reserve(self, total: int) -> None:
        self._need = total
        if len(self._store) < total:
            grown = memoryview(bytearray(max(total, min(2 * len(self._store), _KEPT_STORE))))
            grown[: self._fill] = self._store[: self._fill]
            self._store = grown

    def _refuse(self, mark: int, total: int, head: int) -> NoReturn:
        if mark != _MARK:
            found = mark.to_bytes(4, "little")
            self._fail(f"not a frame of this version: it begins with {found!r}; something else wrote into the channel")
        self._fail(f"a frame of {total} bytes with a head of {head}; allowed are {MAX_FRAME} bytes")

    def _refuse_content(self, content: memoryview, crc: int, seq: int) -> NoReturn:
        if crc32(content) != crc:
            self._fail(f"the frame after number {self._seq} is damaged (checksum)")
        self._fail(f"frame {seq} came after frame {self._seq}; a frame was lost or repeated")

    def _fail(self, message: str) -> NoReturn:
        self._error = message
        self._fill = 0
        self._store = self._spare = memoryview(b"")
        raise ProtocolError(message)
