"""Flow control with real processes: floods, and subscribers that are slow, stuck and fast, all at once."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import pytest

from benchmarks.flow import Flood, chatty, run
from rxtasks import (
    OutputEvent,
    ServiceStopped,
    StatusEvent,
    SubscriberStalled,
    TaskContext,
    TaskEvent,
    TaskService,
    WorkerSpec,
)
from rxtasks import operators as rxo
from rxtasks.worker.outbox import FLUSH_ROWS
from tests.chaos.support import LONG

_MIB = 2**20

#: By which a process may grow in a flood that is bounded; one that is not takes more (see below).
_MOST = 40 * _MIB

#: A name, how the slow subscriber is served, and how often each task speaks.
STRATEGIES: list[tuple[str, Callable[[], Any], int]] = [
    ("block", lambda: rxo.buffer_bounded(500), 1_500),
    ("drop_oldest", lambda: rxo.buffer_bounded(500, on_full="drop_oldest"), 12_000),
    ("drop_newest", lambda: rxo.buffer_bounded(500, on_full="drop_newest"), 12_000),
    ("latest", lambda: rxo.latest(), 12_000),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "strategy", "count"), STRATEGIES, ids=[each[0] for each in STRATEGIES])
def test_a_flood_is_bounded_and_hurts_nobody_beside_it(name: str, strategy: Callable[[], Any], count: int) -> None:
    """L-04, L-05, R5, R6, R8, R16, R17: memory of every process, cancel and heartbeats meanwhile, the ledger at the stop."""
    flood = run(count, strategy, stall_timeout=0.5, buffer_events=2_000, credit=100)
    assert max(flood.grown.values()) < _MOST, flood.grown
    assert flood.in_flood, "the cancel was acknowledged and obeyed while both tasks were flooding"
    assert flood.beats > 2
    assert [type(error) for error in flood.stuck_error] == [SubscriberStalled]
    check_ledger(flood, name)
    check_order(flood)
    print(f"{name}: the fast one was at most {flood.lag * 1000:.1f} ms behind the slow one", flood.grown)


def check_ledger(flood: Flood, name: str) -> None:
    """L-05: exact in each lane, and the same as what the subscribers saw."""
    ledger = flood.ledger
    assert ledger is not None and ledger.exact and flood.undelivered == {}
    assert {lane: counts.pending for lane, counts in ledger.lanes.items()} == dict.fromkeys(ledger.lanes, 0)
    dropped = sum(lane.dropped for lane in ledger.lanes.values())
    assert len(flood.fast) - len(flood.slow) == dropped
    if name == "block":
        assert dropped == ledger.progress.dropped  # overwritten while it waited for this one alone
    assert ledger.stalled == 1 and ledger.raised == 0
    for lane in ("status", "log", "output"):
        assert ledger.lanes[lane].conflated == 0


def check_order(flood: Flood) -> None:
    """R12, R8: each task's events in order to both; the fast one has every seq but those of overwritten progress."""
    for seen in (flood.fast, flood.slow):
        last: Counter[str] = Counter()
        for task_id, seq in seen:
            assert seq > last[task_id]
            last[task_id] = seq


def test_without_a_bound_the_same_flood_takes_the_memory() -> None:
    """R6: what the measure of the test above is worth: a buffer with no bound to speak of grows as long as nobody takes."""
    wide = {"buffer_events": 10**7, "buffer_bytes": 2**34, "credit": 10**6}
    flood = run(30_000, lambda: rxo.latest(), stall_timeout=3.0, **wide)
    assert max(flood.grown.values()) > _MOST, flood.grown


# -- one worker, several tasks ----------------------------------------------------------------------------------------

_said = 0


async def floods_beside(ctx: TaskContext) -> None:
    global _said
    while not ctx.cancelled:
        ctx.emit(_said)
        _said += 1
        await asyncio.sleep(0)


async def short_beside(number: int) -> int:
    """Return how much the other one in this worker has said by now."""
    await asyncio.sleep(0)
    return _said


def test_a_flood_delays_the_status_of_another_task_by_a_bounded_number_of_events() -> None:
    """R11: in the same worker, over the same channel: at most one frame's worth of the flood overtakes the end."""
    with TaskService([WorkerSpec(1, concurrency=4)], echo=None, on_exit="force") as made:
        seen = 0
        late: list[int] = []
        ended = threading.Semaphore(0)

        def look(event: TaskEvent) -> None:
            nonlocal seen
            if isinstance(event, OutputEvent):
                seen += 1
            elif isinstance(event, StatusEvent) and event.status == "succeeded":
                late.append(seen - event.result)
                ended.release()

        made.events.subscribe(look)
        flooding = made.submit(floods_beside)
        for number in range(50):
            made.submit(short_beside, number)
            assert ended.acquire(timeout=LONG)
        assert not flooding.done
        assert max(late) <= FLUSH_ROWS, late
        flooding.cancel()


# -- several streams --------------------------------------------------------------------------------------------------


def test_under_a_flood_all_streams_show_one_order_one_call_at_a_time() -> None:
    """R12, R13: bus, engine and a worker's own stream, from three workers at once."""
    with TaskService(3, echo=None) as made:
        made.start()
        calls = 0
        overlaps: list[int] = []
        orders: dict[str, list[tuple[str, int]]] = {"bus": [], "engine": []}
        ends: list[str] = []

        def into(name: str) -> Callable[[TaskEvent], None]:
            def take(event: TaskEvent) -> None:
                nonlocal calls
                calls += 1
                if calls != 1:
                    overlaps.append(calls)
                orders.setdefault(name, []).append((event.task_id, event.seq))
                calls -= 1

            return take

        made.events.subscribe(into("bus"), on_completed=lambda: ends.append("bus"))
        made.engine.subscribe(into("engine"), on_completed=lambda: ends.append("engine"))
        ids = [info.worker_id for info in made.workers()]
        for worker_id in ids:
            made.pool.worker(worker_id).events.subscribe(into(worker_id), on_completed=lambda: ends.append("worker"))
        trackers = [made.submit(chatty, 1_000) for _ in range(6)]
        for tracker in trackers:
            tracker.subscribe(into("task" + tracker.task_id))
        assert [tracker.result(LONG) for tracker in trackers] == [1_000] * 6
    assert overlaps == []
    assert orders["bus"] == orders["engine"]
    for tracker in trackers:
        mine = [pair for pair in orders["bus"] if pair[0] == tracker.task_id]
        assert orders["task" + tracker.task_id] == mine
    whole = Counter(orders["bus"])
    assert sum((Counter(orders[worker_id]) for worker_id in ids if worker_id in orders), Counter()) == whole
    assert max(whole.values()) == 1
    assert Counter(ends) == {"bus": 1, "engine": 1, "worker": 3}


class Sink:
    """A subscriber that can be looked for."""

    def __init__(self) -> None:
        self.first = threading.Event()
        self.gone = False
        self.late: list[Any] = []

    def on_next(self, value: Any) -> None:
        if self.gone:
            self.late.append(value)
        self.first.set()


PIPES: dict[str, Callable[[Any], Any]] = {
    "plain": lambda stream: stream,
    "filter": lambda stream: stream.pipe(rxo.logs()),
    "block": lambda stream: stream.pipe(rxo.buffer_bounded(50)),
    "drop_oldest": lambda stream: stream.pipe(rxo.buffer_bounded(50, on_full="drop_oldest")),
    "latest": lambda stream: stream.pipe(rxo.latest()),
    "batch": lambda stream: stream.pipe(rxo.batch(50, 0.01)),
}


@pytest.mark.parametrize("name", PIPES)
def test_a_subscriber_that_leaves_a_flood_is_forgotten_at_once(name: str) -> None:
    """R14: nothing refers to it any more while the flood goes on, and nothing comes behind dispose in its own thread."""
    with TaskService(1, echo=None, on_exit="force") as made:
        everything, tracker = made.events, made.submit(chatty, 100_000)
        for stream in (everything, tracker):
            sink = Sink()
            subscription = PIPES[name](stream).subscribe(sink.on_next)
            assert sink.first.wait(LONG)
            subscription.dispose()
            assert made.flush(LONG)  # a call that was under way has come back
            sink.gone = True
            assert sink.late == []
            reference = weakref.ref(sink)
            del sink
            if name == "filter":
                del subscription  # RxPY's own wrapper of a subscriber, which this refers to, keeps it
            gc.collect()
            assert reference() is None, gc.get_referrers(reference())
        assert not tracker.done


# -- stop -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("held", [False, True], ids=["running", "held by a full buffer"])
def test_a_stop_in_a_flood_ends_every_task_and_the_ledger_adds_up(held: bool) -> None:
    """R22, R24, L-05: what is not delivered is reported, each tracker ends, each subscriber is told of the end once."""
    release = threading.Event()
    made = TaskService(2, echo=None, stall_timeout=LONG)
    ends: list[Any] = []
    entered = threading.Event()

    def slow(_: Any) -> None:
        entered.set()
        release.wait(LONG if held else 0.0005)

    try:
        made.events.pipe(rxo.buffer_bounded(100)).subscribe(slow, ends.append, lambda: ends.append("completed"))
        trackers = [made.submit(chatty, 100_000) for _ in range(4)]
        assert entered.wait(LONG)
        until(lambda: made.health()["delivery_behind"])  # the buffer is full, and more waits for it
        racing = threading.Thread(target=submit_until_refused, args=(made, trackers))
        racing.start()
        report = made.stop(force=True)
        racing.join(LONG)
        assert not racing.is_alive()
        for tracker in trackers:
            assert isinstance(tracker.future.exception(LONG), ServiceStopped)
        ledger = report.ledger
        assert ledger is not None and ledger.exact, ledger
        if held:
            assert report.undelivered and "values in the buffer of a strategy" in " ".join(report.stuck)
        else:
            assert {name: lane.pending for name, lane in ledger.lanes.items()} == dict.fromkeys(ledger.lanes, 0)
    finally:
        release.set()
        made.stop(force=True)
    for thread in threading.enumerate():
        if thread.name.startswith("rxtasks-buffer"):
            thread.join(LONG)
    assert len(ends) == 1


def until(there: Callable[[], Any]) -> None:
    deadline = time.monotonic() + LONG
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def submit_until_refused(made: TaskService, trackers: list[Any]) -> None:
    try:
        while True:
            trackers.append(made.submit(chatty, 1))
    except ServiceStopped:
        pass


# -- without credit ---------------------------------------------------------------------------------------------------


def large_at(path: str) -> bytes:
    with open(path, encoding="utf-8"):
        pass
    return bytes(50 * _MIB)


def emits(ctx: TaskContext) -> None:
    while True:
        ctx.emit("x" * 200)


def measured(data: bytes) -> None:
    assert len(data) == 50 * _MIB


def test_without_credit_fifty_megabytes_each_way_a_cancel_and_heartbeats_pass(tmp_path: Path) -> None:
    """R5: a flood waits for credit that a held subscriber withholds; statuses, results, calls and cancels need none."""
    gate = str(tmp_path / "gate")
    os.mkfifo(gate)
    release = threading.Event()
    beats: Counter[str | None] = Counter()
    with TaskService(2, echo=None, on_exit="force", stall_timeout=LONG, heartbeat=0.1) as made:
        made.start()
        large = made.submit(large_at, gate)
        made.events.pipe(rxo.outputs(), rxo.buffer_bounded(20)).subscribe(lambda _: release.wait(LONG))
        flooding = made.submit(emits)
        until(lambda: any("waits for credit" in line for line in made.explain(flooding.task_id)))
        made.pool.subscribe(lambda event: beats.update([event.worker_id] if event.kind == "heartbeat" else []))
        answers: dict[str, str | None] = {}
        calling = threading.Thread(
            target=lambda: answers.update(made.pool.call(measured, bytes(50 * _MIB), timeout=LONG))
        )
        calling.start()
        with open(gate, "w", encoding="utf-8"):
            pass
        assert len(large.result(LONG)) == 50 * _MIB
        until(lambda: len(beats) == 2)
        assert flooding.status == "running" and flooding.cancel("enough")
        assert wait([flooding.future], LONG).done and flooding.status == "cancelled"
        calling.join(LONG)
        assert list(answers.values()) == [None, None]
        assert made.health()["delivery_behind"]
        release.set()


def test_a_ledger_that_does_not_add_up_is_said_at_the_stop(caplog: pytest.LogCaptureFixture) -> None:
    """L-05: checked at each stop; an exact one is not worth a word."""
    made = TaskService(1, isolation="thread", echo=None)
    for lost in (0, 1):
        caplog.clear()
        made.start()
        made.submit(chatty, 5).result(LONG)
        made.engine.delivery.ledger.produced["log"] += lost
        report = made.stop()
        assert report.ledger is not None and report.ledger.exact is not bool(lost)
        assert ["does not add up" in record.message for record in caplog.records] == [True] * lost
