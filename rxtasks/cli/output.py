"""What commands write to standard output: one JSON object, or a line of JSON for each."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from datetime import date, datetime
from typing import Any

__all__ = ["write_json", "write_json_lines"]


def write_json(value: Any) -> None:
    """Write one value as a line of JSON, in ASCII: no terminal and no encoding makes anything else of it.

    Raises:
        BrokenPipeError: the reader left; `main` makes exit code 141 of it.
    """
    sys.stdout.write(json.dumps(value, default=_plain) + "\n")


def write_json_lines(values: Iterable[Any]) -> None:
    """Write each value as a line of JSON at once, so that whoever follows them is not behind.

    Raises:
        BrokenPipeError: the reader left.
    """
    for value in values:
        write_json(value)
        sys.stdout.flush()


def _plain(value: Any) -> Any:
    if isinstance(value, date | datetime):
        return value.isoformat()
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    return str(value)
