"""Runs of outputs on their way through the parent: numbered, paid for, and of this worker."""

from __future__ import annotations

from typing import Any

import pytest

from rxtasks.clock import utc_from_us
from rxtasks.config import Settings
from rxtasks.engine.recorder import Ends, Recorder
from rxtasks.isolation.assembler import EventAssembler
from rxtasks.lifecycle.events import LogEvent, OutputEvent, StatusEvent
from rxtasks.lifecycle.options import DEFAULT_OPTIONS
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.pool.words import CommitBatch, Now, Run
from rxtasks.stores.base import Claim, Envelope
from rxtasks.wire.message import END, OUTPUTS, RUNNING, Assignment, Events

#: When the worker says that it began and ended; the parent hears of both at NOW.
BEGAN, ENDED = 1_700_000_000_000_000, 1_700_000_001_000_000
NOW = Now(5, 1_700_000_009_000_000, 0.5)
CREDIT = 8


class Held:
    """What the recorder needs of a worker."""

    worker_id = "w"


def running(worker: Any) -> Recorder:
    """Return a recorder that holds token 1, whose attempt has begun in `worker`."""
    recorder = Recorder(Settings(credit=CREDIT))
    envelope = Envelope("T", "n", "f", None, None, "p", b"", DEFAULT_OPTIONS, 0, None, 0, False)
    claim = Claim(1, 1, envelope)
    claim.worker = worker
    recorder.hold(claim)
    begun = StatusEvent("T", 1, 1, "w", utc_from_us(BEGAN), TaskStatus.RUNNING)
    assert recorder.take([(1, begun, None, BEGAN)], worker, NOW, Ends()) is None
    return recorder


def run(first: int, count: int, size: int = 1) -> Run:
    time = utc_from_us(BEGAN)
    return Run(1, [OutputEvent("T", seq, 1, "w", time, seq) for seq in range(first, first + count)], [size] * count)


def test_a_run_is_numbered_on() -> None:
    """R4: it follows what came before it, and what comes next follows its last event."""
    worker: Any = Held()
    recorder = running(worker)
    assert recorder.take([run(2, 3)], worker, NOW, Ends()) is None
    assert 5 == recorder.claims[1].next_seq
    fault = recorder.take([run(6, 1)], worker, NOW, Ends())
    assert fault is not None and "seq 6" in fault
    out: list[Any] = []
    recorder.close_batch(out)
    (commit,) = out
    assert isinstance(commit, CommitBatch)
    assert [1, 2, 3, 4] == [event.seq for event in commit.events]


def test_a_run_takes_the_credit_of_each_of_its_events() -> None:
    """R1: more than was granted is its worker's fault, however it is bundled."""
    worker: Any = Held()
    recorder = running(worker)
    assert recorder.take([run(2, CREDIT)], worker, NOW, Ends()) is None
    fault = recorder.take([run(2 + CREDIT, 1)], worker, NOW, Ends())
    assert fault is not None and "granted" in fault


@pytest.mark.parametrize("held", [True, False])
def test_a_run_of_somebody_else_is_dropped_and_counted(held: bool) -> None:
    """R3: a worker that was given up may still say something about a task that another one has now."""
    worker: Any = Held()
    other: Any = Held()
    recorder = running(worker)
    if not held:
        recorder.claims.clear()
    assert recorder.take([run(2, 3)], other if held else worker, NOW, Ends()) is None
    assert 3 == recorder.fenced
    if held:
        assert 2 == recorder.claims[1].next_seq


def test_a_line_that_was_written_comes_behind_a_run() -> None:
    """E-03: what is written to a descriptor takes the number after the run's last, and shifts the next run."""
    assembler = EventAssembler("w")
    assembler.assigned([Assignment(1, 1, "T", 1, 1, "f", CREDIT)])
    assembler.take(Events([[RUNNING, 1, 1, BEGAN], [OUTPUTS, 1, 2, [BEGAN] * 3, [7, 8, 9], [1, 1, 1]]]))
    written = assembler.written("line", "stdout", BEGAN)
    assert written is not None and not isinstance(written, Run)
    assert isinstance(written[1], LogEvent) and 5 == written[1].seq
    (later,) = assembler.take(Events([[OUTPUTS, 1, 5, [BEGAN] * 2, [1, 2], [1, 1]]]))
    assert isinstance(later, Run) and [6, 7] == [event.seq for event in later.events]


def test_a_record_s_times_are_those_of_its_events() -> None:
    """E-02: not those at which they arrived: a short attempt begins and ends in one message."""
    assembler = EventAssembler("w")
    assembler.assigned([Assignment(1, 1, "T", 1, 1, "f", CREDIT)])
    rows: list[list[Any]] = [
        [RUNNING, 1, 1, BEGAN],
        [END, 1, 2, ENDED, "succeeded", ["j", 5], None, None, 1_000_000],
    ]
    worker: Any = Held()
    recorder = Recorder(Settings(credit=CREDIT))
    claim = Claim(1, 1, Envelope("T", "n", "f", None, None, "p", b"", DEFAULT_OPTIONS, 0, None, 0, False))
    claim.worker = worker
    recorder.hold(claim)
    assert recorder.take(assembler.take(Events(rows)), worker, NOW, Ends()) is None
    out: list[Any] = []
    recorder.close_batch(out)
    (change,) = out[0].changes
    assert (BEGAN, ENDED) == (change.started_us, change.finished_us)
