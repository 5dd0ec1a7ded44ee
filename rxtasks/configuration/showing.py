"""Settings as an operator reads them: text that could be given back, and plain values for JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from rxtasks.configuration.keys import nearest
from rxtasks.configuration.loading import Configuration
from rxtasks.configuration.redaction import redacted_url
from rxtasks.errors import SettingsError

__all__ = ["Row", "rows", "text_of"]


@attrs.frozen
class Row:
    """One setting."""

    path: str
    #: For JSON.
    value: Any
    #: As the environment would give it.
    text: str
    source: str


def rows(configuration: Configuration, keys: Sequence[str] = (), *, changed: bool = False) -> list[Row]:
    """Return the settings, or those of these names and of the tables of these names; secrets are hidden.

    Raises:
        SettingsError: there is neither a setting nor a table of a name.
    """
    paths = list(configuration.sources)
    if keys:
        wanted = []
        for key in keys:
            below = [path for path in paths if path == key or path.startswith(f"{key}.")]
            if not below:
                tables = {path.rpartition(".")[0] for path in paths} - {""}
                near = nearest(key, [*tables, *paths])
                raise SettingsError(f"there is no setting {key}" + (f"; did you mean {near[0]}?" if near else ""))
            wanted += below
        paths = list(dict.fromkeys(wanted))
    found = []
    for path in paths:
        source = configuration.sources[path]
        if changed and source in ("default", "state directory"):
            continue
        value = _plain(configuration.value(path))
        found.append(Row(path, value, text_of(value), source))
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return redacted_url(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple):
        return list(value)
    return value


def text_of(value: Any) -> str:
    """Return a value as a variable of the environment would hold it; an empty one in words."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return ",".join(f"{name}={each}" for name, each in value.items()) or "(empty)"
    if isinstance(value, list | tuple):
        return ",".join(map(str, value)) or "(empty)"
    if isinstance(value, float):
        return f"{value:.12g}"
    return str(value)
