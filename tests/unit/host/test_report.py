"""Exit codes of a pool's process."""

from __future__ import annotations

import signal

from rxtasks.engine.report import StopReport
from rxtasks.host.report import outcome_of
from rxtasks.host.wake import Ask

TERM = Ask("SIGTERM", signal.SIGTERM)
INT = Ask("SIGINT", signal.SIGINT)
CLEAN = StopReport()


def test_the_exit_code_says_whether_something_is_lost_and_who_cut_it_off() -> None:
    """0 in order, 1 lost or failed, 128 + the second signal; what a durable store keeps is not lost."""
    for report, unfinished, asks, durable, code in (
        (CLEAN, (), [TERM], True, 0),
        (CLEAN, ("a",), [TERM], True, 0),
        (CLEAN, ("a",), [TERM], False, 1),
        (CLEAN, ("a", "b"), [Ask("control", force=True)], True, 0),
        (CLEAN, ("a",), [TERM, TERM], True, 143),
        (CLEAN, ("a",), [INT, INT], True, 130),
        (CLEAN, (), [TERM, INT], True, 130),
        (StopReport(undelivered={"log": 3}), (), [TERM], True, 1),
        (CLEAN, (), [Ask("the engine failed", failed=True)], True, 1),
        (None, (), [TERM], True, 1),
    ):
        found = outcome_of(report, unfinished, asks, durable=durable)
        assert code == found.exit_code, (unfinished, asks, found)
        assert found.kept is durable and found.unfinished == unfinished
