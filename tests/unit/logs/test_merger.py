"""The merger between its streams and those who read."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
from reactivex.subject import Subject

from rxtasks import SettingsError, TaskEvent, WorkerEvent
from rxtasks.logs import LogFilter, LogLine, LogMerger, RotatedFiles
from rxtasks.logs import followers as room
from rxtasks.logs.reorder import Reordering
from tests.unit.logs.support import OTHER, TASK, at, happened, said

LONG = 30.0


class Reader:
    """An observer that keeps lines; it can be held."""

    def __init__(self) -> None:
        self.lines: list[LogLine] = []
        self.ended = threading.Event()
        self.go = threading.Event()
        self.go.set()
        self.entered = threading.Event()
        self._changed = threading.Condition()

    def on_next(self, value: LogLine) -> None:
        self.entered.set()
        assert self.go.wait(LONG)
        with self._changed:
            self.lines.append(value)
            self._changed.notify_all()

    def on_error(self, error: Exception) -> None:
        raise error

    def on_completed(self) -> None:
        self.ended.set()

    def messages(self, count: int) -> list[str]:
        """Return the messages once there are `count`."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.lines) >= count, LONG), self.lines
            return [line.message for line in self.lines]


@pytest.fixture
def events() -> Subject[TaskEvent]:
    return Subject()


@pytest.fixture
def merger(events: Subject[TaskEvent]) -> Iterator[LogMerger]:
    made = LogMerger(events, window=0.0, names={TASK: "app:resize"}.get)
    yield made
    made.close()


def test_lines_have_their_tasks_name_and_reach_all_who_follow(events: Subject[Any], merger: LogMerger) -> None:
    """C-06: live, with the source tag."""
    one, other = Reader(), Reader()
    merger.lines.subscribe(one)
    merger.lines.subscribe(other)
    events.on_next(said(0, "first"))
    events.on_next(said(1, "second", OTHER))
    assert ["first", "second"] == one.messages(2) == other.messages(2)
    assert ["0ABCDE app:resize", "0ABCDE 000002"] == [line.source for line in one.lines]


def test_a_slow_reader_holds_nobody_up_and_is_told_what_it_missed(
    events: Subject[Any], merger: LogMerger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C-06: a slow terminal blocks nobody."""
    monkeypatch.setattr(merger._followers, "_capacity", 10)
    slow, quick = Reader(), Reader()
    slow.go.clear()
    merger.lines.subscribe(slow)
    monkeypatch.setattr(merger._followers, "_capacity", 10_000)
    merger.lines.subscribe(quick)
    events.on_next(said(0, "0"))
    assert slow.entered.wait(LONG)
    for number in range(1, 101):
        events.on_next(said(number, str(number)))
    assert [str(number) for number in range(101)] == quick.messages(101)
    assert 90 == merger.counts.missed
    slow.go.set()
    assert ["0", "90 lines dropped here: they came faster than this reader takes them", "91"] == slow.messages(12)[:3]
    assert [str(number) for number in range(91, 101)] == slow.messages(12)[2:]


def test_the_memory_keeps_the_last_lines_and_counts_the_others(events: Subject[Any]) -> None:
    """C-06: a ring with a drop count, queried by filter and limit."""
    merger = LogMerger(events, ring=10, window=0.0)
    reader = Reader()
    merger.lines.subscribe(reader)
    for number in range(25):
        events.on_next(said(number, str(number), level="ERROR" if number % 2 else "INFO"))
    reader.messages(25)
    assert [str(number) for number in range(15, 25)] == [line.message for line in merger.query()]
    assert ["21", "23"] == [line.message for line in merger.query(LogFilter(level="error"), 2)]
    assert [] == merger.query(limit=0) and 15 == merger.dropped
    merger.close()


def test_the_memory_is_bounded_in_bytes_too() -> None:
    """R6: 10,000 lines of 64 KiB are not kept."""
    from rxtasks.logs.ring import Ring

    ring = Ring(10_000, size=100_000)
    ring.extend([LogLine.of_event(said(number, "x" * 10_000)) for number in range(50)])
    assert 9 == len(ring.query(LogFilter(), None)) and 41 == ring.dropped


def test_who_follows_gets_the_last_lines_and_then_what_comes_without_a_gap(events: Subject[Any]) -> None:
    """C-06: follow with a filter: none twice, none left out, while lines come."""
    merger = LogMerger(events, window=0.0, duplicates=False)
    over = threading.Event()
    count = 0

    def emit() -> None:
        nonlocal count
        while not over.is_set() or count % 2:
            events.on_next(said(count, str(count), level="ERROR" if count % 2 else "INFO"))
            count += 1
            threading.Event().wait(0.0005)

    first = Reader()
    merger.lines.subscribe(first)
    emitter = threading.Thread(target=emit)
    emitter.start()
    first.messages(20)
    readers = [Reader() for _ in range(5)]
    for reader in readers:
        merger.follow(LogFilter(level="error"), last=3).subscribe(reader)
    first.messages(len(first.lines) + 50)
    over.set()
    emitter.join(LONG)
    assert merger.close(LONG)
    for reader in readers:
        assert reader.ended.wait(LONG)
        found = [int(line.message) for line in reader.lines]
        assert list(range(found[0], count, 2)) == found and found[0] % 2 and len(found) > 3


def test_close_gives_out_what_waits_and_ends_all(events: Subject[Any], tmp_path: Path) -> None:
    """C-06: repetitions and lines in the window are not lost at the end; the streams are let go."""
    merger = LogMerger(events, window=60.0)
    reader, files = Reader(), RotatedFiles(tmp_path)
    merger.lines.subscribe(reader)
    merger.lines.subscribe(files)
    for number in range(4):
        events.on_next(said(number, "same"))
    assert merger.close(LONG)
    assert reader.ended.is_set() and not events.observers
    assert ["same", "last message repeated 3 times: same"] == reader.messages(2)
    assert ["same", "last message repeated 3 times: same"] == [line.message for line in files.query()]
    assert (0, 3) == (reader.lines[0].repeated, reader.lines[1].repeated)
    assert merger.close() and 3 == merger.counts.repeated
    late = Reader()
    merger.lines.subscribe(late)
    assert late.ended.wait(LONG)


def test_close_does_not_wait_for_a_reader_that_is_stuck(events: Subject[Any]) -> None:
    """C-06: it says that not all was taken."""
    merger = LogMerger(events, window=0.0)
    stuck = Reader()
    stuck.go.clear()
    merger.lines.subscribe(stuck)
    events.on_next(said(0))
    assert stuck.entered.wait(LONG)
    assert not merger.close(0.05)
    stuck.go.set()
    assert stuck.ended.wait(LONG)


def test_a_reader_that_raises_is_detached_alone(events: Subject[Any], merger: LogMerger) -> None:
    """R15: the others miss nothing, and close() does not wait for it."""
    fine = Reader()
    merger.lines.subscribe(lambda _: 1 / 0)
    merger.lines.subscribe(fine)
    events.on_next(said(0, "one"))
    events.on_next(said(1, "two"))
    assert ["one", "two"] == fine.messages(2)
    assert merger.close(LONG)


def test_a_reader_may_close_query_and_follow_in_its_call(events: Subject[Any], merger: LogMerger) -> None:
    """R18: no deadlock."""
    done = threading.Event()

    def on_next(_: LogLine) -> None:
        merger.query()
        merger.follow(last=1).subscribe(lambda _: None)
        merger.close(LONG)
        done.set()

    merger.lines.subscribe(on_next)
    events.on_next(said(0))
    assert done.wait(LONG)


def test_what_the_pool_says_stands_among_the_lines(events: Subject[Any]) -> None:
    """C-06: a lost worker is seen where it was lost."""
    pool: Subject[WorkerEvent] = Subject()
    merger = LogMerger(events, pool, window=0.0)
    reader = Reader()
    merger.lines.subscribe(reader)
    events.on_next(said(0, "before"))
    pool.on_next(happened(1, "busy"))
    pool.on_next(happened(2, "failed", "signal 9"))
    events.on_next(said(3, "after"))
    assert ["before", "worker lost: signal 9", "after"] == reader.messages(3)
    assert ["worker lost: signal 9"] == [line.message for line in merger.query(LogFilter(worker="pool"))]
    events.on_completed()
    pool.on_completed()
    assert reader.ended.wait(LONG)


def test_names_that_take_long_or_fail_to_come_do_not_stop_the_lines(events: Subject[Any]) -> None:
    """C-06: a store that does not answer costs names, not lines."""
    asked: list[str] = []

    def slow(task_id: str) -> str | None:
        asked.append(task_id)
        threading.Event().wait(0.3)
        return None

    merger = LogMerger(events, names=slow, window=0.0)
    reader = Reader()
    merger.lines.subscribe(reader)
    for number in range(50):
        events.on_next(said(number, str(number), f"task {number}"))
    reader.messages(50)
    assert len(asked) < 5
    merger.close()


@pytest.mark.parametrize("wrong", [{"ring": 0}, {"ring": True}, {"window": -1}, {"window": "5ms"}])
def test_a_wrong_argument_is_told(wrong: dict[str, Any]) -> None:
    """C-06: bad input is named."""
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        LogMerger(Subject(), **wrong)
    merger = LogMerger(Subject())
    with pytest.raises(SettingsError, match="limit"):
        merger.query(limit=-1)
    merger.close()


def test_the_bounds_of_a_follower_are_those_of_the_table() -> None:
    """R6: a follower's buffer is bounded in lines and in bytes."""
    backlog = room._Backlog(100, 5000)
    for number in range(50):
        one = LogLine.of_event(said(number, "x" * 1000))
        if not backlog.offer(one):
            backlog.evict()
            backlog.force(one)
    assert 5 >= backlog.waiting and 50 == backlog.waiting + len(backlog.lost)


def test_a_line_of_the_callers_own_is_merged_where_it_belongs(events: Subject[Any]) -> None:
    """C-06: what the program around the pool says; also when no stream is left."""
    merger = LogMerger(events, window=60.0)
    reader = Reader()
    merger.lines.subscribe(reader)
    events.on_next(said(2, "second"))
    merger.add(LogLine(at(1), "INFO", "first", stream="pool"))
    events.on_completed()
    assert ["first", "second"] == reader.messages(2)
    assert reader.ended.wait(LONG)
    merger.add(LogLine(at(1), "INFO", "after the end"))
    assert 2 == len(merger.query())
    merger.close()


def test_lines_that_the_merger_could_not_take_are_told_where_they_are_missing(
    events: Subject[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """C-06, R17: nothing is lost in silence."""
    monkeypatch.setattr("rxtasks.logs.merger.Reordering", partial(Reordering, capacity=10))
    merger = LogMerger(events, window=60.0)
    reader = Reader()
    merger.lines.subscribe(reader)
    for number in range(100):
        events.on_next(said(number, str(number)))
    assert merger.close(LONG)
    assert reader.messages(11) == [
        "90 lines lost here: they came faster than they could be merged",
        *map(str, range(90, 100)),
    ]
    assert (90, 90) == (merger.counts.lost, merger.dropped)


def test_strange_events_and_names_cost_no_other_line(events: Subject[Any]) -> None:
    """C-06: what is no event, an event without a zone or without a text, a name that cannot be found: the rest comes."""
    merger = LogMerger(events, names=lambda _: str(1 / 0), window=0.0)
    reader = Reader()
    merger.lines.subscribe(reader)
    for strange in ("text", None, 5):
        events.on_next(strange)
    events.on_next(said(0, "aware"))
    events.on_next(attrs.evolve(said(0), time=at(1).replace(tzinfo=None), message="naive"))
    events.on_next(said(2, "fields", fields=5))
    events.on_next(said(3, "last"))
    merger.add(LogLine(at(4).replace(tzinfo=None), "INFO", "own"))
    assert ["aware", "naive", "fields", "last", "own"] == reader.messages(5)
    assert {"fields": "5"} == reader.lines[2].fields
    assert all(line.time.tzinfo is not None for line in reader.lines)
    assert merger.close(LONG)
