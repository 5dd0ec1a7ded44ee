"""Arguments of a task from the command line: ARG words, --args and --kwargs.

::

    resize a.png width=64 '{"deep": [1, 2]}'   ->  resize("a.png", {"deep": [1, 2]}, width=64)

A word is JSON where it can be read as that, else the text as it stands; NAME=... with a name of Python's is a keyword. What is
not to be seen by others in the list of processes comes from a file (@PATH) or standard input (-). Mistakes are told without a
value.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Final, NoReturn

from rxtasks.cli.usage import UsageMistake
from rxtasks.text import cut, shown

__all__ = ["read_arguments"]

#: Bytes of a file of arguments at most: what a store keeps of one task.
_MOST: Final = 16 * 2**20


def read_arguments(
    words: tuple[str, ...], args: str | None, kwargs: str | None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of the call.

    Raises:
        UsageMistake: they cannot be read, or a keyword is given twice.
    """
    if args == "-" and kwargs == "-":
        raise UsageMistake("--args and --kwargs cannot both be read from standard input; give one of them as @FILE.")
    positional: list[Any] = []
    named: dict[str, Any] = {}
    given = _document("--args", args)
    if given is not None:
        if not isinstance(given, list):
            raise UsageMistake(f"--args takes a JSON list, as '[1, \"a\"]', not {_kind(given)}.")
        positional += given
    given = _document("--kwargs", kwargs)
    if given is not None:
        if not isinstance(given, dict):
            raise UsageMistake(f"--kwargs takes a JSON object, as '{{\"width\": 64}}', not {_kind(given)}.")
        named |= given
    for word in words:
        name, sign, text = word.partition("=")
        if sign and name.isidentifier():
            if name in named:
                raise UsageMistake(f"the argument {cut(shown(name), 60)} is given twice.")
            named[name] = _value(text)
        else:
            positional.append(_value(word))
    return tuple(positional), named


def _document(option: str, text: str | None) -> Any:
    if text is None:
        return None
    source = option
    if text == "-":
        if sys.stdin is None:
            raise UsageMistake(f"standard input is closed, so {option} - has nothing to read.")
        text, source = sys.stdin.read(_MOST + 1), f"{option} from standard input"
    elif text.startswith("@"):
        source = f"{option} from {cut(shown(text[1:]), 200)}"
        try:
            with open(text[1:], encoding="utf-8") as file:
                text = file.read(_MOST + 1)
        except OSError as error:
            raise UsageMistake(f"{source} cannot be read: {error.strerror or error}.") from None
        except UnicodeDecodeError:
            raise UsageMistake(f"{source} is no UTF-8 text.") from None
    if len(text) > _MOST:
        raise UsageMistake(f"{source} has more than {_MOST // 2**20} MiB; give the task the path of a file instead.")
    try:
        return _json(text)
    except ValueError as error:
        place = f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        raise UsageMistake(f"{source} is no valid JSON{place}; quote it for the shell in single quotes.") from None


def _value(text: str) -> Any:
    try:
        return _json(text)
    except ValueError:
        return text


def _json(text: str) -> Any:
    def refuse(word: str) -> NoReturn:
        raise ValueError(f"{word} is no JSON")

    try:
        return json.loads(text, parse_constant=refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")
