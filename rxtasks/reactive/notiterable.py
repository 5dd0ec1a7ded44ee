"""`NotIterable`: a stream that refuses `for`.

An Observable of RxPY can be indexed (`stream[2:5]` is a stream), so Python takes it for an old-style sequence: `for value in
stream` would go on for ever, with a new stream each time and never a value.
"""

from __future__ import annotations

from typing import NoReturn

__all__ = ["NotIterable"]


class NotIterable:
    """Base of streams, before Observable: iter() says what to write instead."""

    def __iter__(self) -> NoReturn:
        """Refuse.

        Raises:
            TypeError: always.
        """
        name = type(self).__name__
        raise TypeError(
            f"{name} is a stream, and `for` cannot wait for it: write `with iterate(stream) as values: for value in values:"
            " ...` or `async for value in aiterate(stream)`, or subscribe"
        )
