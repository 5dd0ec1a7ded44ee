"""A recording of a run: every stimulus and instruction of the core as JSON lines.

One line a step: {"now": [mono_ns, wall_us, chance], "in": [...], "out": [...]}; each word is {"is": class, field: value, ...}.
Payloads and pickles appear as their length only.
"""

from __future__ import annotations

from typing import Any

import attrs
import orjson

from rxtasks.pool.words import Instruction, Now, Stimulus
from rxtasks.wire.sealed import Sealed

__all__ = ["Recording"]

#: The engine's notes on a claim point back at workers: left out.
_LEFT_OUT = frozenset({"worker", "change", "credit", "ending"})


class Recording:
    """Appends to a file; closed with the driver."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "ab")  # noqa: SIM115 - closed in close()

    def write(self, stimuli: list[Stimulus], now: Now, instructions: list[Instruction]) -> None:
        """Append one step."""
        line = {
            "now": [now.mono_ns, now.wall_us, now.chance],
            "in": [_plain(stimulus) for stimulus in stimuli],
            "out": [_plain(instruction) for instruction in instructions],
        }
        self._file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes | memoryview | Sealed):
        return {"bytes": len(value)}
    if hasattr(value, "_fields"):
        named = {name: _plain(getattr(value, name)) for name in value._fields if name not in _LEFT_OUT}
        return {"is": type(value).__name__, **named}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if attrs.has(type(value)):
        shown: dict[str, Any] = {"is": type(value).__name__}
        for field in attrs.fields(type(value)):
            if field.name not in _LEFT_OUT:
                shown[field.name] = _plain(getattr(value, field.name))
        return shown
    return repr(value)
