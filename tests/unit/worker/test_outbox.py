"""The outbox numbers, conflates and holds back."""

from __future__ import annotations

import threading
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxtasks.errors import PayloadError, StoreError
from rxtasks.lifecycle.signals import Cancelled
from rxtasks.wire.credit import ReceiveCredit, event_cost
from rxtasks.wire.message import END, LOG, OUTPUTS, PROGRESS, RUNNING, WHOLE, Assignment, Request
from rxtasks.worker.outbox import WORKER_LINES, Outbox
from tests.unit.worker.harness import singly

SOON = 5.0


def assignment(token: int = 1, credit: int = 1000, first: int = 1) -> Assignment:
    return Assignment(token, 1, f"T{token}", 1, first, "f", credit)


class Held:
    """An outbox that holds its rows until flushed, and what came out of it."""

    def __init__(self, **more: Any) -> None:
        self.rows: list[list[Any]] = []
        #: The same as they travel.
        self.bundled: list[list[Any]] = []
        self.blobs: list[bytes] = []
        self.conflated = 0
        #: What wake() was told: soon, or not so soon.
        self.woken: list[bool] = []
        self.calmed = 0
        self.now_us = 1_700_000_000_000_000
        self.news = threading.Condition()
        clock: Any = self
        self.box = Outbox(self.sink, in_process=False, wake=self.woken.append, calm=self.calm, clock=clock, **more)

    def wall_us(self) -> int:
        """The clock of the rows: it stands still unless a test moves it."""
        return self.now_us

    def calm(self) -> None:
        self.calmed += 1

    def sink(self, rows: list[list[Any]], blobs: list[bytes], conflated: int) -> None:
        self.bundled += orjson.loads(orjson.dumps(rows))
        self.rows += singly(orjson.loads(orjson.dumps(rows)))
        self.blobs += blobs
        self.conflated += conflated
        with self.news:
            self.news.notify_all()

    def came(self, count: int) -> bool:
        """Wait until so many rows have left."""
        with self.news:
            return self.news.wait_for(lambda: len(self.rows) >= count, SOON)


def test_rows_are_numbered_when_they_leave() -> None:
    """E-03: each task's rows are numbered from its first seq, without gaps, whatever was overwritten."""
    held = Held()
    one, two = held.box.open(assignment(1)), held.box.open(assignment(2, first=10))
    one.running()
    two.running()
    one.progress(1, 2, None, None)
    one.log("INFO", "a", "log")
    one.progress(2, 2, None, None)
    two.output([1])
    one.end("succeeded", ["j", 1])
    assert [] == held.rows and [False, True] == held.woken
    held.box.flush()
    assert [(RUNNING, 1, 1), (RUNNING, 2, 10), (LOG, 1, 2), (PROGRESS, 1, 3), (OUTPUTS, 2, 11), (END, 1, 4)] == [
        tuple(row[:3]) for row in held.rows
    ]
    assert [2, 2, None, None] == held.rows[3][4:]
    assert 1 == held.conflated
    one.log("INFO", "late", "log")
    one.progress(9, None, None, None)
    one.output(9)
    held.box.flush()
    assert 6 == len(held.rows)


def test_outputs_in_a_row_are_one_row_of_their_task() -> None:
    """E-03: numbered one by one, whatever else and whoever else comes between them."""
    held = Held()
    one, two = held.box.open(assignment(1)), held.box.open(assignment(2, first=10))
    for value in (1, {"a": 2}, None):
        one.output(value)
    two.output(4)
    two.output(5)
    one.output(6)
    one.log("INFO", "a", "log")
    one.output(7)
    one.end("succeeded")
    held.box.flush()
    assert [
        (OUTPUTS, 1, 1, 1),
        (OUTPUTS, 1, 2, {"a": 2}),
        (OUTPUTS, 1, 3, None),
        (OUTPUTS, 2, 10, 4),
        (OUTPUTS, 2, 11, 5),
        (OUTPUTS, 1, 4, 6),
        (LOG, 1, 5, "INFO"),
        (OUTPUTS, 1, 6, 7),
        (END, 1, 7, "succeeded"),
    ] == [(*row[:3], row[4]) for row in held.rows]


def test_outputs_in_a_row_leave_by_themselves() -> None:
    """R6: at 256 of them or 64 KiB, as rows do."""
    held = Held()
    lane = held.box.open(assignment())
    for number in range(255):
        lane.output(number)
    assert [] == held.rows
    lane.output(255)
    assert list(range(256)) == [row[4] for row in held.rows]
    lane.output(["x" * 40_000])
    assert 256 == len(held.rows)
    lane.output(["x" * 40_000])
    assert 258 == len(held.rows)


def test_only_what_a_task_says_is_urgent() -> None:
    """R5: that a task runs may be said later than what it says; each is asked for once between two flushes."""
    held = Held()
    one, two = held.box.open(assignment(1)), held.box.open(assignment(2))
    one.running()
    two.running()
    assert [False] == held.woken
    one.log("INFO", "a", "log")
    two.progress(1, 2, None, None)
    two.output(1)
    assert [False, True] == held.woken
    held.box.flush()
    two.log("INFO", "b", "log")
    assert [False, True, True] == held.woken
    held.box.flush()
    one.end("succeeded")
    two.end("succeeded")
    assert 8 == len(held.rows) and 2 == held.calmed


def test_ends_leave_by_themselves_every_two_milliseconds() -> None:
    """A worker that goes from task to task tells their ends meanwhile; those of shorter tasks leave together."""
    held = Held()
    for token in range(1, 21):
        lane = held.box.open(assignment(token))
        lane.running()
        held.now_us += 500
        lane.end("succeeded")
        assert len(held.rows) == token // 4 * 8
    assert 5 == held.calmed


def test_ends_of_longer_tasks_wait_for_each_other_where_that_is_wanted() -> None:
    """R5: a worker that runs one task at a time tells of those of milliseconds every 10 ms, and is not woken for it."""
    held = Held()
    held.box.patient = True
    for token in range(1, 13):
        lane = held.box.open(assignment(token))
        lane.running()
        held.now_us += 3000
        lane.end("succeeded", ran_us=3000)
        assert len(held.rows) == token // 4 * 8
    assert 3 == held.calmed
    assert [False] * 3 == held.woken, "that a task runs asks for a flush, in a while; its end asks for no other"
    lane = held.box.open(assignment(13))
    lane.running()
    held.box.flush()
    lane.end("succeeded", ran_us=3000)
    assert 26 == len(held.rows), "one that is known to run has its end told at once"


def test_an_end_does_not_wait_where_several_run() -> None:
    """R5: a worker of several at a time would not notice that it was the last one."""
    held = Held()
    lane = held.box.open(assignment())
    lane.running()
    held.now_us += 3000
    lane.end("succeeded", ran_us=3000)
    assert 2 == len(held.rows)


def test_progress_in_a_row_takes_one_place() -> None:
    """R6, R8: a loop of progress keeps one row; produced = delivered + conflated."""
    held = Held()
    lane = held.box.open(assignment())
    for number in range(10_000):
        lane.progress(number, None, None, None)
    assert 1 == held.box.pending
    held.box.flush()
    assert [9999] == [row[4] for row in held.rows] and 9999 == held.conflated


def test_progress_between_others_stays_bounded_while_nothing_leaves() -> None:
    """R6: while the channel takes nothing, overwritten progress of many tasks does not pile up."""
    held = Held(ready=lambda: False)
    lanes = [held.box.open(assignment(token)) for token in range(1, 4)]
    for number in range(10_000):
        for lane in lanes:
            lane.progress(number, None, None, None)
    assert held.box.pending < 2000
    held.box._ready = None
    held.box.flush()
    assert [9999] * 3 == [row[4] for row in held.rows] and 30_000 - 3 == held.conflated


def test_a_full_outbox_flushes_by_itself() -> None:
    """R6: at 256 rows or 64 KiB rows leave without being asked."""
    held = Held()
    lane = held.box.open(assignment(credit=10_000))
    for _ in range(300):
        lane.log("INFO", "x", "log")
    assert 256 == len(held.rows)
    held.box.flush()
    lane.log("INFO", "x" * 65536, "log")
    assert 301 == len(held.rows)


def test_a_task_without_credit_waits_for_it() -> None:
    """R1, R2: at the end of its credit a task waits; a grant, cumulative, lets it go on; a repeat changes nothing."""
    held = Held()
    lane = held.box.open(assignment(credit=4))
    done = threading.Event()

    def chatter() -> None:
        for number in range(6):
            lane.output(number)
        done.set()

    thread = threading.Thread(target=chatter)
    thread.start()
    assert held.came(4)
    assert [0, 1, 2, 3] == [row[4] for row in held.rows]
    held.box.grant(1, 4)
    held.box.grant(1, 3)
    assert not done.is_set()
    held.box.grant(1, 6)
    assert done.wait(SOON)
    thread.join()
    held.box.flush()
    assert 6 == len(held.rows)


@given(st.lists(st.integers(0, 5000), max_size=40), st.integers(2, 64))
def test_every_event_fits_sooner_or_later(sizes: list[int], window: int) -> None:
    """R1: whatever the sizes, spending follows the receiver's rule and never stands still with all accepted."""
    receive = ReceiveCredit(window)
    box: Outbox

    def sink(rows: list[list[Any]], blobs: list[bytes], conflated: int) -> None:
        for row in rows:
            receive.accept(event_cost(row[-1], window))
        due = receive.due()
        if due is not None:
            box.grant(1, due)

    box = Outbox(sink, in_process=True)
    lane = box.open(assignment(credit=window))
    lane.reserve = 1
    for size in sizes:
        lane.log("INFO", "x" * size, "stdout")


def test_cancel_ends_the_wait_of_emit_and_not_of_log() -> None:
    """R5: cancel reaches a task that waits for credit in emit; a log line goes on waiting and is not lost."""
    held = Held()
    lane = held.box.open(assignment(credit=2))
    lane.output(1)
    lane.output(2)
    raised: list[BaseException] = []

    def emit() -> None:
        try:
            lane.output(3)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=emit)
    thread.start()
    held.box.cancel(1, "enough")
    thread.join(SOON)
    assert isinstance(raised[0], Cancelled) and "enough" == raised[0].reason
    logger = threading.Thread(target=lane.log, args=("INFO", "kept", "log"))
    logger.start()
    held.box.grant(1, 3)
    logger.join(SOON)
    held.box.flush()
    assert "kept" == held.rows[-1][5]


def test_close_lets_go_of_whoever_waits() -> None:
    """W-18: an abandoned attempt waits for nothing and says nothing."""
    held = Held()
    lane = held.box.open(assignment(credit=1))
    lane.output(1)
    thread = threading.Thread(target=lane.output, args=(2,))
    thread.start()
    held.box.close(1)
    thread.join(SOON)
    assert not thread.is_alive()
    lane.end("succeeded")
    held.box.flush()
    assert [OUTPUTS] == [row[0] for row in held.rows]


def test_values_are_snapshots() -> None:
    """R23: an output is what it was when it was emitted, whatever the handler does to it later."""
    held = Held()
    lane = held.box.open(assignment())
    value = {"a": [1]}
    lane.output(value)
    value["a"].append(2)
    lane.output(("t",))
    lane.output("x" * 70_000)
    with pytest.raises(PayloadError, match="output"):
        lane.output(threading.Lock())
    held.box.flush()
    assert {"a": [1]} == held.rows[0][4]
    assert "p" == held.rows[1][4][0] and "p" == held.rows[2][4][0] and 2 == len(held.blobs)
    assert [len(blob) for blob in held.blobs] == [row[4][1] for row in held.rows[1:]]


def test_objects_are_handed_over_in_one_process() -> None:
    """R7: inline and thread hand objects over uncopied, with a snapshot of what is exact JSON."""
    rows: list[Any] = []
    box = Outbox(lambda r, b, c: rows.extend(r), in_process=True)
    lane = box.open(assignment())
    value, lock = {"a": [1]}, threading.Lock()
    lane.output(value)
    lane.output(lock)
    lane.output(5)
    value["a"].append(2)
    assert rows[0][4][1] is value and {"a": [1]} == rows[0][4][4]
    assert rows[1][4][1] is lock and 4 == len(rows[1][4])
    assert [5] == rows[2][4]


def test_the_workers_own_log_is_bounded() -> None:
    """R6: lines of the worker's own log that nobody takes are dropped beyond a bound, and counted."""
    held = Held(ready=lambda: False)
    for number in range(WORKER_LINES + 50):
        held.box.worker_log("INFO", str(number), "stdout")
    assert WORKER_LINES == held.box.pending
    held.box._ready = None
    held.box.flush()
    assert WORKER_LINES + 1 == len(held.rows)
    assert "50 lines" in held.rows[-1][5]
    assert all([0, 0] == row[1:3] for row in held.rows)


def test_requests_wait_for_their_reply() -> None:
    """E-09: a request goes up after the rows before it and returns, or raises, with its reply."""
    asked: list[Request] = []
    came = threading.Semaphore(0)

    def ask(request: Request) -> None:
        asked.append(request)
        came.release()

    held = Held(ask=ask)
    lane = held.box.open(assignment())
    outcome: list[Any] = []

    def work() -> None:
        for _ in range(2):
            try:
                held.box.request(lane, "checkpoint", b"state")
                outcome.append("ok")
            except StoreError as error:
                outcome.append(str(error))

    lane.running()
    thread = threading.Thread(target=work)
    thread.start()
    assert came.acquire(timeout=SOON)
    assert [RUNNING] == [row[0] for row in held.rows]
    held.box.reply(99, True, None)
    held.box.reply(asked[0].request_id, True, None)
    assert came.acquire(timeout=SOON)
    held.box.reply(asked[1].request_id, False, "full")
    thread.join(SOON)
    assert ["ok", "full"] == outcome


def test_a_finalizer_may_print_while_rows_leave() -> None:
    """R6: a put inside a flush of the same thread neither deadlocks nor disturbs the numbers, also without credit."""
    rows: list[list[Any]] = []
    said: list[bool] = []
    lane: Any = None

    def sink(found: list[list[Any]], blobs: list[bytes], conflated: int) -> None:
        rows.extend(found)
        if len(said) < 2:
            said.append(lane.log("INFO", "from a finalizer", "log"))
            lane.progress(len(said), None, None, None)

    box = Outbox(sink, in_process=True)
    lane = box.open(assignment(credit=2))
    lane.log("INFO", "a", "log")
    assert [True, False] == said
    assert list(range(1, len(rows) + 1)) == [row[2] for row in rows]


def test_threads_put_without_losing_rows() -> None:
    """E-03: rows of many threads and a flusher are all there, numbered without a gap."""
    held = Held()
    lane = held.box.open(assignment(credit=100_000))

    def chatter(name: str) -> None:
        for number in range(500):
            lane.log("INFO", f"{name}{number}", "log")
            lane.progress(number, None, None, None)

    threads = [threading.Thread(target=chatter, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        held.box.flush()
    held.box.flush()
    assert list(range(1, len(held.rows) + 1)) == [row[2] for row in held.rows]
    for name in "abcd":
        lines = [row[5] for row in held.rows if row[0] == LOG and row[5].startswith(name)]
        assert [f"{name}{number}" for number in range(500)] == lines
    assert 2000 == held.conflated + sum(row[0] == PROGRESS for row in held.rows)


def test_short_attempts_that_say_nothing_leave_together() -> None:
    """Of a short task a worker reports one place in a row that others share, whatever its result is, as long as JSON has it."""
    held = Held()
    for token, value in ((1, None), (2, {"a": [1]}), (3, "x")):
        lane = held.box.open(assignment(token, first=token * 10))
        lane.running()
        held.now_us += 5
        lane.end("succeeded", ["j", value], ran_us=4)
    held.box.flush()
    begun = 1_700_000_000_000_000
    times = [begun, begun + 5, begun + 10]
    ended = [time + 5 for time in times]
    assert [[WHOLE, [1, 2, 3], [10, 20, 30], times, ended, [None, {"a": [1]}, "x"], [4, 4, 4]]] == held.bundled


def _say(lane: Any) -> None:
    lane.log("INFO", "a", "log")


@pytest.mark.parametrize(
    ("meanwhile", "end"),
    [
        (_say, ("succeeded", ["j", 1])),
        (lambda lane: lane.progress(1, 2, None, None), ("succeeded", ["j", 1])),
        (lambda lane: lane.output(1), ("succeeded", ["j", 1])),
        (lambda lane: lane.flush(), ("succeeded", ["j", 1])),
        (lambda lane: None, ("failed", None, None, {"type": "E", "message": "m"})),
        (lambda lane: None, ("cancelled",)),
        (lambda lane: None, ("cancelled", ["j", 1])),
        (lambda lane: None, ("succeeded", ["p", 3, "T", "t"], b"abc")),
    ],
)
def test_other_attempts_leave_row_by_row(meanwhile: Any, end: Any) -> None:
    """E-03: in the order in which things happened, between attempts that are bundled."""
    held = Held()
    for token in (1, 2, 3):
        lane = held.box.open(assignment(token))
        lane.running()
        if token == 2:
            meanwhile(lane)
            lane.end(*end)
        else:
            lane.end("succeeded", ["j", token])
    held.box.flush()
    kinds = [row[0] for row in held.bundled]
    assert [WHOLE, RUNNING] == kinds[:2] and [END, WHOLE] == kinds[-2:]
    assert [1, 1, 3, 3] == [row[1] for row in held.rows if row[1] != 2]
    seqs = [row[2] for row in held.rows if row[1] == 2]
    assert list(range(1, len(seqs) + 1)) == seqs


@pytest.mark.parametrize("first", [1, 2])
def test_attempts_side_by_side_keep_their_order(first: int) -> None:
    """E-03: of two that run at once each begins and ends where it did."""
    held = Held()
    lanes = {token: held.box.open(assignment(token)) for token in (1, 2)}
    for lane in lanes.values():
        lane.running()
    for token in (first, 3 - first):
        lanes[token].end("succeeded", ["j", token])
    held.box.flush()
    assert [(RUNNING, 1), (RUNNING, 2), (END, first), (END, 3 - first)] == [tuple(row[:2]) for row in held.rows]


def test_the_first_of_a_burst_waits_for_the_others() -> None:
    """R6: after a time in which nothing ran, the last report is long ago; that makes no end of an attempt more urgent."""
    held = Held()
    held.now_us += 60_000_000
    held.box.begin()
    for token in (1, 2, 3):
        lane = held.box.open(assignment(token))
        lane.running()
        held.now_us += 900
        lane.end("succeeded", ["j", token])
        assert len(held.rows) == (6 if token == 3 else 0)
