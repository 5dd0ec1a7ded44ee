"""Objects that were put (TaskService.put), in a worker: rebuilt when a task first needs one, and shared by all of its tasks."""

from __future__ import annotations

from typing import Any, Final

from rxtasks.errors import PayloadError
from rxtasks.wire.framing import Buffer
from rxtasks.wire.payload import loads

__all__ = ["PUT", "Objects"]

#: What the keys of objects begin with.
PUT: Final = "put:"


class Objects:
    """What was put, by key, until it is forgotten. Defined and forgotten from any thread."""

    def __init__(self) -> None:
        self._came: dict[str, Buffer] = {}
        self._made: dict[str, Any] = {}

    def define(self, key: str, content: Buffer | None) -> None:
        """Take the content of an object in."""
        self._made.pop(key, None)
        self._came[key] = b"" if content is None else content

    def forget(self, key: str) -> None:
        """Drop an object; whoever uses it now keeps it."""
        self._came.pop(key, None)
        self._made.pop(key, None)

    def find(self, key: str) -> Any:
        """Return the object, always the same one; arrays in it cannot be written to.

        Raises:
            PayloadError: it has not come, or cannot be rebuilt here.
        """
        if key in self._made:
            return self._made[key]
        content = self._came.get(key)
        if content is None:
            raise PayloadError("an object that was put has not come to this worker", "args")
        made = loads(content, what="object that was put", frozen=True)
        if self._came.get(key) is content:
            self._made[key] = made
            self._came[key] = b""  # what lies in the content is held by what was made of it
        return made
