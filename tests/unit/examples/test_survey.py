"""The survey measures what it says."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from rxtasks.examples import survey


def complexity(source: str) -> int:
    function = ast.parse(source).body[0]
    assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
    return survey.complexity(function)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f(): pass", 1),
        ("def f(x):\n if x: pass\n elif x > 1: pass\n else: pass", 3),
        ("def f(x): return 1 if x else 2", 2),
        ("def f(x): return x and x > 1 or x < 3", 3),
        ("def f(x):\n for y in x:\n  while y: pass", 3),
        ("def f(x): return [y for y in x if y if y > 1]", 4),
        ("def f(x):\n try: pass\n except ValueError: pass\n except KeyError: pass\n finally: pass", 3),
        ("def f(x):\n match x:\n  case 1: pass\n  case 2: pass\n  case _: pass", 3),
        ("def f(x):\n match x:\n  case y if y: pass", 2),
        ("def f(x):\n def g():\n  if x: pass\n return g", 1),
        ("async def f(x):\n async for y in x: pass", 2),
        ("def f(x):\n assert x", 2),
    ],
)
def test_complexity_is_mccabes(source: str, expected: int) -> None:
    """C-02: branching complexity."""
    assert complexity(source) == expected


def test_measure_counts_lines_and_functions(tmp_path: Path) -> None:
    """C-02: files, lines, functions."""
    file = tmp_path / "m.py"
    file.write_text(
        "class A:\n    def f(self):\n        def g(): pass\n        if 1: return g\n\nif 1:\n    def h(): pass"
    )
    found = survey.measure(str(file))
    assert (found["lines"], found["functions"], found["branching"], found["problem"]) == (7, 3, 4, None)
    assert found["most"] == [[2, "A.f", 2], [1, "A.f.g", 3], [1, "h", 7]]
    assert found["cpu_seconds"] >= 0 and found["ended"] >= found["started"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"def f(:\n", "SyntaxError in line 1"),
        (b"# coding: no-such-code\n", "SyntaxError"),
        (b"x = '\xff'\n", "SyntaxError"),
        (b"x = 1\0", ""),
        (b"(" * 5000, ""),
        (b"-" * 200_000 + b"1", ""),
    ],
)
def test_a_file_that_cannot_be_parsed_is_a_result(tmp_path: Path, content: bytes, says: str) -> None:
    """C-02: unparsable files are named; they do not fail the job."""
    file = tmp_path / "bad.py"
    file.write_bytes(content)
    found = survey.measure(str(file))
    assert found["path"] == str(file) and found["functions"] == 0
    assert found["problem"] and says in found["problem"]


def test_a_file_that_cannot_be_read_is_a_result(tmp_path: Path) -> None:
    """C-02: nor does a file that went away."""
    assert survey.measure(str(tmp_path / "gone.py"))["problem"] == "cannot be read: No such file or directory"
    assert survey.measure(str(tmp_path))["problem"] == "cannot be read: Is a directory"


def test_the_report_adds_up() -> None:
    """C-02: files, lines, functions, unparsable files, most complex functions, CPU time and speed-up."""
    common = {"started": 10.0, "ended": 14.0, "cpu_seconds": 3.8}
    good = {"path": "a.py", "problem": None, "lines": 1000, "functions": 4, "branching": 10, "most": [[7, "f", 3]]}
    bad = {
        "path": "b.py",
        "problem": "SyntaxError in line 1: no",
        "lines": 1,
        "functions": 0,
        "branching": 0,
        "most": [],
    }
    text = survey.report([good | common, bad | common])
    assert text.splitlines() == [
        "files       2",
        "lines       1,001",
        "functions   4",
        "branching   10 in all, 2.50 a function",
        "CPU time    7.60 s in 4.00 s: speed-up 1.90",
        "most complex functions",
        "      7  f  a.py:3",
        "unparsable  1",
        "  b.py: SyntaxError in line 1: no",
    ]
    assert survey.report([]).startswith("files       0")
