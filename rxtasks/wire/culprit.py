"""Where in a value is what cannot travel? Asked only after something has failed; may be slow."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

__all__ = ["children", "find_culprit", "names_in", "short"]

#: Steps down into a value, and values tried in all.
_DEEPEST: Final = 100
_MOST_TRIED: Final = 20_000
_PLAIN: Final = frozenset({type(None), bool, int, float, complex, str, bytes, bytearray, range})


def find_culprit(roots: Mapping[str, Any], dump: Callable[[Any], object]) -> tuple[str, Any, BaseException | None]:
    """Return (path, value, error) of the innermost value in `roots` that `dump` refuses; ("", None, None) if none.

    It goes down into the first part that fails, and stops where no part fails by itself.
    """
    tried = 0
    path: str = ""
    culprit: Any = None
    reason: BaseException | None = None
    seen: set[int] = set()
    parts: Iterator[tuple[str, Any]] = iter(roots.items())
    for _ in range(_DEEPEST):
        for step, part in parts:
            if type(part) in _PLAIN or id(part) in seen:
                continue
            tried += 1
            if tried > _MOST_TRIED:
                return path, culprit, reason
            error = _refusal(part, dump)
            if error is not None:
                seen.add(id(part))
                path, culprit, reason = path + step, part, error
                parts = children(part)
                break
        else:
            break
    return path, culprit, reason


def children(value: Any) -> Iterator[tuple[str, Any]]:
    """Return the parts of `value` with the step that leads to each: [0], ['key'], .name; never raises."""
    try:
        if isinstance(value, dict):
            return iter([(f"[{short(repr(key), 60)}]", item) for key, item in value.items()])
        if isinstance(value, list | tuple):
            return iter([(f"[{index}]", item) for index, item in enumerate(value)])
        if isinstance(value, set | frozenset):
            return iter([("{...}", item) for item in value])
        if isinstance(value, types.MethodType):
            return iter([(".__func__", value.__func__), (".__self__", value.__self__)])
        if isinstance(value, functools.partial):
            return iter([(".func", value.func), (".args", value.args), (".keywords", value.keywords)])
        if callable(value) and hasattr(value, "__closure__"):
            return _closure(value)
        return _attributes(value)
    except Exception:
        return iter(())


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    found: dict[str, Any] = dict(getattr(value, "__dict__", None) or {})
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                found[name] = getattr(value, name)
    return iter([(f".{name}", item) for name, item in found.items()])


def _closure(function: Any) -> Iterator[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    names = function.__code__.co_freevars
    for name, cell in zip(names, function.__closure__ or (), strict=False):
        try:
            found.append((f".<{name}>", cell.cell_contents))
        except ValueError:
            continue
    for name in dict.fromkeys(names_in(function.__code__)):
        if name in function.__globals__:
            found.append((f".<{name}>", function.__globals__[name]))
    found += [(".__defaults__", function.__defaults__), (".__kwdefaults__", function.__kwdefaults__)]
    found += [(f".{name}", item) for name, item in vars(function).items()]
    return iter(found)


def names_in(code: types.CodeType) -> Iterator[str]:
    """Yield every name that `code`, or code within it, may look up in globals (attributes' names among them)."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from names_in(constant)


def _refusal(value: Any, dump: Callable[[Any], object]) -> BaseException | None:
    try:
        dump(value)
    except Exception as error:
        return error
    return None


def short(text: str, most: int = 300) -> str:
    """Return `text` in one line of at most `most` characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 3] + "..."
