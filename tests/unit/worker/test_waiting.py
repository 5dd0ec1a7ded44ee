"""How an idle worker waits: asleep, or awake while commands come quickly."""

from __future__ import annotations

import select
import socket
import sys
import threading
from collections.abc import Iterator

import pytest

from rxtasks.worker import waiting
from rxtasks.worker.waiting import ChannelPoll

SOON = 20.0

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="process workers need Linux")


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_it_stays_awake_only_after_a_short_wait(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """W-06: an idle worker sleeps; one that gets command after command looks again before it does, for SPIN at most."""
    ours, theirs = pair
    monkeypatch.setattr(waiting, "usable_cpus", lambda: 2)
    monkeypatch.setattr(waiting, "SPIN", 1.0)
    poll = ChannelPoll(ours.fileno())
    assert not poll._spins
    theirs.send(b"1")
    assert poll.wait(write=False) == select.POLLIN
    assert poll._spins, "what it waited for came at once"
    ours.recv(10)
    monkeypatch.setattr(waiting, "SPIN", 0.0)  # it has looked for long enough
    late = threading.Timer(0.05, theirs.send, (b"2",))
    late.start()
    assert poll.wait(write=False) == select.POLLIN
    late.join(SOON)
    assert not poll._spins, "it had to sleep"


def test_with_one_cpu_it_never_stays_awake(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """W-06: who it would wait for could not run."""
    ours, theirs = pair
    monkeypatch.setattr(waiting, "usable_cpus", lambda: 1)
    monkeypatch.setattr(waiting, "SPIN", 1.0)
    poll = ChannelPoll(ours.fileno())
    theirs.send(b"1")
    assert poll.wait(write=False) == select.POLLIN
    assert not poll._spins


def test_room_to_write_is_waited_for_only_where_asked(pair: tuple[socket.socket, socket.socket]) -> None:
    """R5: a channel that can take more is ready at once, and a closed one too."""
    ours, theirs = pair
    poll = ChannelPoll(ours.fileno())
    assert poll.wait(write=True) == select.POLLOUT
    assert poll.wait_for(0, write=False) == 0
    theirs.close()
    assert poll.wait(write=False) & select.POLLHUP
