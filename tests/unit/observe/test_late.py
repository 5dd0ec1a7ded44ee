"""Late subscribers: a snapshot, then what comes, without gap or duplicate."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest
import reactivex as rx

from rxtasks.lifecycle.events import LogEvent, OutputEvent, TaskEvent
from rxtasks.observe import history
from tests.unit.observe.support import SOON, Blocker, Core, Sink


def test_a_late_subscriber_gets_everything_from_the_first_event(core: Core) -> None:
    """R19, E-08: snapshot, live events, completion; at any moment the same stream."""
    tracker, sinks = core.submit(), []

    def join() -> None:
        sinks.append(Sink())
        tracker.subscribe(sinks[-1])

    join()
    for act in (core.run, lambda: core.log("a"), lambda: core.output(1), lambda: core.log("b"), core.succeed):
        act()
        join()
        core.flush()
        join()
    core.flush()
    for sink in sinks:
        assert sink.seqs == [1, 2, 3, 4, 5] and sink.got[-1] == "done"


def test_the_snapshot_leaves_waiting_events_to_their_place_in_the_order(core: Core) -> None:
    """R12, R19: a late subscriber does not see an event before the others do."""
    blocker, order = Blocker(), []
    tracker = core.submit("a")
    core.bus.subscribe(blocker)
    core.bus.subscribe(lambda event: order.append(("bus", event.seq)))
    core.run("a")
    assert blocker.entered.wait(SOON)
    tracker.subscribe(lambda event: order.append(("late", event.seq)))  # behind the first, before the second
    core.log("x", "a")
    blocker.go_on.set()
    core.flush()
    assert order == [("bus", 1), ("late", 1), ("bus", 2), ("late", 2)]


def test_only_the_bounds_of_the_snapshot_are_held(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    """R6: all statuses, the last 1,000 logs and outputs, at most 1 MiB each, the latest progress."""
    tracker, sink = core.submit(), Sink()
    core.run()
    for number in range(1500):
        core.log(str(number))
        core.output(number)
        core.progress(number)
    core.flush()
    tracker.subscribe(sink)
    core.flush()
    kinds = [event.kind for event in sink.got]
    assert (kinds.count("status"), kinds.count("log"), kinds.count("output"), kinds.count("progress")) == (
        1,
        1000,
        1000,
        1,
    )
    assert sink.seqs == sorted(sink.seqs) and sink.got[-1].current == 1499
    big = core.submit("big")
    for _ in range(5):
        core.log("x" * 400_000, "big")
        core.output(["y" * 400_000], "big")
    assert len(big.log_tail) == 2 and len(big._tail.outputs.events) == 2  # type: ignore[union-attr]
    core.log("z" * (2 * history.BYTES), "big")
    assert [len(event.message) for event in big.log_tail] == [2 * history.BYTES]  # the last one always stays


def test_outputs_and_logs_of_any_value_have_a_weight(core: Core) -> None:
    """R6: values that are references or odd count, too."""
    from rxtasks.lifecycle.events import ProgressEvent, StatusEvent, ValueRef
    from rxtasks.lifecycle.status import TaskStatus
    from rxtasks.observe.weight import weigh
    from tests.unit.observe.support import NOW

    head = ("t", 1, 1, "w", NOW)
    assert weigh(OutputEvent(*head, None)) < weigh(OutputEvent(*head, {"a": "x" * 1000})) - 900
    assert weigh(OutputEvent(*head, ValueRef("a", 10**9, "p" * 50))) < 1000
    assert weigh(OutputEvent(*head, object())) > 0
    assert weigh(LogEvent(*head, "INFO", "x", "log", {"k": "v" * 100})) > 300
    assert weigh(ProgressEvent(*head, 1, None, None, {"k": "v" * 100})) > 300
    assert weigh(StatusEvent(*head, TaskStatus.SUCCEEDED, "x" * 1000)) > 1000
    assert weigh("anything") > 0


@pytest.mark.parametrize("round", range(3))
def test_subscribers_that_join_at_random_moments_see_no_gap_and_no_duplicate(round: int) -> None:
    """R19: while the core publishes at full speed, from several threads, on the whole and on the parts."""
    core = Core()
    trackers = [core.submit(f"t{number}") for number in range(4)]
    stop = threading.Event()
    joined: list[tuple[str, str, Sink]] = []
    lock = threading.Lock()

    def join(seed: int) -> None:
        pick = random.Random(seed)
        while not stop.is_set():
            tracker, sink = pick.choice(trackers), Sink()
            part = pick.choice(["all", "logs", "statuses"])
            (tracker if part == "all" else getattr(tracker, part)).subscribe(sink)
            with lock:
                joined.append((tracker.task_id, part, sink))
                if len(joined) >= 300:
                    return

    threads = [threading.Thread(target=join, args=(round * 10 + number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for tracker in trackers:
        core.run(tracker.task_id)
    for number in range(800):
        core.log(str(number), f"t{number % 4}")
    for tracker in trackers:
        core.succeed(None, tracker.task_id)
    stop.set()
    for thread in threads:
        thread.join(SOON)
    core.flush()
    assert joined
    expected = {"all": list(range(1, 203)), "logs": list(range(2, 202)), "statuses": [1, 202]}
    for _, part, sink in joined:
        assert sink.seqs == expected[part] and sink.got[-1] == "done"
        assert len(sink.got) == len(expected[part]) + 1
    assert core.delivery.routes.by_id == {} and core.delivery.ledger_report().exact
    core.close()


def test_subscribing_in_on_next_of_the_task_itself(core: Core) -> None:
    """R18, R19: a subscriber that subscribes to the same task again in on_next gets the whole stream there, too."""
    tracker, inner = core.submit(), Sink()
    seen: list[int] = []

    def first(event: Any) -> None:
        seen.append(event.seq)
        if event.seq == 2:
            tracker.subscribe(inner)

    tracker.subscribe(first)
    core.run()
    core.log("a")
    core.log("b")
    core.succeed()
    core.flush()
    assert inner.ended.wait(SOON)  # it may have asked behind the flush
    assert seen == inner.seqs == [1, 2, 3, 4] and inner.got[-1] == "done"


def settle(core: Core) -> None:
    """Wait until the delivery thread has done everything asked of it so far."""
    passed = threading.Event()
    core.delivery.call(passed.set)
    assert passed.wait(SOON)


@pytest.mark.parametrize("watched", [False, True])
def test_an_event_that_is_folded_but_not_yet_published_comes_in_its_place(core: Core, watched: bool) -> None:
    """R12, R19: not with the snapshot, before events that were published before it; once; in one order for all."""
    trackers, merged, bus = [core.submit(name) for name in "ab"], Sink(), Sink()
    if watched:
        core.bus.subscribe(bus)
    first = [core.run("a"), core.run("b")]
    core.flush()
    second = [core.make(LogEvent, name, "INFO", "x") for name in "ab"]
    for event in second:
        core.fold(event)
    rx.merge(trackers[1], trackers[0]).subscribe(merged)
    settle(core)
    assert merged.got == first[::-1]
    core.delivery.publish(second, 2)
    third = [core.log("y", "b"), core.log("y", "a")]
    core.flush()
    assert merged.got == first[::-1] + second + third
    assert not watched or bus.got == first + second + third


@pytest.mark.parametrize("moment", ["before", "after"])
def test_joining_just_before_or_after_a_batch_is_put_leaves_no_gap(
    core: Core, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R19: the core is interrupted right before or after it puts a batch, and the joiner is served meanwhile."""
    tracker, sink, bus = core.submit(), Sink(), Sink()
    core.bus.subscribe(bus)
    core.run()
    core.flush()
    put = core.delivery._backlog.put

    def interrupted(events: list[TaskEvent], size: int) -> None:
        if moment == "after":
            put(events, size)
        tracker.subscribe(sink)
        settle(core)
        if moment == "before":
            put(events, size)

    monkeypatch.setattr(core.delivery._backlog, "put", interrupted)
    core.log("x")
    monkeypatch.undo()
    core.log("y")
    core.flush()
    assert sink.seqs == bus.seqs == [1, 2, 3]


def test_joining_while_the_core_finds_that_nobody_listens_leaves_no_gap(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R19: a batch that is not put because nobody listens is in the snapshot of whoever joins at that moment."""
    tracker, sinks = core.submit(), [Sink(), Sink()]
    core.delivery.call(lambda: None)
    core.flush()
    look = core.delivery._nobody_listens

    def interrupted() -> bool:
        tracker.subscribe(sinks[0])
        settle(core)
        answer = look()
        tracker.subscribe(sinks[1])
        settle(core)
        return answer

    monkeypatch.setattr(core.delivery, "_nobody_listens", interrupted)
    while not core.delivery._backlog.idle:
        settle(core)
    core.run()
    monkeypatch.undo()
    core.log("y")
    core.flush()
    assert [sink.seqs for sink in sinks] == [[1, 2], [1, 2]]


def test_a_seq_that_comes_again_is_not_taken_again(core: Core) -> None:
    """R9, R19: each subscription takes each seq once, whatever is published."""
    tracker, sink = core.submit(), Sink()
    tracker.subscribe(sink)
    event = core.run()
    core.delivery.publish([event], 1)
    core.log("x")
    core.delivery.publish([event], 1)
    core.flush()
    assert sink.seqs == [1, 2]


def test_events_folded_while_the_snapshot_is_taken_leave_no_gap(core: Core) -> None:
    """R19: an event that is copied although one before it was not is left to the live stream."""
    tracker, sink = core.submit(), Sink()
    core.run()
    core.log("a")
    late: list[TaskEvent] = []
    tail = tracker._tail
    assert tail is not None

    class Slow:
        lost = 0
        logs = tail.logs

        @property
        def outputs(self) -> Any:
            if not late:
                late.append(core.make(LogEvent, "t", "INFO", "b"))
                late.append(core.make(OutputEvent, "t", 1))
                for event in late:
                    tail.add(event)
                tracker._last_seq = 4
            return tail.outputs

    tracker._tail = Slow()  # type: ignore[assignment]
    tracker.subscribe(sink)
    settle(core)
    assert sink.seqs == [1, 2] and len(late) == 2
    core.delivery.publish(late, 2)
    core.flush()
    assert sink.seqs == [1, 2, 3, 4]


def test_merge_of_late_trackers_keeps_each_task_in_order(core: Core) -> None:
    """R12: merging late streams is safe."""
    trackers, sink = [core.submit(name) for name in "ab"], Sink()
    for number in range(50):
        core.log(str(number), "ab"[number % 2])
    rx.merge(*trackers).subscribe(sink)
    for number in range(50):
        core.log(str(number), "ab"[number % 2])
    for name in "ab":
        core.succeed(None, name)
    core.flush()
    for name in "ab":
        assert [event.seq for event in sink.got[:-1] if event.task_id == name] == list(range(1, 52))
    assert sink.got[-1] == "done"


def test_a_late_subscriber_that_leaves_during_the_snapshot_gets_no_more_of_it(core: Core) -> None:
    """R14: dispose takes effect between two events of the snapshot."""
    tracker, got = core.submit(), []

    def two(event: Any) -> None:
        got.append(event.seq)
        if event.seq == 2:
            handle.dispose()

    for number in range(10):
        core.log(str(number))
    core.delivery.call(lambda: None)
    core.flush()
    gate = threading.Event()
    core.delivery.call(lambda: gate.wait(SOON))  # so that `handle` is there before the snapshot is
    handle = tracker.subscribe(two)
    gate.set()
    core.flush()
    assert got == [1, 2] and core.delivery.routes.by_id == {}


def test_a_subscriber_that_left_before_its_turn_gets_nothing(core: Core) -> None:
    """R14: subscribe and dispose at once."""
    tracker, sink = core.submit(), Sink()
    core.run()
    gate = threading.Event()
    core.delivery.call(lambda: gate.wait(SOON))
    tracker.subscribe(sink).dispose()
    gate.set()
    core.flush()
    assert sink.got == [] and core.delivery.routes.by_id == {}


def test_one_that_leaves_does_not_take_the_route_of_one_that_joins(core: Core) -> None:
    """R19: the last one's leaving, finished after the next one has joined, changes nothing."""
    tracker, sink = core.submit(), Sink()
    tracker.subscribe(sink)
    settle(core)
    core.delivery.routes.unwatch("t", tracker)
    core.run()
    core.succeed()
    core.flush()
    assert sink.seqs == [1, 2] and sink.got[-1] == "done"
