"""The ledger: what became of every event."""

from __future__ import annotations

import gc

from rxtasks.lifecycle.events import LogEvent
from rxtasks.observe.ledger import LANES, Lane, Ledger
from tests.unit.observe.support import NOW, SOON, Blocker, Core


def test_a_lane_is_exact_when_everything_is_somewhere() -> None:
    """L-05: produced = delivered + conflated + dropped + pending."""
    assert Lane().exact
    assert Lane(produced=10, delivered=4, conflated=3, dropped=2, pending=1).exact
    assert not Lane(produced=10, delivered=4).exact


def test_the_report_of_a_service_adds_up_while_events_wait(core: Core) -> None:
    """L-05: also before they are delivered; conflation in the worker counts as produced and conflated."""
    blocker = Blocker()
    core.bus.subscribe(blocker)
    core.run()
    assert blocker.entered.wait(SOON)
    core.log("x")
    core.progress(1)
    core.delivery.ledger.conflated_before(5)
    report = core.delivery.ledger_report()
    assert {name: lane.pending for name, lane in report.lanes.items()} == {
        "status": 1,
        "log": 1,
        "progress": 1,
        "output": 0,
    }
    assert report.exact and (report.progress.produced, report.progress.conflated) == (6, 5)
    blocker.go_on.set()
    core.flush()
    report = core.delivery.ledger_report()
    assert report.exact and all(lane.pending == 0 for lane in report.lanes.values())
    assert tuple(report.lanes) == LANES


def test_a_dropped_event_is_forgotten_with_the_event() -> None:
    """R6: counting drops once takes memory only for events that are still alive."""
    ledger = Ledger()
    events = [LogEvent("t", seq, 1, "w", NOW, "INFO", "x") for seq in range(3)]
    for event in events * 2:
        ledger.drop(event, alone=False)
    assert ledger.report().log.dropped == 3 and len(ledger._seen) == 3
    events.clear()
    del event
    gc.collect()
    assert ledger._seen == {}
