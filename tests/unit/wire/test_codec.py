"""Messages to bytes and back: large blobs in parts, bounds, what is refused and by whom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from rxtasks.errors import PayloadError, ProtocolError
from rxtasks.wire.codec import Decoder, Encoder
from rxtasks.wire.framing import MAX_FRAME, MAX_PART, FrameReader, FrameWriter
from rxtasks.wire.message import (
    Ack,
    Assign,
    Assignment,
    Cancel,
    Configure,
    Define,
    Events,
    Heartbeat,
    Hook,
    Ping,
    Ready,
    Request,
)


def raw(head: Any, body: Sequence[bytes] = ()) -> bytes:
    return FrameWriter().frame(orjson.dumps(head), body)


def end_row(value: Any = None, error: Any = None) -> list[Any]:
    return [1, 7, 2, 1_780_000_000_000_000, "succeeded", value, error, None, 5]


def test_a_small_message_is_one_frame() -> None:
    """R25: bytes travel beside the JSON in the same frame."""
    message = Request(1, 2, "checkpoint", b"\x00\xff")
    (frame,) = Encoder().encode(message)
    assert frame.endswith(b"\x00\xff")
    assert Decoder().feed(frame) == [message]


def test_a_large_blob_is_cut_into_parts_of_at_most_one_mib() -> None:
    """R11: no frame of a large value is longer than a part, so that others can pass."""
    message = Define("k", blob=bytes(5 * MAX_PART + 17))
    frames = Encoder().encode(message)
    assert len(frames) == 7
    assert max(map(len, frames)) < MAX_PART + 200
    decoder = Decoder()
    assert [decoder.feed(frame) for frame in frames] == [[], [], [], [], [], [], [message]]


def test_a_heartbeat_passes_between_the_parts_of_a_large_message() -> None:
    """R5: what is encoded between two drawn parts is numbered, sent and decoded between them."""
    encoder, decoder = Encoder(), Decoder()
    large, small = Define("k", blob=bytes(3 * MAX_PART)), Heartbeat([1], 0.5, 2)
    parts = encoder.encode_parts(large)
    got = decoder.feed(next(parts)) + decoder.feed(b"".join(encoder.encode(small)))
    assert got == [small]
    assert [message for frame in parts for message in decoder.feed(frame)] == [large]


def test_many_blobs_of_middle_size_travel_beside_each_other() -> None:
    """R25: what does not fit in the message's own frame goes ahead of it, each blob in parts of its own."""
    tasks = [
        Assignment(i, i, f"t{i}", 1, 1, "f", 8, payload=bytes([i]) * 300_000, restored=b"r" if i % 2 else None)
        for i in range(60)
    ]
    message = Assign(tasks)
    frames = Encoder().encode(message)
    assert max(map(len, frames)) < MAX_PART + 10_000
    assert Decoder().feed(b"".join(frames)) == [message]


def test_nothing_decoded_refers_to_the_bytes_that_were_fed() -> None:
    """R25: the caller may use its read buffer again at once."""
    message = Events([end_row(["p", 3, "x", "y"])], [b"abc"])
    data = bytearray(Encoder().encode(message)[0])
    got = Decoder().feed(data)
    data[:] = bytes(len(data))
    assert got == [message]


def test_a_message_that_cannot_travel_leaves_the_encoder_as_it_was() -> None:
    """R26: a refused message uses up no number; the next one is decoded."""
    encoder, decoder = Encoder(blob_limit=3 * MAX_PART), Decoder()
    with pytest.raises(PayloadError, match="blob of"):
        encoder.encode(Define("k", blob=bytes(3 * MAX_PART + 1)))
    with pytest.raises(PayloadError):
        encoder.encode(Cancel(1, 2, "x" * 70_000))
    with pytest.raises(PayloadError):
        encoder.encode(Cancel(1, 2**64))
    with pytest.raises(PayloadError, match="object"):
        encoder.encode(Events([end_row(["j", object()])]))
    with pytest.raises(PayloadError, match="bytes"):
        encoder.encode(Assign([Assignment(1, 1, "t", 1, 1, "f", 8, form="o", payload=((), {}, object()))]))
    with pytest.raises(PayloadError):
        encoder.encode(Ready(1, handlers=["x" * MAX_FRAME]))
    assert decoder.feed(encoder.encode(Ping(1))[0]) == [Ping(1)]


def test_encode_parts_refuses_at_once_not_when_drawn() -> None:
    """R26: the caller learns where it sends, not later in the writer."""
    with pytest.raises(PayloadError):
        Encoder(blob_limit=10).encode_parts(Define("k", blob=bytes(2 * MAX_PART)))


def test_lone_surrogates_are_escaped_not_refused() -> None:
    """R25: a file name that is no Unicode does not stop a worker from being told its other settings."""
    sent = Configure("w", sys_path=["/a", "/b\udcff"])
    assert Decoder().feed(Encoder().encode(sent)[0]) == [Configure("w", sys_path=["/a", "/b\\udcff"])]


@pytest.mark.parametrize(
    "head",
    [
        [],
        {},
        None,
        5,
        "x",
        [99, None],
        [3],
        [3, None, 5],
        [3, [], 5],
        [8, None],
        [8, None, True],
        [8, None, 1.5],
        [8, None, None],
        [11, None, 1, "yes"],
        [5, None, [[1, 2], [3, "4"]]],
        [4, None, [[1, 2]]],
        [4, None, None],
        [4, [1], []],
        [4, [-5], [[1, 1, "t", 1, 1, "f", 8, None, 0, "p", False, None]]],
        [2, None, "k", None, 1],
        [34, None, [[0, 1, 1]], 0],
        [34, None, [[9, 1, 1, 1]], 0],
        [34, None, [[1, 7, 2, 5, "running", None, None, None, 5]], 0],
        [34, None, [[1, 7, 2, 5, "succeeded", ["o", {}, "t", "p"], None, None, 5]], 0],
        [34, None, [[1, 7, 2, 5, "succeeded", ["p", 3, "t", "p"], None, None, 5]], 0],
        [34, None, [[1, 7, 2, 5, "failed", None, {"type": "E"}, None, 5]], 0],
        [34, None, [[1, 7, 2, 5, "failed", None, {"type": "E", "message": "m", "object": 1}, None, 5]], 0],
        [34, None, [[1, 7, 2, 5, "failed", None, {"type": "E", "message": "m", "pickle": True}, None, 5]], 0],
        [34, None, [[4, 7, 2, 5, None, 0]], 0],
        [34, None, [[3, 7, 2, 5, "half", None, None, None]], 0],
        [34, None, [[2, 7, 2, 5, "INFO", "m", "log", [], 0]], 0],
        [34, None, [["0", 1, 1, 1]], 0],
        [33, None, {"type": "E", "message": "m", "cause": {"type": 1, "message": ""}}],
        [0, 1, 10, 0],
        [0, 1],
    ],
    ids=lambda head: str(head)[:60],
)
def test_a_sound_frame_that_is_no_message_is_a_protocol_error(head: Any) -> None:
    """R21: a wrong shape or type is found at the door, not in the core."""
    decoder = Decoder()
    with pytest.raises(ProtocolError):
        decoder.feed(raw(head))
    with pytest.raises(ProtocolError):
        decoder.feed(b"")


def test_a_row_with_more_places_than_known_is_cut() -> None:
    """R4: what a newer worker adds to a row is ignored."""
    rows = [[0, 1, 1, 5, "new"], [*end_row(["j", [1]]), "new", 1], [4, 1, 2, 5, ["j", 1], 8, {"new": 1}]]
    (got,) = Decoder().feed(raw([34, None, rows, 0]))
    assert got == Events([[0, 1, 1, 5], end_row(["j", [1]]), [4, 1, 2, 5, ["j", 1], 8]])


def test_body_and_sizes_must_agree() -> None:
    """R21: neither missing nor surplus bytes pass."""
    for sizes, body in (
        ([3], b"ab"),
        ([3], b"abcd"),
        (None, b"a"),
        (["3"], b"abc"),
        ({"a": 1}, b"abc"),
        ([1, 2], b"abc"),
    ):
        with pytest.raises(ProtocolError):
            Decoder().feed(raw([9, sizes, 1, "hook", 1], (body,)))
    assert Decoder().feed(raw([9, [3], 1, "hook", 1], (b"abc",))) == [Hook(1, "hook", b"abc")]


def test_fields_a_writer_did_not_know_take_their_defaults() -> None:
    """R4: an older sender's shorter message is read."""
    assert Decoder().feed(raw([36, None, 5])) == [Ack(5)]
    assert Decoder().feed(raw([32, None, 5])) == [Ready(5)]


def feed_parts(decoder: Decoder, *heads: tuple[list[int], bytes]) -> None:
    writer = FrameWriter()
    decoder.feed(b"".join(writer.frame(orjson.dumps(head), (body,)) for head, body in heads))


def test_an_announced_size_over_the_limit_is_refused_at_the_first_part() -> None:
    """R21: sizes are checked before allocating: one small part is enough to refuse."""
    with pytest.raises(ProtocolError, match="1000"):
        feed_parts(Decoder(blob_limit=1000), ([0, 1, 1001, 0], b"x"))
    with pytest.raises(ProtocolError):
        feed_parts(Decoder(), ([0, 1, 2**30 + 1, 0], b"x"))
    with pytest.raises(ProtocolError):
        feed_parts(Decoder(blob_limit=1000, held_limit=1500), ([0, 1, 1000, 0], b"x" * 1000), ([0, 2, 1000, 0], b"x"))


@pytest.mark.parametrize(
    "second", [[0, 1, 10, 0], [0, 1, 10, 6], [0, 1, 11, 5], [0, 1, 10, 4]], ids=["repeat", "gap", "size", "overlap"]
)
def test_parts_come_in_order_and_agree(second: list[int]) -> None:
    """R21: a part that does not follow the one before it is refused."""
    with pytest.raises(ProtocolError, match="does not follow"):
        feed_parts(Decoder(), ([0, 1, 10, 0], b"12345"), (second, b"12345"))


def test_a_part_is_neither_empty_nor_longer_than_announced() -> None:
    """R21: no part without progress, none beyond the end, none over 1 MiB."""
    for heads in (
        [([0, 1, 10, 0], b"")],
        [([0, 1, 10, 0], b"12345678901")],
        [([0, 1, 4 * MAX_PART, 0], bytes(MAX_PART + 1))],
        [([0, 1, 1, 0], b"1"), ([0, 1, 1, 0], b"1")],
        [([0, 0, 1, 0], b"1")],
    ):
        with pytest.raises(ProtocolError):
            feed_parts(Decoder(), *heads)


def test_blobs_that_were_used_make_room_for_others() -> None:
    """R6: only what waits counts against the bound on held bytes."""
    size = 2 * MAX_PART
    encoder, decoder = Encoder(), Decoder(blob_limit=size, held_limit=size)
    for _ in range(5):
        assert decoder.feed(b"".join(encoder.encode(Define("k", blob=bytes(size))))) == [Define("k", blob=bytes(size))]


def test_control_messages_are_at_most_64_kib() -> None:
    """R21: security rule 7's bound for control messages holds on reading too."""
    with pytest.raises(ProtocolError, match="65536"):
        Decoder().feed(raw([6, None, 1, 2, "x" * 66_000]))
    assert len(Decoder().feed(raw([6, None, 1, 2, "x" * 65_000]))) == 1


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def test_json_is_at_most_200_levels_deep() -> None:
    """R21: deeper JSON would fail in the core's own writer; it is refused at the door."""
    assert len(Decoder().feed(raw([34, None, [end_row(["j", nested(200)])], 0]))) == 1
    with pytest.raises(ProtocolError, match="deep"):
        Decoder().feed(raw([34, None, [end_row(["j", nested(201)])], 0]))
    deep = b'[33,null,{"type":"E","message":"m","details":' + b"[" * 900 + b"]" * 900 + b"}]"
    with pytest.raises(ProtocolError):
        Decoder().feed(FrameWriter().frame(deep))
    with pytest.raises(ProtocolError):
        Decoder().feed(FrameWriter().frame(b"[" * 5000 + b"]" * 5000))


def test_messages_before_a_bad_frame_are_salvaged() -> None:
    """R21: what a worker had finished before it broke its channel is not lost."""
    encoder = Encoder()
    good = encoder.encode(Events([end_row(["j", 1])]))[0]
    bad = bytearray(encoder.encode(Ping(1))[0])
    bad[-1] ^= 1
    decoder = Decoder()
    with pytest.raises(ProtocolError):
        decoder.feed(good + bad)
    assert decoder.salvaged == [Events([end_row(["j", 1])])]
    with pytest.raises(ProtocolError):
        decoder.feed(good)
    assert decoder.salvaged == []


def test_head_of_a_frame_is_json_that_a_person_can_read() -> None:
    """R4: the layout is [kind, sizes, fields...]."""
    ((head, body),) = FrameReader().feed(Encoder().encode(Request(1, 2, "checkpoint", b"xyz"))[0])
    assert orjson.loads(head) == [38, [3], 1, 2, "checkpoint", 1]
    assert bytes(body) == b"xyz"
