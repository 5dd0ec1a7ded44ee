"""TARGETs of the command line are found as python would find them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rxtasks.cli.target import find
from rxtasks.cli.usage import UsageMistake

MODULE = """
number = 3
def double(x): return 2 * x
class Group:
    @staticmethod
    def triple(x): return 3 * x
def default_inputs(): return ["a", "b"]
default_exclude = ("*.c",)
default_collect = sum
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "found_here.py").write_text(MODULE)
    (tmp_path / "plain_here.py").write_text("def f(x): return x\n")
    (tmp_path / "broken_here.py").write_text("import found_here\n\n1 / 0\n")
    (tmp_path / "syntax_here.py").write_text("def f(:\n")
    (tmp_path / "needs_here.py").write_text("import no_such_package_of_ours\n")
    (tmp_path / "leaves_here.py").write_text("raise SystemExit(3)\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "inner_here.py").write_text("def f(x): return -x\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_the_current_directory_is_searched_first() -> None:
    """C-02: TARGET module:function."""
    assert find("found_here:double").function(4) == 8
    assert find("found_here:Group.triple").function(4) == 12


def test_a_file_can_be_named() -> None:
    """C-02: TARGET file.py:function."""
    assert find("sub/inner_here.py:f").function(4) == -4


def test_a_module_may_say_what_to_do_without_input() -> None:
    """C-02: default_inputs, default_exclude and default_collect."""
    defaults = find("found_here:double").defaults()
    assert defaults is not None
    assert defaults.inputs == ("a", "b")
    assert defaults.exclude == ("*.c",)
    assert defaults.collect is sum
    assert find("plain_here:f").defaults() is None


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("found_here", "TARGET is module:function or file.py:function"),
        (":f", "TARGET is module:function"),
        ("found_here:", "TARGET is module:function"),
        ("found_here:doble", "did you mean double"),
        ("found_here:number", "is an int, not a function"),
        ("no_such_module_here:f", "no module 'no_such_module_here'"),
        ("found_here.sub:f", "no module 'found_here.sub'"),
        ("bad name:f", "is no module's name"),
        ("missing.py:f", "there is no file 'missing.py'"),
        ("broken_here:f", "ZeroDivisionError: division by zero"),
        ("syntax_here:f", "SyntaxError"),
        ("needs_here:f", "No module named 'no_such_package_of_ours'"),
        ("leaves_here:f", "cannot be imported: SystemExit"),
    ],
)
def test_a_mistake_is_one_sentence(spec: str, says: str) -> None:
    """C-02: TARGET not found is exit 2 with one sentence."""
    with pytest.raises(UsageMistake) as caught:
        find(spec)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_module_that_breaks_is_told_with_its_line(here: Path) -> None:
    """C-02: the place in the user's own code is named."""
    with pytest.raises(UsageMistake) as caught:
        find("broken_here:f")
    assert f"({here}/broken_here.py, line 3)" in str(caught.value)
