"""System calls that keep the interpreter, on real descriptors; and the same by the functions of `os`, as elsewhere."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from rxtasks.isolation import quickio
from rxtasks.isolation.quickio import LARGE, Receiver, send, write

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture(params=["libc", "os"])
def pair(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    if request.param == "os":
        monkeypatch.setattr(quickio, "_LIBC", None)
    elif quickio._LIBC is None:
        pytest.skip("libc cannot be called directly here")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for end in (ours, theirs):
            end.setblocking(False)
        yield ours, theirs


def test_what_is_sent_is_received(pair: Pair) -> None:
    """R25: every byte, in order, whatever the size of the pieces."""
    ours, theirs = pair
    receiver = Receiver(64 * 1024)
    for data in (b"x", b"\0" * 300, os.urandom(LARGE), os.urandom(LARGE + 1), memoryview(b"view")):
        assert send(ours, ours.fileno(), data) == len(data)
        count = receiver.receive(theirs, theirs.fileno())
        assert receiver.view[:count] == bytes(data)


def test_nothing_blocks(pair: Pair) -> None:
    """R5: an empty socket and a full one say so at once."""
    ours, theirs = pair
    with pytest.raises(BlockingIOError):
        Receiver(10).receive(theirs, theirs.fileno())
    with pytest.raises(BlockingIOError):
        for _ in range(1_000_000):
            send(ours, ours.fileno(), b"x" * LARGE)
    taken = 0
    receiver = Receiver(LARGE)
    with pytest.raises(BlockingIOError):
        while True:
            taken += receiver.receive(theirs, theirs.fileno())
    assert taken >= LARGE
    assert send(ours, ours.fileno(), b"again") == 5


def test_the_end_is_seen_by_both_sides(pair: Pair) -> None:
    """R3: end of file is 0; writing to nobody is an OSError, and no signal ends this process."""
    ours, theirs = pair
    theirs.close()
    assert Receiver(10).receive(ours, ours.fileno()) == 0
    with pytest.raises(BrokenPipeError):
        send(ours, ours.fileno(), b"x")


def test_a_full_pipe_says_so(pair: Pair) -> None:
    """R6: the token pipe holds 64 KiB; what it does not take is not written."""
    read, end = os.pipe2(os.O_NONBLOCK)
    try:
        written = 0
        with pytest.raises(BlockingIOError):
            while True:
                written += write(end, bytes(5000))
        assert written == len(os.read(read, 2**20))
        with pytest.raises(OSError, match="Bad file descriptor"):
            write(2**20, b"x")
    finally:
        os.close(read)
        os.close(end)
