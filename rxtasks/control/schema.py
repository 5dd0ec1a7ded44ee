"""Values against the part of JSON Schema 2020-12 that the routes use: one schema checks what comes in and describes it.

Known words: type (also a list of them), enum, minimum, maximum, exclusiveMinimum, minLength, maxLength, pattern, items,
maxItems, properties, required, additionalProperties (False or a schema), $ref to a named schema, format date-time. Others
describe only. x-secret: a value is never told in a message. x-checked-by: what looks at a parameter instead, and takes more
than is described.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

__all__ = ["Invalid", "Schema", "Schemas", "check", "from_text"]

Schema = Mapping[str, Any]
#: By name, as in "#/components/schemas/NAME".
Schemas = Mapping[str, Schema]

_NAMED: Final = "#/components/schemas/"
_NUMBER: Final = re.compile(r"-?[0-9]{1,19}(\.[0-9]{1,19})?([eE][+-]?[0-9]{1,3})?")
_WORDS: Final = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}


class Invalid(Exception):
    """A value is not what its schema says; the message says where it is and what is accepted."""


def check(schema: Schema, value: Any, where: str, named: Schemas) -> None:
    """Check a value that was read from JSON.

    Raises:
        Invalid: it does not fit.
    """
    if "$ref" in schema:
        check(named[schema["$ref"].removeprefix(_NAMED)], value, where, named)
        return
    if "type" in schema:
        kinds = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
        if not any(_is(kind, value) for kind in kinds):
            wanted = " or ".join(_WORDS[kind] for kind in kinds)
            raise Invalid(f"{where} is {wanted}, not {_kind(value) if schema.get('x-secret') else _shown(value)}")
    if value is None:
        return
    if "enum" in schema and value not in schema["enum"]:
        words = ", ".join(str(word) for word in schema["enum"] if word is not None)
        raise Invalid(f"{where} is one of {words}, not {_shown(value)}")
    if isinstance(value, str):
        _check_text(schema, value, where)
    elif isinstance(value, bool):
        pass
    elif isinstance(value, int | float):
        _check_number(schema, value, where)
    elif isinstance(value, list):
        if len(value) > schema.get("maxItems", math.inf):
            raise Invalid(f"{where} has at most {schema['maxItems']} entries, not {len(value)}")
        for index, item in enumerate(value):
            check(schema.get("items", {}), item, f"{where}[{index}]", named)
    elif isinstance(value, dict):
        _check_object(schema, value, where, named)


def _is(kind: str, value: Any) -> bool:
    match kind:
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            whole = isinstance(value, float) and value.is_integer()
            return (isinstance(value, int) and not isinstance(value, bool)) or whole
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "array":
            return isinstance(value, list)
        case "object":
            return isinstance(value, dict)
    return value is None


def _check_text(schema: Schema, value: str, where: str) -> None:
    if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", math.inf):
        bounds = f"{schema.get('minLength', 0)} to {schema.get('maxLength', 'any number of')}"
        raise Invalid(f"{where} has {bounds} characters, not {len(value)}")
    if "pattern" in schema and re.fullmatch(schema["pattern"], value) is None:
        raise Invalid(f"{where} {schema.get('x-in-words', 'matches ' + schema['pattern'])}, not {_shown(value)}")
    if schema.get("format") == "date-time":
        try:
            aware = datetime.fromisoformat(value).tzinfo is not None
        except ValueError:
            aware = False
        if not aware:
            raise Invalid(f"{where} is a time with its zone, as 2026-01-31T12:00:00Z, not {_shown(value)}")


def _check_number(schema: Schema, value: float, where: str) -> None:
    least, most, above = schema.get("minimum"), schema.get("maximum"), schema.get("exclusiveMinimum")
    if (least is not None and value < least) or (above is not None and value <= above):
        raise Invalid(f"{where} is {f'{least} or more' if above is None else f'above {above}'}, not {_shown(value)}")
    if most is not None and value > most:
        raise Invalid(f"{where} is {most} or less, not {_shown(value)}")


def _check_object(schema: Schema, value: dict[str, Any], where: str, named: Schemas) -> None:
    known = schema.get("properties", {})
    rest = schema.get("additionalProperties", {})
    for name in schema.get("required", ()):
        if name not in value:
            raise Invalid(f"{where or 'the body'} lacks {name}")
    for name, item in value.items():
        inner = known.get(name, rest)
        if inner is False:
            raise Invalid(f"{where or 'the body'} has no {_shown(name)}; it has {', '.join(known) or 'nothing'}")
        check(inner, item, f"{where}.{name}" if where else name, named)


def from_text(schema: Schema, text: str, where: str, named: Schemas) -> Any:
    """Return what the text of a parameter says, checked.

    Raises:
        Invalid: it does not fit.
    """
    value: Any = text
    if "x-checked-by" in schema:
        if not text:
            raise Invalid(f"{where} is empty; leave it out")
        return value
    match schema.get("type"):
        case "integer":
            value = int(text) if re.fullmatch(r"-?[0-9]{1,19}", text) else text
        case "number":
            value = float(text) if _NUMBER.fullmatch(text) else text
        case "boolean":
            value = {"true": True, "false": False}.get(text, text)
    check(schema, value, where, named)
    return value


def _kind(value: Any) -> str:
    """Return what a value is, where it must not be told itself."""
    return next(word for kind, word in _WORDS.items() if _is(kind, value))


def _shown(value: Any) -> str:
    """Return a value as it may be told to whoever sent it: short, on one line."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
