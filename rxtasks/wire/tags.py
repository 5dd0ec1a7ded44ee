"""What the writer and the reader of tagged JSON share."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

__all__ = ["TAG", "cut", "field_names"]

#: The key by which a tagged value is known.
TAG: Final = "$t"

_NATIVE: Final = (list, dict, tuple, set, frozenset, str, bytes, bytearray, int, float, complex, BaseException)


def field_names(kind: type[Any]) -> list[str] | None:
    """Return the names of the fields of a dataclass or attrs class, None for any other."""
    if any(base in kind.__mro__ for base in _NATIVE):
        return None
    if "__attrs_attrs__" in kind.__dict__:
        return [field.name for field in kind.__attrs_attrs__]
    if "__dataclass_fields__" in kind.__dict__:
        return [field.name for field in dataclasses.fields(kind)]
    return None


def cut(path: str) -> str:
    """Return `path` in at most 300 characters."""
    return path if len(path) <= 300 else path[:150] + "..." + path[-147:]
