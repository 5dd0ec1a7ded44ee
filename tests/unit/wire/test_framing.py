"""Frames on a byte stream: found in any pieces, bounded, numbered, checked."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rxtasks.errors import PayloadError, ProtocolError
from rxtasks.wire.framing import HEADER_SIZE, MAX_FRAME, FrameReader, FrameWriter

Content = tuple[bytes, bytes]


def read_all(reader: FrameReader, pieces: list[bytes]) -> list[Content]:
    return [(head, bytes(body)) for piece in pieces for head, body in reader.feed(piece)]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.binary(max_size=60), st.lists(st.binary(max_size=60), max_size=3)), max_size=8),
    st.lists(st.integers(0, 2000), max_size=30),
)
def test_frames_are_found_under_any_split(contents: list[tuple[bytes, list[bytes]]], cuts: list[int]) -> None:
    """R4: whatever pieces the bytes come in, the frames are those that were written."""
    writer = FrameWriter()
    data = b"".join(writer.frame(head, body) for head, body in contents)
    at = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    pieces = [data[a:b] for a, b in pairwise(at)]
    assert read_all(FrameReader(), pieces) == [(head, b"".join(body)) for head, body in contents]


def test_frames_are_found_byte_by_byte() -> None:
    """R4: pieces of one byte each are the extreme of splits."""
    writer = FrameWriter()
    contents = [(b"", b""), (b"a", b""), (b"", b"b"), (b"c" * 5000, b"d" * 70_000), (b"e", b"f")]
    data = b"".join(writer.frame(head, (body,)) for head, body in contents)
    assert read_all(FrameReader(), [data[i : i + 1] for i in range(len(data))]) == contents


def test_two_frames_that_straddle_pieces_do_not_overwrite_each_other() -> None:
    """R4: a gathered frame stays whole when the same piece begins another one, until the next feed."""
    writer = FrameWriter()
    one, two = writer.frame(b"1", (b"x" * 3000,)), writer.frame(b"2", (b"y" * 3000,))
    reader = FrameReader()
    assert reader.feed(one[:100]) == []
    ((head, body),) = reader.feed(one[100:] + two[:2000])
    assert (head, bytes(body)) == (b"1", b"x" * 3000)
    ((head, body),) = reader.feed(two[2000:])
    assert (head, bytes(body)) == (b"2", b"y" * 3000)


def test_a_frame_as_large_as_allowed_passes_and_one_byte_more_is_refused_unnumbered() -> None:
    """R21: the bound is 16 MiB with the header; a refused frame uses up no number."""
    writer, reader = FrameWriter(), FrameReader()
    with pytest.raises(PayloadError, match=str(MAX_FRAME)):
        writer.frame(b"h", (bytes(MAX_FRAME - HEADER_SIZE),))
    ((head, body),) = reader.feed(writer.frame(b"h", (bytes(MAX_FRAME - HEADER_SIZE - 1),)))
    assert (head, len(body)) == (b"h", MAX_FRAME - HEADER_SIZE - 1)
    assert read_all(reader, [writer.frame(b"next")]) == [(b"next", b"")]


@pytest.mark.parametrize("total", [MAX_FRAME + 1, 2**32 - 1, 0, HEADER_SIZE - 1])
@pytest.mark.parametrize("split", [False, True])
def test_a_length_out_of_bounds_is_refused_before_anything_is_allocated(total: int, split: bool) -> None:
    """R21: the header alone is enough to refuse an oversized (or impossible) frame."""
    header = struct.pack("<IIIIQ", 0, int.from_bytes(b"rx\x01\x00", "little"), total, 0, 1)
    reader = FrameReader()
    with pytest.raises(ProtocolError, match="bytes"):
        read_all(reader, [header[:10], header[10:]] if split else [header])
    assert reader.held == 0


def test_a_head_longer_than_its_frame_is_refused() -> None:
    """R21: the two lengths must agree."""
    header = struct.pack("<IIIIQ", 0, int.from_bytes(b"rx\x01\x00", "little"), HEADER_SIZE + 4, 5, 1)
    with pytest.raises(ProtocolError):
        FrameReader().feed(header)


def test_what_a_child_prints_into_the_channel_is_named_as_such() -> None:
    """R21: bytes that are no frame at all fail the channel with a message that says what they begin with."""
    with pytest.raises(ProtocolError, match="Hell"):
        FrameReader().feed(b"xxxxHello, world! This is not a frame.")


def test_sound_frames_before_a_bad_one_are_handed_on_and_the_reader_stays_broken() -> None:
    """R21: nothing that follows a bad frame is read, ever."""
    writer, reader = FrameWriter(), FrameReader()
    good, bad, later = writer.frame(b"1"), bytearray(writer.frame(b"2")), writer.frame(b"3")
    bad[-1] ^= 1
    frames: list[tuple[bytes, memoryview]] = []
    with pytest.raises(ProtocolError, match="damaged"):
        reader.feed(good + bad + later, frames)
    assert [head for head, _ in frames] == [b"1"]
    for data in (later, b""):
        with pytest.raises(ProtocolError, match="damaged"):
            reader.feed(data)


@pytest.mark.parametrize("at", range(HEADER_SIZE + 4))
def test_no_single_changed_byte_of_a_frame_goes_unseen(at: int) -> None:
    """R21: header, head and body are all covered."""
    frame = bytearray(FrameWriter().frame(b"ab", (b"cd",)))
    frame[at] ^= 0x10
    reader = FrameReader()
    try:
        assert reader.feed(frame) == []  # a length that has grown: it waits for more
    except ProtocolError:
        return
    assert reader.held


def test_bytes_that_wait_are_counted() -> None:
    """R6: what a reader holds is known."""
    frame = FrameWriter().frame(b"x" * 100)
    reader = FrameReader()
    reader.feed(frame[:60])
    assert reader.held == 60
    reader.feed(frame[60:])
    assert reader.held == 0
