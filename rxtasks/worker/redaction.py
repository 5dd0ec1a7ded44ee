"""What secrets have revealed to the handlers of a worker, taken out of what those say: logs, progress, errors.

Values are looked for as text: as they are, as they look in a repr and in JSON, and line by line where they have several (a
key in PEM), for logs are lines. Results, outputs and checkpoints are values, exact or refused, and stay as they are.
"""

from __future__ import annotations

import json
from typing import Any, Final

__all__ = ["Redactor"]

_MASK: Final = "***"
#: Characters of the shortest value that is looked for: shorter ones stand in every other line by chance.
_SHORTEST: Final = 4
#: The same for one line of several: "-----BEGIN" and its like are left.
_SHORTEST_LINE: Final = 12
#: Values that are remembered, the last ones (R6).
_MOST: Final = 200


class Redactor:
    """Replaces revealed values by "***"."""

    __slots__ = ("_needles",)

    def __init__(self) -> None:
        #: The longest first: one may be part of another.
        self._needles: tuple[str, ...] = ()

    def add(self, value: str) -> None:
        """Look for `value` from now on."""
        found = dict.fromkeys(self._needles)
        lines = [line.strip() for line in value.splitlines()] if "\n" in value else []
        for text in (value, *(line for line in lines if len(line) >= _SHORTEST_LINE)):
            if len(text) >= _SHORTEST:
                found.update(dict.fromkeys((text, repr(text)[1:-1], json.dumps(text)[1:-1])))
        self._needles = tuple(sorted([*found][-_MOST:], key=len, reverse=True))

    def error(self, error: dict[str, Any], blob: bytes | None) -> tuple[dict[str, Any], bytes | None]:
        """Return what is told of an exception without the values; and the exception itself only if it holds none of them."""
        shown: dict[str, Any] = self.data({key: value for key, value in error.items() if key != "object"})
        told = any(shown[key] != error[key] for key in shown)
        if not told and (blob is None or not any(needle.encode() in blob for needle in self._needles)):
            return error, blob
        shown.pop("pickle", None)
        return shown, None

    def text(self, text: str) -> str:
        """Return the text without the values."""
        for needle in self._needles:
            if needle in text:
                text = text.replace(needle, _MASK)
        return text

    def data(self, data: Any) -> Any:
        """Return JSON data with every text in it, keys included, without the values."""
        match data:
            case str():
                return self.text(data)
            case dict():
                return {self.data(key): self.data(value) for key, value in data.items()}
            case list() | tuple():
                return [self.data(value) for value in data]
        return data
