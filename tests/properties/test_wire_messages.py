"""Every message comes back as it was sent, and no damage makes another message of it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, get_args

import attrs
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rxtasks.errors import ProtocolError
from rxtasks.testing.strategies import MESSAGES, integers, messages
from rxtasks.wire.codec import Decoder, Encoder
from rxtasks.wire.framing import FrameReader, FrameWriter
from rxtasks.wire.message import Command, Report
from rxtasks.wire.shapes import KINDS, PART

CLOSED = [*get_args(Command), *get_args(Report)]


def same(one: Any, other: Any) -> bool:
    """Equal with equal types: True is not 1, 1 is not 1.0."""
    if type(one) is not type(other):
        return False
    if attrs.has(type(one)):
        return all(same(getattr(one, f.name), getattr(other, f.name)) for f in attrs.fields(type(one)))
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    return bool(one == other)


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    at = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(at)]


def test_every_class_of_message_has_a_strategy_and_a_kind_of_its_own() -> None:
    """R25: the unions are closed: a new class of message without a strategy or a kind number fails here."""
    assert set(MESSAGES) == set(CLOSED)
    assert set(KINDS.values()) == set(CLOSED)
    assert len(KINDS) == len(CLOSED)


@pytest.mark.parametrize("cls", CLOSED, ids=lambda cls: cls.__name__)
def test_decoding_what_was_encoded_gives_the_message_back(cls: type[Any]) -> None:
    """R25: decode(encode(m)) == m, types included, for every command and report."""

    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
    @given(MESSAGES[cls]())
    def check(message: Any) -> None:
        data = b"".join(Encoder().encode(message))
        back = Decoder().feed(data)
        assert len(back) == 1
        assert same(back[0], message)

    check()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(messages(), max_size=4), st.lists(st.integers(0, 2**31), max_size=8))
def test_the_messages_are_the_same_whatever_pieces_the_bytes_come_in(sent: list[Any], cuts: list[int]) -> None:
    """R25: any split of the stream gives the same messages in the same order."""
    encoder, decoder = Encoder(), Decoder()
    data = b"".join(frame for message in sent for frame in encoder.encode(message))
    got = [message for piece in pieces_of(data, cuts) for message in decoder.feed(piece)]
    assert got == sent


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(messages(), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_messages_whose_frames_are_interleaved_arrive_whole(sent: list[Any], random: Any) -> None:
    """R5: frames of several messages drawn in any order decode to exactly these messages."""
    encoder, decoder = Encoder(), Decoder()
    open_ = [encoder.encode_parts(message) for message in sent]
    got = []
    while open_:
        frames = random.choice(open_)
        frame = next(frames, None)
        if frame is None:
            open_.remove(frames)
        else:
            got += decoder.feed(frame)
    assert len(got) == len(sent)
    assert all(message in got for message in sent)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(messages(), min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0, 2**31), st.integers(1, 255)), min_size=1, max_size=3),
)
def test_changed_bytes_give_a_protocol_error_or_nothing_never_another_message(
    sent: list[Any], changes: list[tuple[int, int]]
) -> None:
    """R21: after any change of bytes, what is decoded is a prefix of what was sent; then an error or nothing."""
    encoder = Encoder()
    data = bytearray(b"".join(frame for message in sent for frame in encoder.encode(message)))
    whole = bytes(data)
    for at, mask in changes:
        data[at % len(data)] ^= mask
    decoder = Decoder()
    try:
        got = decoder.feed(data)
    except ProtocolError:
        got = decoder.salvaged
    assert got == sent[: len(got)]
    if data != whole:
        assert len(got) < len(sent)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(messages(), min_size=1, max_size=3), st.integers(0, 2**31))
def test_a_truncated_stream_gives_the_messages_before_the_cut_and_nothing_more(sent: list[Any], cut: int) -> None:
    """R20: a sender killed at any byte of any frame leaves whole messages only, and no error."""
    encoder = Encoder()
    data = b"".join(frame for message in sent for frame in encoder.encode(message))
    got = Decoder().feed(data[: cut % len(data)])
    assert got == sent[: len(got)]
    assert len(got) < len(sent)


@settings(max_examples=100, deadline=None)
@given(st.lists(messages(), min_size=2, max_size=4), st.data())
def test_a_frame_lost_or_repeated_is_a_protocol_error(sent: list[Any], data: st.DataObject) -> None:
    """R4: a gap or a repeat in the frame numbers is an error, and the messages before it are kept."""
    encoder = Encoder()
    frames = [frame for message in sent for frame in encoder.encode(message)]
    index = data.draw(st.integers(0, len(frames) - 2))
    if data.draw(st.booleans()):
        frames.insert(index, frames[index])
    else:
        del frames[index]
    decoder = Decoder()
    with pytest.raises(ProtocolError, match="lost or repeated"):
        decoder.feed(b"".join(frames))
    assert decoder.salvaged == sent[: len(decoder.salvaged)]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(messages(), st.lists(st.none() | integers() | st.text() | st.lists(integers()), min_size=1, max_size=3))
def test_fields_that_are_not_known_are_ignored(message: Any, more: list[Any]) -> None:
    """R4: a later version's additional fields change nothing."""
    reader, writer = FrameReader(), FrameWriter()
    frames = []
    for frame in Encoder().encode(message):
        ((head, body),) = reader.feed(frame)
        fields = orjson.loads(head)
        frames.append(writer.frame(orjson.dumps([*fields, *more]), (body,)))
    assert Decoder().feed(b"".join(frames)) == [message]


@settings(max_examples=150, deadline=None)
@given(integers() | st.text(max_size=5) | st.none() | st.booleans() | st.floats() | st.lists(integers(), max_size=3))
def test_a_kind_that_is_not_known_is_a_protocol_error(kind: Any) -> None:
    """R4: unknown kinds are an error."""
    if type(kind) is int and (kind in KINDS or kind == PART):
        return
    frame = FrameWriter().frame(orjson.dumps([kind, None, 1, 2, 3]))
    with pytest.raises(ProtocolError):
        Decoder().feed(frame)


_ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 40) | st.floats() | st.sampled_from(["j", "p", "o", "succeeded", "x"]),
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(st.sampled_from(["type", "message", "cause"]), inner),
    max_leaves=30,
)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from([PART, *KINDS]), st.lists(_ANY, max_size=9), st.binary(max_size=20))
def test_any_json_in_a_sound_frame_is_a_message_or_a_protocol_error(kind: int, rest: list[Any], body: bytes) -> None:
    """R21: a sender that is wrong in any way fails as itself: no other exception reaches the core."""
    frame = FrameWriter().frame(orjson.dumps([kind, *rest]), (body,))
    try:
        got = Decoder().feed(frame)
    except ProtocolError:
        return
    for message in got:
        assert Decoder().feed(b"".join(Encoder().encode(message))) == [message]
