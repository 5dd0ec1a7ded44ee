"""INPUTs of the command line become the values that tasks are called with.

::

    a path that exists     -> the path, as text (a directory is a path too)
    JSON                   -> the value: an object is passed as one argument, not as keywords
    a pattern (* ? [ **)   -> each path that matches, sorted; quoted, so that the shell leaves it alone
    -                      -> each line of standard input: JSON where it is, else the line as it stands

Patterns are walked when the tasks are submitted, never held: a million files cost no memory. They are walked once
before, to count them and to say so at once where nothing matches.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, NoReturn

from rxtasks.cli.paths import Excluder, has_magic, matches
from rxtasks.cli.usage import UsageMistake
from rxtasks.text import cut, shown

__all__ = ["Input", "Inputs", "read_inputs"]


class Input(NamedTuple):
    """One task's argument, and the words by which it is shown."""

    label: str
    value: Any


class Inputs:
    """All inputs of a run, in order; `total` is their number, None where it is not known before (standard input)."""

    def __init__(self, sources: Sequence[Callable[[], Iterator[Input]]], total: int | None) -> None:
        self._sources = sources
        self.total = total

    def __iter__(self) -> Iterator[Input]:
        for source in self._sources:
            yield from source()


def read_inputs(words: Sequence[str], exclude: Sequence[str] = (), *, lines: Iterable[str] | None = None) -> Inputs:
    """Return the inputs that `words` name; `lines` stands for standard input.

    Raises:
        UsageMistake: a word is none of the four forms, matches nothing, or everything is excluded.
    """
    excluder = Excluder(exclude)
    sources: list[Callable[[], Iterator[Input]]] = []
    total: int | None = 0
    for word in words:
        source, number = _source(word, excluder, lines)
        sources.append(source)
        total = None if total is None or number is None else total + number
    if words.count("-") > 1:
        raise UsageMistake("standard input can be read once only; give - once.")
    if total == 0:
        raise UsageMistake("--exclude leaves out every input; widen INPUT or exclude less.")
    return Inputs(sources, total)


def _source(
    word: str, exclude: Excluder, lines: Iterable[str] | None
) -> tuple[Callable[[], Iterator[Input]], int | None]:
    if word == "-":
        standard = lines if lines is not None else _standard_input()
        return (lambda: _lines(standard)), None
    if _exists(word):
        kept = [] if exclude.file(word) else [Input(word, word)]
        return (lambda: iter(kept)), len(kept)
    try:
        value = _json(word)
    except ValueError:
        pass
    else:
        return (lambda: iter([Input(word, value)])), 1
    if has_magic(word):
        number = sum(1 for _ in matches(word, exclude))
        if number or next(matches(word), None) is not None:
            return (lambda: (Input(path, path) for path in matches(word, exclude))), number
        raise UsageMistake(f"no path matches the pattern {_quoted(word)}; check it with: ls {shown(word)}")
    _refuse(word)


def _exists(word: str) -> bool:
    try:
        return os.path.lexists(word)
    except ValueError:  # a NUL in it
        return False


def _json(text: str) -> Any:
    def refuse(word: str) -> NoReturn:
        raise ValueError(f"{word} is no JSON")

    try:
        return json.loads(text, parse_constant=refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _standard_input() -> Iterable[str]:
    if sys.stdin is None:
        raise UsageMistake("standard input is closed, so - has nothing to read; give it a file or a pipe.")
    if isinstance(sys.stdin, io.TextIOWrapper):
        # Names of files are bytes; what is no UTF-8 among them is carried as os.fsdecode does.
        sys.stdin.reconfigure(errors="surrogateescape")
    return sys.stdin


def _lines(lines: Iterable[str]) -> Iterator[Input]:
    for line in lines:
        text = line.rstrip("\r\n")
        if not text:
            continue
        if _exists(text):
            yield Input(text, text)
            continue
        try:
            yield Input(text, _json(text))
        except ValueError:
            yield Input(text, text)


def _quoted(word: str) -> str:
    return f"'{cut(shown(word), 120)}'"


def _refuse(word: str) -> NoReturn:
    if not word:
        raise UsageMistake("an INPUT is empty (an unset variable of the shell?); empty text is JSON: '\"\"'.")
    if word[0] in '{["':
        raise UsageMistake(f"{_quoted(word)} is no valid JSON and no path; quote it for the shell in single quotes.")
    raise UsageMistake(
        f"there is no path {_quoted(word)}, and it is no JSON; "
        f"check the path from {cut(shown(os.getcwd()), 200)}, or pass text as JSON: '\"text\"'."
    )
