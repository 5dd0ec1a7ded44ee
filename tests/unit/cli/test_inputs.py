"""INPUTs of the command line become values."""

from __future__ import annotations

from pathlib import Path

import pytest

from rxtasks.cli.inputs import read_inputs
from rxtasks.cli.usage import UsageMistake


@pytest.fixture(autouse=True)
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b.py", "a.py", "pkg/c.py", "pkg/deep/d.py", "pkg/.hidden/e.py", "site-packages/f.py", "7"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def values(*words: str, exclude: tuple[str, ...] = (), lines: list[str] | None = None) -> list[object]:
    return [item.value for item in read_inputs(words, exclude, lines=lines)]


def test_an_existing_path_is_passed_as_text_a_directory_too() -> None:
    """C-02: INPUT is an existing path; a directory is a path."""
    assert values("a.py", "pkg") == ["a.py", "pkg"]


def test_a_path_comes_before_json() -> None:
    """C-02: a file called 7 is a path, 8 is a number."""
    assert values("7", "8") == ["7", 8]


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ('{"a": [1, "*"]}', {"a": [1, "*"]}),
        ("[1, 2]", [1, 2]),
        ('"text"', "text"),
        ("null", None),
        ("false", False),
        ("18446744073709551617", 2**64 + 1),
    ],
)
def test_json_is_one_value(word: str, value: object) -> None:
    """C-02: a JSON value is passed as one argument, exactly."""
    assert values(word) == [value]


def test_a_pattern_is_walked_sorted_and_counted() -> None:
    """C-02: a quoted glob, ** at any depth, the same order on every machine."""
    inputs = read_inputs(["**/*.py"])
    assert inputs.total == 5
    assert [item.value for item in inputs] == ["a.py", "b.py", "pkg/c.py", "pkg/deep/d.py", "site-packages/f.py"]
    assert [item.value for item in inputs] == [item.label for item in inputs], "it can be walked again"


def test_a_pattern_that_ends_with_a_slash_matches_directories_only() -> None:
    """C-02: as in a shell."""
    assert values("*/") == ["pkg", "site-packages"]
    assert values("**/") == ["pkg", "pkg/deep", "site-packages"]


def test_an_absolute_pattern_gives_absolute_paths(tree: Path) -> None:
    """C-02: what stands before the first wildcard stays as it is."""
    assert values(f"{tree}/pkg/*.py") == [f"{tree}/pkg/c.py"]


def test_hidden_names_need_a_pattern_with_a_dot() -> None:
    """C-02: as in a shell."""
    assert values("pkg/.*/*.py") == ["pkg/.hidden/e.py"]


def test_a_link_to_a_directory_is_not_followed_by_two_stars(tree: Path) -> None:
    """C-02: a loop of links ends."""
    (tree / "pkg" / "loop").symlink_to(tree)
    assert values("pkg/**/*.py") == ["pkg/c.py", "pkg/deep/d.py"]


def test_exclude_matches_whole_paths_or_names() -> None:
    """C-02: --exclude GLOB, repeatable."""
    found = values("**/*.py", exclude=("*site-packages/*", "a.*"))
    assert found == ["b.py", "pkg/c.py", "pkg/deep/d.py"]
    assert values("a.py", "b.py", exclude=("a.py",)) == ["b.py"]


def test_each_line_of_standard_input_is_an_input() -> None:
    """C-02: - reads one per line: a path, JSON, or text as it stands; empty lines are none."""
    inputs = read_inputs(["-"], lines=["a.py\n", "7\n", "8\n", "\n", '{"x": 1}\r\n', "https://example.org/a\n"])
    assert inputs.total is None
    assert [item.value for item in inputs] == ["a.py", "7", 8, {"x": 1}, "https://example.org/a"]


def test_standard_input_is_read_as_it_is_needed() -> None:
    """C-02: a stream without end can be read."""

    def endless() -> object:
        while True:
            yield "1\n"

    stream = iter(read_inputs(["a.py", "-"], lines=endless()))  # type: ignore[arg-type]
    assert [next(stream).value for _ in range(3)] == ["a.py", 1, 1]


@pytest.mark.parametrize(
    ("words", "exclude", "says"),
    [
        (["missing.py"], [], "there is no path 'missing.py', and it is no JSON; check the path from"),
        (["nothing*.py"], [], "no path matches the pattern 'nothing*.py'"),
        (['{"a":'], [], "is no valid JSON"),
        (["NaN"], [], "there is no path 'NaN'"),
        (["-", "-"], [], "give - once"),
        (["*.py"], ["*"], "--exclude leaves out every input"),
        (["a\0b"], [], "there is no path 'a\\x00b'"),
        (["\x1b[31mred"], [], "\\x1b[31mred"),
    ],
)
def test_a_mistake_is_one_sentence(words: list[str], exclude: list[str], says: str) -> None:
    """C-02: else exit 2 with one sentence that says what to try."""
    with pytest.raises(UsageMistake) as caught:
        read_inputs(words, exclude)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)
