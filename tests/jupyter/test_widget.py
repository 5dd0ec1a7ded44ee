"""The widget's own code, run in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from rxtasks.jupyter.card import Card, Line, Row
from tests.jupyter.browser import BROWSER, drawn

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium here")

EVIL = "<img src=x onerror='window.ran = true'>"


def test_it_draws_each_card_in_the_place_of_the_one_before(tmp_path: Path) -> None:
    """N-01: bar, facts, workers' table and log lines; nothing is left behind when the view is removed."""
    first = Card(
        "resize", "running", 0.25, "1 of 4 rows", [("worker", "W1")], lines=[Line("INFO", "wrote a")], over=False
    )
    columns = ("worker", "status", "runs")
    then = Card("pool", "running", columns=columns, rows=[Row(("W1", "busy", "resize"), 0.5), Row(("W2", "idle", ""))])
    seen = drawn([first.state(), then.state()], tmp_path)
    assert ["resize", "running", "1 of 4 rows"] == seen["shown"][0].splitlines()[:3]
    assert "INFO" in seen["shown"][0] and "wrote a" in seen["shown"][0]
    assert "resize" not in seen["shown"][1].splitlines()[0]
    assert "W1\tbusy\tresize" in seen["shown"][1] and "W2\tidle" in seen["shown"][1]
    assert [0.5] == seen["bars"]
    assert 0 == seen["listeners"]


def test_texts_of_tasks_are_text(tmp_path: Path) -> None:
    """N-01: names, messages and values make no elements and run no scripts."""
    card = Card(EVIL, EVIL, 1.0, EVIL, [(EVIL, EVIL)], (EVIL,), [Row((EVIL,))], [Line(EVIL, EVIL)])
    seen = drawn([card.state()], tmp_path)
    assert not seen["ran"]
    assert {"div", "b", "span", "progress", "table", "tr", "th", "td"} == set(seen["tags"])
    assert 9 == seen["shown"][0].count(EVIL)
