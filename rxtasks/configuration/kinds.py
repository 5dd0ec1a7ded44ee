"""Kinds of values: what a setting takes, from a file (typed) and from text (an environment variable, a flag).

Each says in `expected` what it takes, in words that follow "is", for messages and for the manual.
"""

from __future__ import annotations

import math
import os
import reprlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

import attrs

from rxtasks.configuration.redaction import redacted_url

__all__ = [
    "Choice",
    "Flag",
    "Kind",
    "Listen",
    "Names",
    "Number",
    "PathName",
    "Settled",
    "StoreUrl",
    "Table",
    "Text",
    "Wrong",
    "absolute",
    "shown",
]

#: What stands for None in text, and in TOML, which has no word for it.
_NONE = ("none", "null")
_TRUE = ("true", "yes", "on", "1")
_FALSE = ("false", "no", "off", "0")


class Wrong(ValueError):
    """A value that the kind does not take; `hint` says what to try, or is empty."""

    def __init__(self, hint: str = "") -> None:
        super().__init__(hint)
        self.hint = hint


class Kind(Protocol):
    """What one setting takes. `base` is the absolute directory that relative paths count from."""

    @property
    def expected(self) -> str:
        """What it takes, in words."""
        ...

    def typed(self, value: Any, base: str) -> Any:
        """Return the setting for a value of a file, or of a program.

        Raises:
            Wrong: it takes no such value.
        """
        ...

    def text(self, text: str, base: str) -> Any:
        """Return the setting for a text from the environment or a flag.

        Raises:
            Wrong: it takes no such text.
        """
        ...


def shown(value: Any) -> str:
    """Return the value as messages show it: short, on one line, whatever it is."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = 80
    short.maxlevel = 2
    text = redacted_url(short.repr(redacted_url(value) if isinstance(value, str) else value))
    return {"None": "empty", "''": "an empty text"}.get(text, text)


def absolute(path: str, base: str) -> str:
    """Return a path that counts from the directory `base`, or from the home directory (~), as an absolute one."""
    return os.path.abspath(os.path.join(base, os.path.expanduser(path)))


def _or_none(expected: str, none: bool) -> str:
    return f"{expected} or none" if none else expected


def _means_none(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value.strip().lower() in _NONE)


@attrs.frozen
class Number:
    """A number, whole or not, in a range that includes its ends; `above`: not the lower one."""

    least: float
    most: float = math.inf
    whole: bool = False
    none: bool = False
    above: bool = False
    #: What it counts, as "of milliseconds".
    unit: str = ""

    @property
    def expected(self) -> str:
        what = "a whole number" if self.whole else "a number"
        least = f"above {self.least:.12g}" if self.above else f"from {self.least:.12g}"
        to = " and at most" if self.above else " to"
        most = "" if self.most == math.inf else f"{to} {self.most:.12g}"
        unit = f" {self.unit}" if self.unit else ""
        return _or_none(f"{what}{unit} {least}{most}", self.none)

    def typed(self, value: Any, base: str) -> Any:
        if self.none and _means_none(value):
            return None
        if isinstance(value, str):
            number = _number(value)
            quoted = isinstance(number, int) or (number is not None and not self.whole)
            raise Wrong("write it without quotes" if quoted else "")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Wrong
        if self.whole and isinstance(value, float):
            raise Wrong
        inside = (value > self.least) if self.above else (value >= self.least)
        if not inside or not value <= self.most or value == math.inf:
            raise Wrong
        return value

    def text(self, text: str, base: str) -> Any:
        if self.none and _means_none(text):
            return None
        number = _number(text)
        if number is None:
            raise Wrong
        return self.typed(number, base)


def _number(text: str) -> int | float | None:
    word = text.strip()
    if not word.isascii() or "_" in word:
        return None
    try:
        return int(word)
    except ValueError:
        pass
    try:
        return float(word)
    except ValueError:
        return None


@attrs.frozen
class Flag:
    """True or false."""

    @property
    def expected(self) -> str:
        return "true or false"

    def typed(self, value: Any, base: str) -> bool:
        if not isinstance(value, bool):
            raise Wrong("write it without quotes" if isinstance(value, str) and value.lower() in _TRUE + _FALSE else "")
        return value

    def text(self, text: str, base: str) -> bool:
        word = text.strip().lower()
        if word in _TRUE:
            return True
        if word in _FALSE:
            return False
        raise Wrong


@attrs.frozen
class Choice:
    """One of some words, in any case."""

    words: tuple[str, ...]
    none: bool = False

    @property
    def expected(self) -> str:
        return _or_none(f"one of {', '.join(self.words)}", self.none)

    def typed(self, value: Any, base: str) -> Any:
        if self.none and _means_none(value):
            return None
        if value is False and "off" in self.words:  # YAML reads off so
            return "off"
        if not isinstance(value, str):
            raise Wrong
        word = value.strip().lower()
        if word not in self.words:
            from rxtasks.configuration.keys import nearest

            raise Wrong(f"did you mean {near[0]}?" if (near := nearest(word, self.words)) else "")
        return word

    def text(self, text: str, base: str) -> Any:
        return self.typed(text, base)


@attrs.frozen
class Text:
    """Some text that is not empty."""

    what: str = "text"
    none: bool = False

    @property
    def expected(self) -> str:
        return _or_none(self.what, self.none)

    def typed(self, value: Any, base: str) -> Any:
        if self.none and _means_none(value):
            return None
        if not isinstance(value, str):
            raise Wrong("write it in quotes" if isinstance(value, int | float) else "")
        if not value.strip() or any(not char.isprintable() for char in value):
            raise Wrong
        return value.strip()

    def text(self, text: str, base: str) -> Any:
        return self.typed(text, base)


@attrs.frozen
class PathName(Text):
    """A path; one that is relative counts from the file that it stands in, else from the working directory."""

    what: str = "a path"
    #: Words that are no paths.
    words: tuple[str, ...] = ()

    def typed(self, value: Any, base: str) -> Any:
        if value is False and "off" in self.words:  # YAML reads off so
            return "off"
        path = super().typed(value, base)
        return path if path is None or path in self.words else absolute(path, base)


@attrs.frozen
class Names:
    """Names, as a list or separated by commas; `check` says whether a word is one."""

    what: str
    #: Returns what is wrong with a word, None: nothing is.
    check: Callable[[str], str | None] = lambda word: None
    none: bool = False

    @property
    def expected(self) -> str:
        return _or_none(self.what, self.none)

    def typed(self, value: Any, base: str) -> Any:
        if self.none and _means_none(value):
            return None
        if isinstance(value, str):
            return self.text(value, base)
        if not isinstance(value, list | tuple) or not all(isinstance(word, str) for word in value):
            raise Wrong
        return self._checked([word.strip() for word in value])

    def text(self, text: str, base: str) -> Any:
        if self.none and _means_none(text):
            return None
        words = [word.strip() for word in text.split(",")]
        return self._checked(words if words[-1] else words[:-1])

    def _checked(self, words: list[str]) -> tuple[str, ...]:
        for word in words:
            if not word:
                raise Wrong("one of them is empty")
            if (wrong := self.check(word)) is not None:
                raise Wrong(wrong)
        if self.none and not words:
            raise Wrong("write none for all")
        return tuple(dict.fromkeys(words))


@attrs.frozen
class Table:
    """Values by name; as text "mail=4,web=2"."""

    what: str
    values: Kind

    @property
    def expected(self) -> str:
        return self.what

    def typed(self, value: Any, base: str) -> Any:
        if value is None:
            return MappingProxyType({})
        if not isinstance(value, Mapping) or not all(isinstance(name, str) and name for name in value):
            raise Wrong
        return MappingProxyType({name: self.values.typed(each, base) for name, each in value.items()})

    def text(self, text: str, base: str) -> Any:
        made: dict[str, Any] = {}
        for pair in filter(str.strip, text.split(",")):
            name, sign, each = (word.strip() for word in pair.partition("="))
            if not name or not sign:
                raise Wrong("as text it is written name=value,name=value")
            if name in made:
                raise Wrong(f"{name} stands in it twice")
            made[name] = self.values.text(each, base)
        return MappingProxyType(made)


@attrs.frozen
class StoreUrl:
    """Where tasks are kept."""

    @property
    def expected(self) -> str:
        return "memory or sqlite:///PATH"

    def typed(self, value: Any, base: str) -> Any:
        if not isinstance(value, str):
            raise Wrong
        url = value.strip()
        if url == "memory":
            return url
        scheme, sign, path = url.partition("://")
        if scheme == "sqlite" and sign:
            if path.startswith("/") and len(path) > 1 and not path.endswith("/"):
                if not path.isprintable():
                    raise Wrong
                return f"sqlite:///{absolute(path[1:], base)}"
            raise Wrong("three slashes and the path of a file: sqlite:///tasks.db, or sqlite:////var/lib/tasks.db")
        if sign:
            raise Wrong(f"there is no store of the kind {scheme}" if scheme.isalnum() else "")
        if "/" in url or url.endswith((".db", ".sqlite", ".sqlite3")):
            raise Wrong(f"for a file write sqlite:///{url}")
        raise Wrong

    def text(self, text: str, base: str) -> Any:
        return self.typed(text, base)


@attrs.frozen
class Listen:
    """An address of this machine and a port."""

    @property
    def expected(self) -> str:
        return "ADDRESS:PORT, as 127.0.0.1:8080 or [::1]:8080, or none"

    def typed(self, value: Any, base: str) -> Any:
        if _means_none(value):
            return None
        if not isinstance(value, str):
            raise Wrong
        host, sign, port = value.strip().rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        if not sign or not host or (":" in host and not bracketed) or not (port.isascii() and port.isdigit()):
            raise Wrong
        if not 0 <= int(port) <= 65535:
            raise Wrong("a port is a number from 0 to 65535")
        if any(char.isspace() or char in "/@?#" for char in host):
            raise Wrong
        return f"{host}:{int(port)}"

    def text(self, text: str, base: str) -> Any:
        return self.typed(text, base)


@attrs.frozen
class Settled:
    """What a setting of the service takes by its own check, which stays the only one."""

    kind: Kind
    #: The check: raises a SettingsError.
    validate: Callable[[Any], None]
    expected: str

    def typed(self, value: Any, base: str) -> Any:
        return self._checked(self.kind.typed(value, base))

    def text(self, text: str, base: str) -> Any:
        return self._checked(self.kind.text(text, base))

    def _checked(self, value: Any) -> Any:
        from rxtasks.errors import SettingsError

        try:
            self.validate(value)
        except SettingsError as error:
            # Of a table the error says which entry; of the rest, what is expected is said anyway.
            raise Wrong(str(error) if isinstance(value, Mapping) else "") from error
        return value
