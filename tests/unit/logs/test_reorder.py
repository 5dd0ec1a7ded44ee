"""Lines into one order, equal ones into one."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from rxtasks.logs.reorder import Entry, Reordering
from rxtasks.reactive.waiting import FULL, NOTHING
from tests.unit.logs.support import OTHER, TASK, SetClock, at, said


def place(clock: SetClock, window: float = 0.005, duplicates: bool = False, **more: Any) -> Reordering:
    return Reordering(window, duplicates, clock, **more)


def taken(store: Reordering, flush: bool = False) -> list[Entry]:
    found = store.take(flush)
    return [] if found is NOTHING else found


def test_a_line_waits_for_an_earlier_one_of_another_worker() -> None:
    """C-06: ordered by time within the window."""
    clock = SetClock()
    store = place(clock)
    store.offer(said(2, "second"))
    assert [] == taken(store)
    clock.seconds += 0.004
    store.offer(said(1, "first", OTHER))
    assert [] == taken(store)
    due = store.due()
    assert due is not None and 0 < due <= 0.001001
    clock.seconds += due
    assert [("first", False), ("second", False)] == [(entry.said.message, entry.late) for entry in taken(store)]
    assert store.due() is None and 0 == store.waiting


def test_a_line_that_comes_too_late_is_marked_and_kept() -> None:
    """C-06: late lines are marked, never lost."""
    clock = SetClock()
    store = place(clock)
    store.offer(said(2, "second"))
    clock.seconds += 1
    assert ["second"] == [entry.said.message for entry in taken(store)]
    store.offer(said(1, "first", OTHER))
    clock.seconds += 1
    assert [("first", True)] == [(entry.said.message, entry.late) for entry in taken(store)]


def test_the_lines_of_a_task_keep_their_order_when_its_clock_is_set_back() -> None:
    """C-06: order within a task is that of the task."""
    clock = SetClock()
    store = place(clock)
    for seconds in (5, 1, 3):
        store.offer(said(seconds, str(seconds)))
    assert ["5", "1", "3"] == [entry.said.message for entry in taken(store, flush=True)]


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.sampled_from("xy"), st.floats(0, 0.02)), max_size=40
    ),
    st.booleans(),
)
def test_nothing_is_lost_hidden_or_out_of_order(steps: list[tuple[str, int, str, float]], duplicates: bool) -> None:
    """C-06: each line is given out or counted beside an equal one of its source; times go up but for those marked."""
    clock = SetClock()
    store, out, taken_at = place(clock, duplicates=duplicates, patience=0.03), [], []
    for number, (task, seconds, message, pause) in enumerate(steps):
        store.offer(said(seconds, message, task, seq=number))
        clock.seconds += pause
        got = taken(store)
        out += got
        taken_at += [clock.seconds] * len(got)
    out += taken(store, flush=True)
    assert 0 == store.waiting and store.oldest == store.puts + 1
    counted: Counter[tuple[str, str]] = Counter()
    for entry in out:
        counted[(entry.said.task_id, entry.said.message)] += entry.repeated or 1  # type: ignore[union-attr]
    assert Counter((task, message) for task, _, message, _ in steps) == counted
    latest = at(-1)
    for entry in out:
        time = entry.told if entry.repeated else entry.said.time
        assert entry.late == (time < latest)
        latest = max(latest, time)
    for task in "abc":
        kept = [entry.said.seq for entry in out if entry.said.task_id == task and not entry.repeated]  # type: ignore[union-attr]
        assert kept == sorted(kept)
        last = None
        for entry in out:  # a count stands right behind the line that it counts
            if entry.said.task_id == task:  # type: ignore[union-attr]
                if entry.repeated:
                    assert last == entry.said.message
                last = entry.said.message


def test_equal_lines_are_counted_and_told_before_the_next_other_one() -> None:
    """C-06: "last message repeated 57 times", as syslog."""
    clock = SetClock()
    store = place(clock, duplicates=True)
    for number in range(58):
        store.offer(said(number, "same"))
        store.offer(said(number, f"other {number}", OTHER))
    store.offer(said(60, "different"))
    found = [(entry.said.message, entry.repeated) for entry in taken(store, flush=True)]
    assert [("same", 0), ("same", 57), ("different", 0)] == [each for each in found if "other" not in each[0]]
    assert 58 == sum("other" in message for message, _ in found)


def test_lines_that_differ_in_level_stream_fields_or_attempt_are_not_equal() -> None:
    """C-06: suppression never hides different lines."""
    clock = SetClock()
    store = place(clock, duplicates=True)
    different = [
        {},
        {"level": "ERROR"},
        {"stream": "stderr"},
        {"fields": {"n": 1}},
        {"attempt": 2},
        {"worker_id": None},
    ]
    for number, more in enumerate(different):
        store.offer(said(number, "same", **more))
    assert [0] * len(different) == [entry.repeated for entry in taken(store, flush=True)]


def test_a_repetition_is_told_after_its_time_though_nothing_else_comes() -> None:
    """C-06: flushed on time; its time is when it was told, its fields say when it was said."""
    clock = SetClock()
    store = place(clock, duplicates=True, patience=5.0)
    store.offer(said(0, "same"))
    store.offer(said(1, "same"))
    store.offer(said(2, "same"))
    clock.seconds += 0.1
    assert [0] == [entry.repeated for entry in taken(store)]
    due = store.due()
    assert due is not None and 4 < due <= 5 and 1 == store.waiting
    store.offer(said(3, "later", OTHER))
    clock.seconds += due
    told = taken(store)
    assert [("later", 0), ("same", 2)] == [(entry.said.message, entry.repeated) for entry in told]
    assert (at(1), at(2), at(3)) == (told[1].first, told[1].last, told[1].told)
    assert store.due() is None and 0 == store.waiting
    store.offer(said(9, "same"))
    assert [1] == [entry.repeated for entry in taken(store, flush=True)]


def test_a_flush_lets_everything_go_that_waits() -> None:
    """C-06: service.flush() and stop() do not wait for a window or a repetition."""
    clock = SetClock()
    store = place(clock, window=60.0, duplicates=True, patience=3600.0)
    store.offer(said(0, "same"))
    store.offer(said(1, "same"))
    assert [] == taken(store) and store.hurry()
    assert [0, 1] == [entry.repeated for entry in taken(store)]
    assert store.oldest > 2
    store.offer(said(2, "next"))
    assert [] == taken(store)


def test_it_is_bounded_in_lines_and_bytes_and_the_oldest_goes() -> None:
    """R6, R17: what is dropped is counted by the strategy around it."""
    clock = SetClock()
    store = place(clock, capacity=3, size=1000)
    for number in range(5):
        if store.offer(said(number, str(number))) == FULL:
            store.evict()
            store.force(said(number, str(number)))
    assert ["0", "1"] == [each.message for each in store.lost]
    assert ["2", "3", "4"] == [entry.said.message for entry in taken(store, flush=True)]
    store = place(clock, size=1000)
    for number in range(50):
        if store.offer(said(number, "x" * 400)) == FULL:
            store.evict()
            store.force(said(number, "x" * 400))
    assert 3 >= store.waiting and 50 == store.waiting + len(store.lost)


def test_sources_that_are_remembered_are_bounded() -> None:
    """R6: of a source that is forgotten the repetitions are told first."""
    clock = SetClock()
    store = place(clock, duplicates=True)
    store.offer(said(0, "same", TASK))
    store.offer(said(1, "same", TASK))
    for number in range(1500):
        store.offer(said(2, "x", f"task {number}"))
    found = taken(store, flush=True)
    assert 1 == sum(entry.repeated for entry in found) and 1502 == len(found)
    assert len(store._sources) <= 1000


def test_after_a_clock_is_set_back_not_everything_is_late() -> None:
    """C-06: the first line after it is marked; those that follow are compared with that."""
    clock = SetClock()
    store = place(clock)
    found = []
    for seconds in (7200, 3600, 3601, 3602, 3601.5, 3603):
        store.offer(said(seconds, str(seconds)))
        found += taken(store, flush=True)
    assert [False, True, False, False, True, False] == [entry.late for entry in found]
