"""Whatever stands in a file, in the environment and in flags: it loads, or a SettingsError says what is wrong."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import attrs
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rxtasks.config import Settings, make_settings
from rxtasks.configuration import Configuration, load
from rxtasks.configuration.keys import camel, variable
from rxtasks.configuration.loading import kinds_by_path
from rxtasks.configuration.showing import rows
from rxtasks.errors import SettingsError

PATHS = list(kinds_by_path())
NAMES = sorted({part for path in PATHS for part in path.split(".")})
WORDS = [
    "none",
    "",
    "yes",
    "4",
    "1e400",
    "nan",
    "process",
    "memory",
    "sqlite:///x",
    "127.0.0.1:1",
    "a=1,b=2",
    "warn",
    "🐍",
]

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(WORDS)
    | st.text(max_size=8)
    | st.just([])
    | st.lists(st.sampled_from(WORDS), max_size=3)
)
keys = st.sampled_from(NAMES) | st.sampled_from(NAMES).map(camel) | st.text(max_size=5)
trees = st.dictionaries(
    keys,
    st.recursive(scalars, lambda inner: st.dictionaries(keys, inner, max_size=4) | st.lists(inner, max_size=3)),
    max_size=4,
)


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for path, value in flat.items():
        *tables, name = path.split(".")
        here = made
        for table in tables:
            here = here.setdefault(table, {})
        here[name] = value
    return made


#: Trees whose keys are right, so that it is the values that are tried.
right = st.dictionaries(st.sampled_from(PATHS), scalars, max_size=4).map(nested)


def judged(loaded: Configuration) -> None:
    """See that what has loaded is whole: the service takes it, and it can be shown and be given back."""
    arguments = loaded.service_arguments() if loaded.sources["store"] != "state directory" else {}
    taken = {name: value for name, value in arguments.items() if name in attrs.fields_dict(Settings)}
    make_settings(taken)
    shown = rows(loaded)
    assert [row.path for row in shown] == PATHS
    json.dumps([row.value for row in shown])
    back = {row.path: row.text for row in shown if row.text != "(empty)"}
    again = load(back, directory=Path("/"), environ={"HOME": "/"})
    assert again.values == loaded.values


def attempt(text: str | None, environ: dict[str, str], flags: dict[str, object]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        if text is not None:
            (Path(folder) / "rxtasks.yaml").write_text(text, "utf-8", "surrogatepass")
        try:
            loaded = load(flags, directory=Path(folder), environ={"HOME": folder, **environ})
        except SettingsError as error:
            assert str(error)
            return
        judged(loaded)


@settings(max_examples=60, deadline=None)
@given(st.one_of(trees, right))
@example({"store": "memory", "workers": {"limits": {"cpu_percent": 1e308, "memory_mb": 10**9}}})
@example({"store": "memory", "workers": {"limits": {"memory_mb": 1e308}}})
def test_any_tree_in_a_file(tree: dict[str, Any]) -> None:
    """C-05: JSON is YAML."""
    attempt(json.dumps(tree), {}, {})


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=60) | st.lists(st.sampled_from(list("{}[]:,-*&!'\"\n #?ax1~|>%@")), max_size=30).map("".join))
def test_any_text_in_a_file(text: str) -> None:
    """C-05: well-formed or not."""
    attempt(text, {}, {})


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(st.sampled_from(PATHS), st.sampled_from(WORDS) | st.text(max_size=8), max_size=3),
    st.dictionaries(st.sampled_from(PATHS) | st.text(max_size=8), scalars, max_size=3),
)
def test_any_variables_and_flags(variables: dict[str, str], flags: dict[str, object]) -> None:
    """C-05: text and values of programs."""
    attempt(None, {variable(path): text for path, text in variables.items()}, flags)
