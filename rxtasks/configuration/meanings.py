"""What settings mean: the `#:` comments above the fields of their classes."""

from __future__ import annotations

import inspect
import re
from typing import Any, Final

__all__ = ["meanings"]

_FIELD: Final = re.compile(r"    (\w+): ")


def meanings(settings: type[Any]) -> dict[str, str]:
    """Return the comment above each field of a class, as one paragraph.

    Raises:
        OSError: the source is not there.
    """
    found: dict[str, str] = {}
    lines: list[str] = []
    for line in inspect.getsource(settings).splitlines():
        if line.strip().startswith("#:"):
            lines.append(line.strip().removeprefix("#:").strip())
            continue
        field = _FIELD.match(line)
        if field is not None and lines:
            found[field[1]] = " ".join(lines)
        lines = []
    return found
