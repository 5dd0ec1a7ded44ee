"""A task's options as JSON: what differs from the defaults, by the names of the fields.

The exception types of a retry policy are stored as "module:QualName"; the policy compares such names with those of the raised
class and its bases, so that reading them imports nothing.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import attrs
import orjson

from rxtasks.errors import SettingsError
from rxtasks.lifecycle.options import DEFAULT_OPTIONS, OpenOptions, ResourceLimits, TaskOptions
from rxtasks.lifecycle.retry import RetryPolicy, type_names

__all__ = ["options_from_json", "options_to_json"]

#: Says that they are OpenOptions; no field has this name.
_OPEN: Final = "open"


def options_to_json(options: TaskOptions) -> str | None:
    """Return the options as JSON, None for the defaults; `options_from_json` gives equal ones, exception types by name.

    Raises:
        SettingsError: an option holds text that is no Unicode.
    """
    if options is DEFAULT_OPTIONS:
        return None
    found: dict[str, Any] = {}
    for field in attrs.fields(TaskOptions):
        value = getattr(options, field.name)
        if value != getattr(DEFAULT_OPTIONS, field.name):
            found[field.name] = _plain(value)
    if type(options) is OpenOptions:
        found[_OPEN] = True
    if not found:
        return None
    try:
        return orjson.dumps(found).decode()
    except TypeError as error:
        raise SettingsError(f"TaskOptions cannot be stored: {error}") from error


def options_from_json(text: str) -> TaskOptions:
    """Return the options that `options_to_json` wrote. Fields that are not known (of a later version) are left out.

    Raises:
        ValueError, TypeError, KeyError: it has not written this.
    """
    found = orjson.loads(text)
    if type(found) is not dict:
        raise ValueError("options are no JSON object")
    values: dict[str, Any] = {}
    for field in attrs.fields(TaskOptions):
        if field.name not in found:
            continue
        value = found[field.name]
        if field.name == "retry":
            value = RetryPolicy(**_known(RetryPolicy, value))
        elif field.name == "limits":
            value = ResourceLimits(**_known(ResourceLimits, value))
        elif field.name == "run_at":
            value = datetime.fromisoformat(value)
        values[field.name] = value
    return OpenOptions(**values) if found.get(_OPEN) is True else TaskOptions(**values)


def _plain(value: Any) -> Any:
    if isinstance(value, RetryPolicy):
        plain = attrs.asdict(value)
        plain["retry_on"] = type_names(value.retry_on)
        plain["give_up_on"] = type_names(value.give_up_on)
        return plain
    if isinstance(value, ResourceLimits):
        return attrs.asdict(value)
    return value


def _known(kind: type[Any], values: dict[str, Any]) -> dict[str, Any]:
    return {field.name: values[field.name] for field in attrs.fields(kind) if field.name in values}
