"""What waits for a channel that takes no more now; sans I/O: the function that writes is given.

Messages leave in order. One that is large is drawn frame by frame, each made when the one before it has been taken: so
urgent messages pass between two of its frames (R5), and no second copy of it is made.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from rxtasks.wire.codec import Encoder
from rxtasks.wire.message import Message

__all__ = ["Outgoing"]


class Outgoing:
    """The queue of one direction of a channel; used by one thread at a time."""

    __slots__ = ("_encoder", "_urgent", "_waiting")

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._waiting: deque[bytes | memoryview | Iterator[bytes]] = deque()
        self._urgent: deque[Message] = deque()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def put(self, message: Message, *, urgent: bool = False) -> None:
        """Let `message` wait behind what waits; an `urgent` one goes next, before the next frame is made of what waits.

        Raises:
            PayloadError: it cannot travel.
        """
        if urgent and self._waiting and isinstance(self._waiting[-1], Iterator):
            self._urgent.append(message)
        else:
            self._waiting.append(self._encoder.encode_parts(message))

    def put_rest(self, rest: memoryview, frames: Iterator[bytes] | None) -> None:
        """Let what is left of a frame wait, and the frames of the same message behind it; nothing waits yet."""
        self._waiting.append(rest)
        if frames is not None:
            self._waiting.append(frames)

    def write(self, send: Callable[[bytes | memoryview], int]) -> None:
        """Give what waits to `send`, which returns how many bytes it took, until nothing does.

        Raises:
            OSError: what `send` raises; BlockingIOError: it takes no more now. What it did not take goes on waiting.
        """
        waiting = self._waiting
        while waiting:
            head = waiting[0]
            if isinstance(head, Iterator):
                frame = self._draw(head)
                if frame is None:
                    waiting.popleft()
                else:
                    waiting.appendleft(frame)
                continue
            count = send(head)
            if count == len(head):
                waiting.popleft()
            else:
                waiting[0] = memoryview(head)[count:]

    def clear(self) -> None:
        """Forget all of it."""
        self._waiting.clear()
        self._urgent.clear()

    def _draw(self, frames: Iterator[bytes]) -> bytes | None:
        if self._urgent:
            return b"".join(self._encoder.encode(self._urgent.popleft()))
        return next(frames, None)
