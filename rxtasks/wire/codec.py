"""Messages to bytes and back; sans I/O.

::

    message ── take ──> [kind, sizes, fields...] + blobs ── frame ──> bytes
                                     │
                                     └ blobs over 1 MiB in all: each in a memory file, or in Part frames before

A frame's head is JSON, its body the message's blobs one after another: bytes are never escaped. `sizes` tells the
blobs apart: n is a blob of n bytes in the body, -n is blob number n, which has come before in Part frames of at most
1 MiB each, `[0, number, size, offset]`. Parts of one blob come in order; other frames may come between them. So a
heartbeat need not wait behind a gigabyte. `[number, size]` is a blob in a sealed memory file, which has been passed on
beside the frames (see `passing`): so go large ones wherever both ends are on one machine, and in parts only where that
fails.

For every message that either side makes, `Decoder().feed(b"".join(Encoder().encode(m))) == [m]`, with two limits that
the makers keep: what stands in JSON is JSON (no NaN, no integer beyond 64 bits), and text is Unicode (lone surrogates,
which file names may hold, are escaped with a backslash).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import orjson

from rxtasks.errors import PayloadError, ProtocolError
from rxtasks.wire.framing import HEADER_SIZE, MAX_FRAME, MAX_PART, Buffer, Frame, FrameReader, FrameWriter
from rxtasks.wire.jsondepth import MAX_DEPTH, deeper
from rxtasks.wire.message import Events, Message
from rxtasks.wire.sealed import Sealed
from rxtasks.wire.shapes import PART, SHAPE_OF, SHAPES, Shape

if TYPE_CHECKING:
    from rxtasks.wire.passing import Passing

__all__ = ["BLOB_LIMIT", "Decoder", "Encoder"]

#: Bytes of the largest blob, if nothing else is said.
BLOB_LIMIT = 2**30

#: Bytes of blobs that travel in a message's own frame; the others get frames of their own.
_IN_PLACE = MAX_PART
_BYTES = frozenset({bytes, bytearray})
_SEALED = frozenset({Sealed})
#: Levels of a head around the values in it.
_AROUND = 6
#: Objects stay what they are or are refused; nothing is turned into a string on the way.
_JSON = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS


class Encoder:
    """Turns the messages of one direction into numbered frames.

    A frame has its number from when it is made, so frames must be written in the order in which they were made,
    whichever message they belong to. `encode` makes all frames of a message at once. `encode_parts` makes each when it
    is asked for: between two of them, other messages may be encoded and written, and no copy of a large blob is made.
    """

    __slots__ = ("_blob_limit", "_blobs", "_passing", "_writer")

    def __init__(self, *, blob_limit: int = BLOB_LIMIT, passing: Passing | None = None) -> None:
        self._writer = FrameWriter()
        self._blobs = 0
        self._blob_limit = blob_limit
        self._passing = passing

    def encode(self, message: Message) -> list[bytes]:
        """Return the message's frames (mostly one), to be written in this order and before any made later.

        Raises:
            PayloadError: it cannot travel: a blob or its head is over the limit, or a field is not JSON. Nothing has
                been numbered; the encoder goes on as if it had not been asked.
        """
        head, inline, large = self._prepare(message)
        if not large:
            return [self._writer.frame(head, inline)]
        return list(self._frames(head, inline, large))

    def encode_parts(self, message: Message) -> Iterator[bytes]:
        """Return the message's frames, each made (and numbered) when it is drawn.

        Draw to the end: a message that is left half-way keeps its parts in the receiver's memory.

        Raises:
            PayloadError: as encode, at once, not when drawn.
        """
        return self._frames(*self._prepare(message))

    def encode_first(self, message: Message) -> tuple[bytes, Iterator[bytes] | None]:
        """Return the message's first frame and what makes the others (as encode_parts does); None = it is the only one.

        Raises:
            PayloadError: as encode.
        """
        head, inline, large = self._prepare(message)
        if not large:
            return self._writer.frame(head, inline), None
        frames = self._frames(head, inline, large)
        return next(frames), frames

    def _frames(self, head: bytes, inline: Sequence[bytes], large: list[tuple[int, Buffer]]) -> Iterator[bytes]:
        frame = self._writer.frame
        for number, blob in large:
            size = len(blob)
            view = memoryview(blob)
            for offset in range(0, size, MAX_PART):
                part = view[offset : offset + MAX_PART]
                yield frame(b"[%d,%d,%d,%d]" % (PART, number, size, offset), (part,))
        yield frame(head, inline)

    def _prepare(self, message: Message) -> tuple[bytes, Sequence[bytes], list[tuple[int, Buffer]]]:
        shape = SHAPE_OF[type(message)]
        fields, blobs = shape.take(message)
        if not blobs:
            head = _dumps([shape.kind, None, *fields], message)
            if len(head) > shape.limit or len(head) > MAX_FRAME - HEADER_SIZE:
                raise PayloadError(f"a {_name(message)} of {len(head)} bytes; allowed are {shape.limit}")
            return head, (), []
        sizes: list[Any] = list(map(len, blobs))
        odd = set(map(type, blobs)) - _BYTES
        if odd or sum(sizes) > _IN_PLACE:
            if odd - _SEALED:
                raise PayloadError(f"a blob of {_name(message)} is {odd.pop().__name__}, not bytes")
            return self._prepare_large(message, shape, fields, blobs, sizes)
        return self._head(message, shape, fields, sizes, sum(sizes)), blobs, []

    def _prepare_large(
        self, message: Message, shape: Shape, fields: list[Any], blobs: Sequence[Any], sizes: list[Any]
    ) -> tuple[bytes, Sequence[bytes], list[tuple[int, Buffer]]]:
        """Prepare a message with blobs that do not all stand in its frame."""
        room: int = _IN_PLACE
        inline: list[bytes] = []
        apart: list[int] = []
        for index, blob in enumerate(blobs):
            size = sizes[index]
            if size <= room and not isinstance(blob, Sealed):
                room -= size
                inline.append(blob)
            elif size > self._blob_limit:
                raise PayloadError(f"a blob of {size} bytes in {_name(message)}; allowed are {self._blob_limit}")
            else:
                apart.append(index)
        # The head is tried before anything is passed on: what is refused leaves no file behind.
        trial = sizes.copy()
        for index in apart:
            trial[index] = [2**53, sizes[index]]
        self._head(message, shape, fields, trial, _IN_PLACE - room)
        large: list[tuple[int, Buffer]] = []
        number = self._blobs
        for index in apart:
            blob = blobs[index]
            passed = None if self._passing is None else self._passing.give(blob)
            if passed is not None:
                sizes[index] = [passed, sizes[index]]
            else:
                number += 1
                large.append((number, _plain_view(blob, message)))
                sizes[index] = -number
        head = self._head(message, shape, fields, sizes, _IN_PLACE - room)
        self._blobs = number
        return head, inline, large

    @staticmethod
    def _head(message: Message, shape: Shape, fields: list[Any], sizes: list[Any], total: int) -> bytes:
        head = _dumps([shape.kind, sizes, *fields], message)
        if len(head) > shape.limit or len(head) + total > MAX_FRAME - HEADER_SIZE:
            raise PayloadError(f"a {_name(message)} of {len(head)} bytes without its blobs; allowed are {shape.limit}")
        return head


def _plain_view(blob: Any, message: Message) -> Buffer:
    """Return what a blob's parts are made of."""
    if not isinstance(blob, Sealed):
        return blob  # type: ignore[no-any-return]
    try:
        return blob.view()
    except OSError as error:
        raise PayloadError(f"a blob of {len(blob)} bytes in {_name(message)} cannot be read: {error}") from None


def _name(message: object) -> str:
    return type(message).__name__


def _dumps(head: list[Any], message: Message) -> bytes:
    try:
        return orjson.dumps(head, option=_JSON)
    except TypeError:
        pass
    try:
        return orjson.dumps(_unicode(head), option=_JSON)
    except (TypeError, RecursionError) as error:
        raise PayloadError(f"a field of {_name(message)} cannot travel: {error}") from None


def _unicode(value: Any) -> Any:
    """Return `value` with lone surrogates escaped."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, list | tuple):
        return [_unicode(item) for item in value]
    if isinstance(value, dict):
        return {_unicode(key): _unicode(item) for key, item in value.items()}
    return value


class _Assembly:
    """A large blob of which not all parts have come."""

    __slots__ = ("came", "size", "store")

    def __init__(self, size: int) -> None:
        self.size = size
        self.came = 0
        self.store = BytesIO()  # grows without copying, and its getvalue() does not copy


class Decoder:
    """Turns the bytes of one direction into messages, whatever pieces they come in.

    Memory: a frame that is not complete (16 MiB at most) and large blobs whose message has not come: each of at most
    `blob_limit` bytes, all of at most `held_limit` (default: four times that), counted from when they are announced.
    What comes in a memory file is mapped when its message comes, after its size has been held against `blob_limit`.
    """

    __slots__ = (
        "_assemblies",
        "_blob_limit",
        "_blobs",
        "_error",
        "_held",
        "_held_limit",
        "_passing",
        "_reader",
        "salvaged",
    )

    def __init__(
        self, *, blob_limit: int = BLOB_LIMIT, held_limit: int | None = None, passing: Passing | None = None
    ) -> None:
        self._reader = FrameReader()
        self._passing = passing
        self._blob_limit = blob_limit
        self._held_limit = 4 * blob_limit if held_limit is None else held_limit
        self._held = 0
        self._assemblies: dict[int, _Assembly] = {}
        self._blobs: dict[int, bytes] = {}
        self._error: str | None = None
        #: Sound messages that came in the same piece before what made feed() raise; else empty.
        self.salvaged: list[Message] = []

    def feed(self, data: bytes | bytearray | memoryview) -> list[Message]:
        """Return the messages that `data` completes, in order. Nothing returned refers to `data`.

        Blobs are bytes; in Assign, Events and Define one that came in a memory file is a view of its mapping.

        Raises:
            ProtocolError: something is no message (see `salvaged` for those before it). The decoder stays broken: it
                raises at every later call.
        """
        if self._error is not None:
            self.salvaged = []
            raise ProtocolError(self._error)
        frames: list[Frame] = []
        messages: list[Message] = []
        failure: ProtocolError | None = None
        try:
            self._reader.feed(data, frames)
        except ProtocolError as error:
            failure = error
        try:
            for frame in frames:
                self._take(frame, messages)
        except ProtocolError as error:
            failure = error
        if failure is not None:
            self._error = str(failure)
            self.salvaged = messages
            self._assemblies.clear()
            self._blobs.clear()
            raise failure
        return messages

    def _take(self, frame: Frame, messages: list[Message]) -> None:
        raw, body = frame
        try:
            head = orjson.loads(raw)
            kind = head[0]
        except (ValueError, TypeError, IndexError, KeyError) as error:
            raise ProtocolError(f"a frame's head is no message: {error}") from None
        if type(kind) is not int:
            raise ProtocolError(f"a message's kind is a number, not {type(kind).__name__}")
        if kind == PART:
            self._part(head, body)
            return
        shape = SHAPES.get(kind)
        if shape is None:
            raise ProtocolError(f"unknown kind of message {kind}")
        if len(raw) > shape.limit:
            raise ProtocolError(f"a {shape.cls.__name__} of {len(raw)} bytes; allowed are {shape.limit}")
        if len(raw) > 2 * MAX_DEPTH and shape.cls is not Events and deeper(head, raw, MAX_DEPTH + _AROUND):
            raise ProtocolError(f"a {shape.cls.__name__} that is nested too deep")
        sizes = head[1] if len(head) > 1 else None
        blobs = self._split(sizes, body) if sizes is not None or len(body) else []
        messages.append(shape.make(head[2:], blobs))

    def _split(self, sizes: Any, body: memoryview) -> list[bytes]:
        if type(sizes) is not list:
            raise ProtocolError("a message's blobs have no sizes")
        blobs: list[bytes] = []
        content = body.tobytes()
        at = 0
        for size in sizes:
            if type(size) is not int:
                blobs.append(self._passed(size))
            elif size < 0:
                blob = self._blobs.pop(-size, None)
                if blob is None:
                    raise ProtocolError(f"a message refers to blob {-size}, which has not come")
                self._held -= len(blob)
                blobs.append(blob)
            else:
                blobs.append(content[at : at + size])
                at += size
        if at != len(content):
            raise ProtocolError(f"a message's body has {len(content)} bytes, its blobs have {at}")
        return blobs

    def _passed(self, place: Any) -> Any:
        """Return the blob that came in a memory file, as a view of its mapping."""
        if self._passing is None or type(place) is not list or len(place) < 2:
            raise ProtocolError("a message's blobs have no sizes")
        number, size = place[:2]
        if type(number) is not int or type(size) is not int:
            raise ProtocolError("a message's blobs have no sizes")
        if not 0 < size <= self._blob_limit:
            raise ProtocolError(f"a blob of {size} bytes; allowed are {self._blob_limit}")
        return self._passing.take(number, size)

    def _part(self, head: list[Any], body: memoryview) -> None:
        if len(head) < 4 or not all(type(item) is int for item in head[1:4]):
            raise ProtocolError("a part is [0, number, size, offset]")
        number, size, offset = head[1:4]
        assembly = self._assemblies.get(number)
        if assembly is None:
            if number in self._blobs or number < 1:
                raise ProtocolError(f"blob {number} has come already")
            if not 0 < size <= self._blob_limit or self._held + size > self._held_limit:
                raise ProtocolError(f"a blob of {size} bytes; allowed are {self._blob_limit}")
            assembly = self._assemblies[number] = _Assembly(size)
            self._held += size
        came = assembly.came + len(body)
        if size != assembly.size or offset != assembly.came or came > size or not 0 < len(body) <= MAX_PART:
            raise ProtocolError(f"a part of blob {number} does not follow the one before it")
        assembly.came = came
        assembly.store.write(body)
        if came == size:
            del self._assemblies[number]
            self._blobs[number] = assembly.store.getvalue()
