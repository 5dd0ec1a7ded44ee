"""Descriptors beside frames: each is there when the frame that names it is read, and none is left over."""

from __future__ import annotations

import fcntl
import os
import resource
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator

import pytest

from rxtasks.errors import PayloadError, ProtocolError
from rxtasks.wire.codec import Decoder, Encoder
from rxtasks.wire.message import Assign, Assignment, Define, Events, Request
from rxtasks.wire.passing import Passing
from rxtasks.wire.payload import loads
from rxtasks.wire.sealed import seal
from tests.unit.wire.test_sealed import open_fds

BIG = bytes(range(256)) * 8192  # 2 MiB
Ends = tuple[Passing, Passing]


def ends(*, in_order: bool = True) -> Ends:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return (
        Passing(socket.socket(fileno=one.detach()), in_order=in_order),
        Passing(socket.socket(fileno=other.detach()), in_order=in_order),
    )


@pytest.fixture(params=[True, False], ids=["in order", "any order"])
def pair(request: pytest.FixtureRequest) -> Iterator[Ends]:
    """Both ends; every descriptor is gone with them."""
    before = open_fds()
    made = ends(in_order=request.param)
    yield made
    for end in made:
        end.close()
    assert before == open_fds()


def assign(*payloads: object) -> Assign:
    return Assign([Assignment(n, 1, "id", 1, 1, "f", 9, None, 0, "p", each) for n, each in enumerate(payloads, 1)])


def test_bytes_and_files_arrive(pair: Ends) -> None:
    """E-20: what is given is there to take, under its number."""
    give, take = pair
    made = seal((b"def",), 3)
    assert made is not None
    assert [1, 2] == [give.give(b"abc"), give.give(made)]
    assert [b"abc", b"def"] == [bytes(take.take(1, 3)), bytes(take.take(2, 3))]


def test_only_the_taken_ones_are_open() -> None:
    """E-20: a file that has been taken needs no descriptor on either side."""
    give, take = ends()
    before = open_fds()
    views = []
    for number in range(1, 301):
        assert number == give.give(number.to_bytes(2, "little"))
        views.append(take.take(number, 2))
    assert before == open_fds()
    assert [number.to_bytes(2, "little") for number in range(1, 301)] == [bytes(view) for view in views]
    give.close()
    take.close()


def test_a_later_file_may_be_named_first() -> None:
    """E-20: a command that overtakes an assignment names its own file."""
    give, take = ends(in_order=False)
    before = open_fds()
    for blob in (b"1", b"22", b"333"):
        give.give(blob)
    assert [b"333", b"1", b"22"] == [bytes(take.take(number, number)) for number in (3, 1, 2)]
    assert before == open_fds()
    give.close()
    take.close()


def test_a_worker_names_its_files_in_order() -> None:
    """R21: what it passed over is closed, and cannot be named any more."""
    give, take = ends()
    before = open_fds()
    for blob in (b"1", b"22"):
        give.give(blob)
    assert b"22" == bytes(take.take(2, 2))
    assert before == open_fds()
    with pytest.raises(ProtocolError, match="memory file 1, which has been taken"):
        take.take(1, 1)
    give.close()
    take.close()


def test_what_has_not_come_is_an_error(pair: Ends) -> None:
    """R21: a frame that names nothing; it does not wait."""
    give, take = pair
    with pytest.raises(ProtocolError, match="has not come"):
        take.take(1, 3)
    give.give(b"abc")
    with pytest.raises(ProtocolError, match="announced with 4"):
        take.take(1, 4)
    give.close()
    with pytest.raises(ProtocolError):
        take.take(2, 3)


@pytest.mark.parametrize(
    ("data", "fds", "what"),
    [
        (b"x", 1, "out of order"),
        (struct.pack("<Q", 7), 1, "out of order"),
        (struct.pack("<Q", 1), 0, "without a descriptor"),
        (struct.pack("<Q", 1), 2, "not sealed"),
    ],
)
def test_what_nobody_sends_is_an_error_and_leaves_nothing_open(data: bytes, fds: int, what: str) -> None:
    """R21: other numbers, no descriptor, more than one, files that are not sealed."""
    hostile, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    take = Passing(socket.socket(fileno=end.detach()), in_order=True)
    before = open_fds()
    mine = [os.memfd_create("x") for _ in range(fds)]
    socket.send_fds(hostile, [data], mine)
    for fd in mine:
        os.close(fd)
    with pytest.raises(ProtocolError, match=what):
        take.take(1, 4096)
    assert before == open_fds()
    hostile.close()
    take.close()


_HOSTILE = """
import os, socket, sys
sock = socket.socket(fileno=int(sys.argv[1]))
fd = os.memfd_create("x", os.MFD_ALLOW_SEALING)
os.write(fd, bytes(1 << 20))
socket.send_fds(sock, [(1).to_bytes(8, "little")], [fd])
sock.recv(1)
os.ftruncate(fd, 0)
sock.send(b"cut")
sock.recv(1)
"""


def test_a_peer_that_cuts_its_file_off_does_no_harm() -> None:
    """Fact 9: a real process that sends a file unsealed and then truncates it: refused, never mapped, no SIGBUS."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(30)
    child = subprocess.Popen([sys.executable, "-c", _HOSTILE, str(theirs.fileno())], pass_fds=[theirs.fileno()])
    theirs.close()
    take = Passing(socket.socket(fileno=os.dup(ours.fileno())), in_order=True)
    import select

    assert select.select([ours], [], [], 30)[0], "it has sent nothing"
    with pytest.raises(ProtocolError, match="not sealed"):
        take.take(1, 1 << 20)
    ours.send(b"x")
    assert b"cut" == ours.recv(8)
    with open("/proc/self/maps") as maps:
        assert "memfd:x" not in maps.read()
    ours.close()
    take.close()
    assert 0 == child.wait(30)


def test_a_taker_without_descriptors_says_so_when_the_value_is_loaded(pair: Ends) -> None:
    """R26: the value is lost, its task fails and says why; the channel goes on."""
    give, take = pair
    give.give(b"abc")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        lost = take.take(1, 3)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with pytest.raises(PayloadError, match=r"the result came, but .* no descriptor .* ulimit -n"):
        loads(lost, what="result")
    give.give(b"abc")
    assert b"abc" == bytes(take.take(2, 3))


def frames(encoder: Encoder, message: object) -> bytes:
    return b"".join(encoder.encode(message))  # type: ignore[arg-type]


def test_large_blobs_go_beside_the_frame(pair: Ends) -> None:
    """E-20: of a message with a large and a small blob only the small one stands in the frame."""
    give, take = pair
    encoder, decoder = Encoder(passing=give), Decoder(passing=take)
    data = frames(encoder, assign(BIG, b"small", BIG))
    assert len(data) < 1000
    (message,) = decoder.feed(data)
    assert isinstance(message, Assign)
    assert [BIG, b"small", BIG] == [bytes(task.payload) for task in message.tasks]


@pytest.mark.parametrize("message", [Define("k", None, BIG), Request(1, 2, "checkpoint", BIG), Events([], [])])
def test_every_message_may_have_one(pair: Ends, message: object) -> None:
    """R25: decode(encode(m)) == m."""
    give, take = pair
    (back,) = Decoder(passing=take).feed(frames(Encoder(passing=give), message))
    assert message == back


def test_when_no_more_can_be_passed_blobs_go_in_parts() -> None:
    """E-20: a full socket (as when the peer does not read) is no reason to wait or to fail."""
    give, take = ends()
    encoder, decoder = Encoder(passing=give), Decoder(passing=take)
    sealed = seal((BIG,), len(BIG))
    assert sealed is not None
    data = []
    while not data or len(data[-1]) < len(BIG):
        data.append(frames(encoder, assign(sealed)))
        assert len(data) < 10_000, "the socket takes everything"
    assert len(data) > 5
    data.append(frames(encoder, assign(b"x", sealed, BIG)))
    messages = decoder.feed(b"".join(data))
    assert [BIG] * (len(data) - 1) == [bytes(m.tasks[0].payload) for m in messages[:-1]]  # type: ignore[union-attr]
    assert [b"x", BIG, BIG] == [bytes(task.payload) for task in messages[-1].tasks]  # type: ignore[union-attr]
    give.close()
    take.close()


def test_a_refused_message_passes_nothing_on(pair: Ends) -> None:
    """E-20: what cannot travel leaves no file behind, and the encoder goes on."""
    give, take = pair
    encoder = Encoder(passing=give)
    bad = assign(BIG)
    bad.tasks[0].trace = {object()}  # type: ignore[assignment]
    with pytest.raises(PayloadError):
        encoder.encode(bad)
    (message,) = Decoder(passing=take).feed(frames(encoder, assign(BIG)))
    assert BIG == bytes(message.tasks[0].payload)  # type: ignore[union-attr]
    assert 2 == give.give(b"x")


@pytest.mark.parametrize("limit", [len(BIG) - 1, 4096])
def test_a_size_is_held_against_the_limit_before_anything_is_mapped(limit: int) -> None:
    """Security rule 7: an announced size over the limit is refused by its number alone."""
    give, take = ends()
    decoder = Decoder(blob_limit=limit, passing=take)
    data = frames(Encoder(passing=give), assign(BIG))
    give.close()
    take.close()  # whatever is asked of it from now on fails in another way
    with pytest.raises(ProtocolError, match=f"a blob of {len(BIG)} bytes; allowed are {limit}"):
        decoder.feed(data)


@pytest.mark.parametrize(
    "place", ["[]", "[1]", '["1",2]', "[1,null]", "[1,-5]", "[1,0]", "{}", "1.5", "null", "[true,3]"]
)
def test_a_place_that_makes_no_sense_is_refused(pair: Ends, place: str) -> None:
    """R21: it is a protocol error, whatever stands there."""
    give, take = pair
    give.give(b"abc")
    head = f'[4,[{place}],[[1,1,"id",1,1,"f",9,null,0,"p",false,null]]]'.encode()
    with pytest.raises(ProtocolError):
        Decoder(passing=take).feed(Encoder()._writer.frame(head))


def test_a_descriptor_that_comes_is_closed_in_programs_started_from_here(pair: Ends) -> None:
    """W-10: it is close-on-exec from the first moment."""
    give, take = pair
    give.give(b"abc")
    fd = take._receive()
    assert fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    os.close(fd)
