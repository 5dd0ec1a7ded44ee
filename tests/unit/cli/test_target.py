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
    yield tmp_path
    for name in [name for name in sys.modules if name.endswith("_here")]:
        del sys.modules[name]


def test_the_current_directory_is_searched_first() -> None:
    """C-02: TARGET module:function."""
    assert find("found_here:double").function(4) == 8
    assert find("found_here:Group.triple").function(4) == 12


def test_a_file_can_be_named() -> None:
    """C-02: TARGET file.py:function."""
    assert find("sub/inner_here.py:f").function(4) == -4


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("def default_inputs(): return 1 / 0", r"default_inputs\(\) of .* failed: ZeroDivisionError: .*line 1\)\.$"),
        ("def default_inputs(): raise SystemExit(3)", r"default_inputs\(\) of .* failed: SystemExit: 3"),
        ("def default_inputs(): return 5", "returns is an int, not a list of texts"),
        ("def default_inputs(): return '*.c'", "returns is a str, not a list of texts"),
        ("def default_inputs(): return []", "returns no INPUT"),
        ("def default_inputs(): return ['1']\ndefault_exclude = '*.c'", "default_exclude of .* is a str, not a list"),
        ("def default_inputs(): return ['1']\ndefault_collect = 5", "default_collect of .* is an int, not a function"),
        ("def default_inputs(): return ['1']\ndef default_collect(): pass", "default_collect of .* cannot be called"),
    ],
)
def test_what_a_module_offers_wrongly_is_one_sentence(here: Path, code: str, says: str) -> None:
    """C-02: no traceback for a mistake in the three names."""
    (here / "wrong_here.py").write_text(f"{code}\ndef f(x): return x\n")
    target = find("wrong_here:f")
    with pytest.raises(UsageMistake, match=says):
        target.defaults()


@pytest.mark.parametrize(
    ("code", "fits"),
    [
        ("def f(x): ...", True),
        ("def f(x, y=1, *rest, z=2, **more): ...", True),
        ("def f(x, ctx: TaskContext): ...", True),
        ("def f(ctx: TaskContext, x): ...", True),
        ("def f(x, *, ctx: TaskContext): ...", True),
        ("@task\ndef f(x, ctx: TaskContext): ...", True),
        ("class f:\n    def __init__(self, x): ...", True),
        ("class F:\n    def __call__(self, x): ...\nf = F()", True),
        ("f = functools.partial(lambda x, y: ..., y=2)", True),
        ("def gives_y(g): return functools.wraps(g)(lambda x: g(x, 1))\n@gives_y\ndef f(x, y): ...", True),
        ("f = int", True),
        ("def f(): ...", False),
        ("def f(x, y): ...", False),
        ("def f(*, x): ...", False),
        ("def f(ctx: TaskContext): ...", False),
        ("def f(x, y, ctx: TaskContext): ...", False),
        ("@task\ndef f(x, y): ...", False),
    ],
)
def test_a_function_that_cannot_take_one_input_is_refused(here: Path, code: str, fits: bool) -> None:
    """C-02: a mistake in TARGET is one sentence, not one failed task for each input."""
    (here / "fits_here.py").write_text(f"import functools\nfrom rxtasks import TaskContext, task\n{code}\n")
    target = find("fits_here:f")
    if fits:
        target.refuse_misfit("fits_here:f")
    else:
        with pytest.raises(UsageMistake, match=r"^fits_here:f cannot be called with one argument, the INPUT: .*\.$"):
            target.refuse_misfit("fits_here:f")


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
