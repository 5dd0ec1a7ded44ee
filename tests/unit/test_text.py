"""What comes from tasks is shown safely and shortly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxtasks.text import amount, counted, cut, duration, shown


@given(st.text(st.characters()))
def test_shown_text_is_one_harmless_line(text: str) -> None:
    """C-06: control characters, escapes, bidi marks and line ends are escaped."""
    safe = shown(text)
    assert len(safe.splitlines()) <= 1
    assert not any(char in safe for char in "\x1b\r\n\x07\x9b\u202e\u2066\u200b\ufeff\u2028")
    safe.encode("utf-8")


@pytest.mark.parametrize("text", ["plain", "größer 文字 🎉", "[bold]markup[/bold]"])
def test_readable_text_stays(text: str) -> None:
    """C-06: any script is shown as it is."""
    assert shown(text) == text


@given(st.text(), st.integers(0, 200))
def test_cut_text_fits(text: str, width: int) -> None:
    """C-02: a label never takes more than its place."""
    assert len(cut(text, width)) <= width
    assert cut(text, len(text)) == text


def test_cut_keeps_both_ends() -> None:
    """C-02: of a long path the file's name stays."""
    assert cut("/a/very/long/path/to/some/module.py", 20).endswith("module.py")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0.00 s"), (9.99, "9.99 s"), (12.34, "12.3 s"), (59.96, "1:00"), (185, "3:05"), (7385, "2:03:05")],
)
def test_durations(seconds: float, text: str) -> None:
    """C-02: seconds in the form that suits their size."""
    assert duration(seconds) == text


def test_numbers() -> None:
    """C-02: thousands are marked, one thing is no things."""
    assert [amount(1234.0), amount(0.5), amount(3)] == ["1,234", "0.5", "3"]
    assert [counted(1, "task"), counted(2000, "task")] == ["1 task", "2,000 tasks"]
