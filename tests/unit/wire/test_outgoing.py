"""What waits for a channel that is full: order, urgency, and nothing twice or lost, however little is taken at a time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rxtasks.wire.codec import Decoder, Encoder
from rxtasks.wire.message import Ack, Cancel, Define, Message, Ping
from rxtasks.wire.outgoing import Outgoing


class Link:
    """Takes at most so many bytes a time, and sometimes none."""

    def __init__(self, takes: list[int]) -> None:
        self.takes = takes
        self.came = bytearray()
        self.at = 0

    def send(self, data: bytes | memoryview) -> int:
        take = self.takes[self.at % len(self.takes)]
        self.at += 1
        if not take:
            raise BlockingIOError
        self.came += bytes(data[:take])
        return min(take, len(data))


def written(outgoing: Outgoing, link: Link) -> list[Message]:
    for _ in range(100_000):
        try:
            outgoing.write(link.send)
        except BlockingIOError:
            continue
        break
    assert not outgoing
    return Decoder().feed(bytes(link.came))


@given(
    takes=st.lists(st.integers(0, 400), min_size=1, max_size=8).filter(any),
    messages=st.lists(st.builds(Cancel, st.integers(0, 99), st.integers(0, 99)), max_size=12),
)
def test_messages_leave_whole_and_in_order(takes: list[int], messages: list[Message]) -> None:
    """R4, R25: whatever the channel takes at a time."""
    outgoing = Outgoing(Encoder())
    for message in messages:
        outgoing.put(message)
    assert written(outgoing, Link(takes)) == messages


def test_an_urgent_message_passes_between_the_frames_of_a_large_one() -> None:
    """R5: a heartbeat or an acknowledgement need not wait behind three megabytes."""
    outgoing = Outgoing(Encoder())
    large = Define("key", None, b"x" * (3 * 2**20))
    outgoing.put(Ping(1))
    outgoing.put(large)
    outgoing.put(Ack(7), urgent=True)
    link = Link([2**21])
    assert written(outgoing, link) == [Ack(7), Ping(1), large]
    outgoing.clear()
    assert not outgoing


def test_a_rest_goes_first() -> None:
    """R4: what a channel did not take of a frame, before anything that came later."""
    encoder = Encoder()
    outgoing = Outgoing(encoder)
    first, rest = encoder.encode_first(Ping(1))
    link = Link([5])
    count = link.send(first)
    outgoing.put_rest(memoryview(first)[count:], rest)
    outgoing.put(Ping(2))
    assert written(outgoing, link) == [Ping(1), Ping(2)]
