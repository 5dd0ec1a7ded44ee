"""The table of transitions, row by row."""

from __future__ import annotations

import itertools

import pytest

from rxtasks.lifecycle.status import TaskStatus
from rxtasks.lifecycle.transitions import LEGAL, IllegalTransition, check

#: Written out once more, as the requirement has it.
TABLE = {
    "created": "pending scheduled blocked cancelled failed",
    "scheduled": "pending cancelled failed",
    "blocked": "pending cancelled failed",
    "pending": "running scheduled cancelled failed",
    "running": "succeeded failed cancelled retrying pending scheduled",
    "retrying": "pending running cancelled failed",
    "succeeded": "",
    "failed": "",
    "cancelled": "",
}


@pytest.mark.parametrize(("old", "new"), list(itertools.product(TaskStatus, TaskStatus)))
def test_a_change_is_legal_exactly_where_the_table_says(old: TaskStatus, new: TaskStatus) -> None:
    """E-02: every pair of statuses."""
    if new in TABLE[old].split():
        check("t", old, new)
    else:
        with pytest.raises(IllegalTransition):
            check("t", old, new)


def test_terminal_statuses_are_those_that_nothing_follows() -> None:
    """E-02: succeeded, failed, cancelled."""
    assert {status for status in TaskStatus if status.terminal} == {s for s, after in LEGAL.items() if not after}
    assert ["succeeded", "failed", "cancelled"] == [status for status in TaskStatus if status.terminal]


def test_an_illegal_change_shows_the_history() -> None:
    """E-02: task, both statuses, what would be legal, and the way so far."""
    with pytest.raises(IllegalTransition) as caught:
        check("T1", TaskStatus.SUCCEEDED, TaskStatus.RUNNING, ["pending", "running"])
    message = str(caught.value)
    assert "T1" in message
    assert "pending -> running -> succeeded" in message
    assert "succeeded cannot become running" in message


def test_from_every_status_the_end_can_be_reached() -> None:
    """E-02: no status is a trap."""
    for start in TaskStatus:
        seen, front = {start}, [start]
        while front:
            for new in LEGAL[front.pop()] - seen:
                seen.add(new)
                front.append(new)
        assert any(status.terminal for status in seen)
