"""Whole attempts on their way through the parent: the same as row by row."""

from __future__ import annotations

from operator import itemgetter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rxtasks.clock import utc_from_us, utcs_from_us
from rxtasks.config import Settings
from rxtasks.engine.dispatcher import Dispatcher
from rxtasks.engine.recorder import Ends, Recorder
from rxtasks.isolation.assembler import EventAssembler
from rxtasks.lifecycle.events import LogEvent, OutputEvent, StatusEvent, output_events, status_event
from rxtasks.lifecycle.options import DEFAULT_OPTIONS, TaskOptions
from rxtasks.lifecycle.status import TaskStatus, WorkerStatus
from rxtasks.observe.tracker import TaskTracker
from rxtasks.pool.info import WorkerSpec
from rxtasks.pool.state import PoolState, WorkerState
from rxtasks.pool.timers import Timers
from rxtasks.pool.words import Now, SendAssign, Whole, ended_in, events_of
from rxtasks.stores.base import Claim, Envelope, Successes, each_change
from rxtasks.wire.message import END, RUNNING, WHOLE, Assignment, Events
from tests.unit.worker.harness import singly

BEGAN = 1_700_000_000_000_000
NOW = Now(5, BEGAN + 9, 0.5)


class Held:
    """What the recorder needs of a worker."""

    worker_id = "w"


class Parent:
    """An assembler and a recorder that hold tokens 1 to `count` for one worker."""

    def __init__(self, count: int, *, first_seq: int = 1, attempt: int = 1) -> None:
        self.worker: Any = Held()
        self.assembler = EventAssembler("w")
        self.recorder = Recorder(Settings(credit=8))
        self.ended = Ends()
        for token in range(1, count + 1):
            self.assembler.assigned([Assignment(token, 1, f"T{token}", attempt, first_seq, "f", 8)])
            claim = Claim(token, 1, Envelope(f"T{token}", "n", "f", None, None, "p", b"", DEFAULT_OPTIONS, 0))
            claim.attempt, claim.next_seq = attempt - 1, first_seq
            claim.worker = self.worker
            self.recorder.hold(claim)

    def take(self, rows: list[list[Any]]) -> str | None:
        return self.recorder.take(self.assembler.take(Events(rows)), self.worker, NOW, self.ended)

    def seen(self) -> Any:
        """All that came of what was taken."""
        out: list[Any] = []
        self.recorder.close_batch(out)
        batch = self.recorder._sent.get(1)
        if batch is None:
            return None
        changes = [
            tuple(getattr(change, name) for name in type(change).__slots__[:-1]) for change in each_change(batch.told)
        ]
        self.recorder.on_committed(1, [], out)
        publish = out[-1]
        wholes = [pair for _, whole in publish.wholes for pair in zip(whole.ended, whole.values, strict=True)]
        outcomes = sorted([*publish.outcomes, *((event.task_id, value) for event, value in wholes)], key=itemgetter(0))
        columns = (self.ended.claims, self.ended.statuses, self.ended.rans_us)
        ended = [(claim.token, status, ran_us) for claim, status, ran_us in zip(*columns, strict=True)]
        rest = (sorted(self.recorder.claims), sorted(self.assembler._held), self.recorder.fenced)
        return changes, batch.events, batch.sizes, batch.size, outcomes, ended, rest


values = st.none() | st.integers(-5, 5) | st.text(max_size=3) | st.lists(st.integers(0, 3), max_size=2)
attempt = st.tuples(st.integers(1, 9), st.integers(0, 1), values, st.integers(0, 99))
attempts = st.lists(attempt, min_size=1, max_size=9) | st.lists(
    attempt, min_size=1, max_size=9, unique_by=itemgetter(0)
)


@settings(deadline=None)
@given(
    attempts,
    st.sampled_from((1, 1, 1, 2, 4)),
    st.sampled_from((1, 1, 1, 2)),
    st.integers(6, 9),
)
def test_whole_attempts_mean_what_their_rows_mean(attempts: Any, first_seq: int, attempt: int, count: int) -> None:
    """E-03, R4: events, changes, outcomes, faults, what is dropped; for tokens known or not, numbered rightly or not."""
    places = [
        (token, first_seq + (wrong if index % 5 == 4 else 0)) for index, (token, wrong, *_) in enumerate(attempts)
    ]
    row = [
        WHOLE,
        [token for token, _ in places],
        [seq for _, seq in places],
        [BEGAN + token for token, _ in places],
        [BEGAN + 7 * token for token, _ in places],
        [value for *_, value, _ in attempts],
        [ran for *_, ran in attempts],
    ]
    bundled, single = (Parent(count, first_seq=first_seq, attempt=attempt) for _ in range(2))
    faults = single.take(singly([row])), bundled.take([row])
    assert faults[0] == faults[1]
    if faults[0] is None:
        assert single.seen() == bundled.seen()


def test_a_fault_leaves_what_came_before_it() -> None:
    """R4: a number that does not follow is the worker's fault; the attempts before it count."""
    parent = Parent(3)
    fault = parent.take([[WHOLE, [1, 2, 3], [1, 2, 1], [BEGAN] * 3, [BEGAN] * 3, [5, 6, 7], [1] * 3]])
    assert fault is not None and "seq 2 of task T2" in fault
    assert [2, 3] == sorted(parent.recorder.claims)
    assert [("T1", 1), ("T1", 2)] == [(event.task_id, event.seq) for event in parent.seen()[1]]


def test_what_is_not_held_is_left_out() -> None:
    """R3: a worker that was given up may still tell of tasks that another one has now."""
    parent = Parent(3)
    del parent.recorder.claims[2]
    assert parent.take([[WHOLE, [1, 2, 3, 9], [1] * 4, [BEGAN] * 4, [BEGAN] * 4, [5, 6, 7, 8], [1] * 4]]) is None
    assert 2 == parent.recorder.fenced and not parent.recorder.claims
    assert ["T1", "T1", "T3", "T3"] == [event.task_id for event in parent.seen()[1]]


def test_a_line_of_a_task_that_runs_is_not_given_to_whole_attempts() -> None:
    """E-03: of attempts told of as a whole none wrote to a descriptor: their worker waits until that has been read."""
    assembler = EventAssembler("w")
    assembler.assigned([Assignment(token, 1, f"T{token}", 1, 1, "f", 8) for token in (1, 2)])
    assembler.take(Events([[RUNNING, 1, 1, BEGAN]]))
    assembler.rest = lambda: [("stdout", "late")]
    (whole,) = assembler.take(Events([[WHOLE, [2], [1], [BEGAN], [BEGAN], [5], [1]]]))
    assert isinstance(whole, Whole) and ["T2", "T2"] == [event.task_id for event in events_of(whole)]
    late, end = assembler.take(Events([[END, 1, 2, BEGAN, "succeeded", ["j", 1], None, None, 1]]))
    assert isinstance(events_of(late)[0], LogEvent) and [1] == ended_in(end) and [] == ended_in(late)
    assert [2] == ended_in(whole)


def test_outputs_made_in_bulk_are_the_same() -> None:
    """E-03: equal, as frozen, of the same class, numbered on, with the same JSON."""
    times = [utc_from_us(BEGAN), utc_from_us(BEGAN + 5)]
    made = output_events("T", 7, 2, "w", times, [{"a": 1}, None])
    plain = [OutputEvent("T", 7, 2, "w", times[0], {"a": 1}), OutputEvent("T", 8, 2, "w", times[1], None)]
    assert plain == made and [OutputEvent] * 2 == [type(event) for event in made]
    assert [event.to_json() for event in plain] == [event.to_json() for event in made]
    assert repr(plain) == repr(made)
    with pytest.raises(AttributeError):
        made[0].seq = 5  # type: ignore[misc]
    with pytest.raises(AttributeError):
        del made[0].seq


def test_an_event_made_in_bulk_is_the_same() -> None:
    """E-03: equal, as frozen, of the same class, with the same JSON."""
    fields = ("T", 1, 2, "w", utc_from_us(BEGAN), TaskStatus.SUCCEEDED, {"a": 1})
    plain, made = StatusEvent(*fields), status_event(*fields)
    assert plain == made and type(made) is StatusEvent and repr(plain) == repr(made)
    assert plain.to_json() == made.to_json()
    with pytest.raises(AttributeError):
        made.seq = 5  # type: ignore[misc]
    with pytest.raises(AttributeError):
        del made.seq


def test_an_attempt_that_the_store_refuses_is_left_out_of_its_columns() -> None:
    """R3: another engine has taken one of the tasks over: its events and outcome are not published, the others' are."""
    parent = Parent(6)
    count = 6
    row = [WHOLE, [*range(1, count + 1)], [1] * count, [BEGAN] * count, [BEGAN] * count, [*range(count)], [1] * count]
    assert parent.take([row]) is None
    out: list[Any] = []
    parent.recorder.close_batch(out)
    (commit,) = out
    assert [Successes] == [type(change) for change in commit.changes]
    parent.recorder.on_committed(commit.batch, [3], out)
    publish = out[-1]
    left = ["T1", "T2", "T4", "T5", "T6"]
    assert [task_id for task_id in left for _ in range(2)] == [event.task_id for event in publish.events]
    assert not publish.wholes and left == [task_id for task_id, _ in publish.outcomes]
    assert len(publish.sizes) == len(publish.events)


def test_a_tracker_takes_a_whole_attempt_as_its_two_events() -> None:
    """E-03 R19: status, statuses, result, who waits; also where it is not the first attempt."""
    times = [utc_from_us(BEGAN), utc_from_us(BEGAN + 5)]
    for before in ([], [(TaskStatus.RUNNING, 1), (TaskStatus.PENDING, 1)]):
        trackers = [TaskTracker("T", name="n") for _ in range(2)]
        seq = len(before)
        begun = StatusEvent("T", seq + 1, 2, "w", times[0], TaskStatus.RUNNING)
        ended = StatusEvent("T", seq + 2, 2, "w", times[1], TaskStatus.SUCCEEDED, 7)
        for tracker in trackers:
            for number, (status, attempt) in enumerate(before, 1):
                tracker.observe(StatusEvent("T", number, attempt, "w", times[0], status), 0, 3)
            tracker._when_done(lambda: None)
        apart, whole = trackers
        apart.observe(begun, 0, 4)
        apart.observe(ended, 0, 4)
        assert apart.settle(("j", 7), wake=False) and whole.end_whole(begun, ended, ("j", 7), 4)
        for name in ("status", "done", "error", "last_status", "_statuses", "_last_seq", "_batch", "_before_batch"):
            assert getattr(apart, name) == getattr(whole, name), name
        assert 7 == apart.result(0) == whole.result(0)


claims = st.lists(
    st.tuples(st.sampled_from("ffffg"), st.sampled_from((0, 0, 0, 0, 1)), st.sampled_from((0, 0, 0, 0, 0, 1, 2))),
    max_size=30,
)


@settings(deadline=None)
@given(claims)
def test_what_is_assigned_as_columns_is_what_each_claim_says(kinds: Any) -> None:
    """E-16: every claim once, in order of each worker, with its own id, token, arguments, attempt and options."""
    pool = PoolState([WorkerSpec(count=2)], Settings(), Timers())
    options = (DEFAULT_OPTIONS, TaskOptions(name="other"))
    workers = [WorkerState(name, WorkerSpec(), pool.lanes[0], 0, WorkerStatus.IDLE) for name in "ab"]
    pool.workers.update({worker.worker_id: worker for worker in workers})
    dispatcher = Dispatcher(pool, Settings())
    held = []
    for token, (function, option, failures) in enumerate(kinds, 1):
        envelope = Envelope(f"T{token}", "n", function, None, None, "p", b"%d" % token, options[option], 0)
        held.append(Claim(token, token + 50, envelope))
        held[-1].attempt = held[-1].failures = failures
        held[-1].next_seq = 1 + 2 * failures
    lane = pool.lanes[0]
    dispatcher.measured(held, [1] * len(held), lane)
    dispatcher.arrived()
    dispatcher.claimed(lane, 100, list(held))
    out: list[Any] = []
    assert [] == dispatcher.turn(NOW, out, 0)
    sent = [do for do in out if isinstance(do, SendAssign)]
    assert sorted(claim.token for claim in held) == sorted(task.token for do in sent for task in do.tasks)
    by_token = {claim.token: claim for claim in held}
    for worker in workers:
        tasks = [task for do in sent if do.worker_id == worker.worker_id for task in do.tasks]
        assert [task.token for task in tasks] == sorted(task.token for task in tasks) == list(worker.assigned)
        for task in tasks:
            assert task == dispatcher._assignment(by_token[task.token])
        known = [define.key for do in sent if do.worker_id == worker.worker_id for define in do.defines]
        assert len(known) == len({*known}) and {task.function for task in tasks} == {*known}


@given(st.lists(st.integers(-(10**6), 10**13), min_size=1, max_size=9), st.integers(0, 2 * 10**6))
def test_times_made_together_are_the_times_made_one_by_one(times: list[int], spread: int) -> None:
    """E-03: to the microsecond, within a second and across."""
    near = [BEGAN + time % (spread + 1) for time in times]
    assert [utc_from_us(us) for us in near] == utcs_from_us(near)
    assert [utc_from_us(us) for us in times] == utcs_from_us(times)


def test_an_attempt_of_another_worker_is_left_out_of_the_columns() -> None:
    """R3: it was taken back from this worker, under the same claim: what this one still says of it is not taken."""
    parent, single = Parent(5), Parent(5)
    rows = [[WHOLE, [*range(1, 6)], [1] * 5, [BEGAN] * 5, [BEGAN] * 5, [*range(5)], [1] * 5]]
    for one in (parent, single):
        one.recorder.claims[2].worker = Held()
    assert parent.take(rows) is single.take(singly(rows)) is None
    assert [2] == list(parent.recorder.claims) and single.seen() == parent.seen()


@pytest.mark.parametrize("note", ["failures", "crashes", "interruptions"])
def test_what_was_counted_of_a_task_before_is_not_lost_in_columns(note: str) -> None:
    """E-03: one of the tasks was lost before it began; its counts go to the store with its end."""
    parent, single = Parent(5), Parent(5)
    rows = [[WHOLE, [*range(1, 6)], [1] * 5, [BEGAN] * 5, [BEGAN] * 5, [*range(5)], [1] * 5]]
    for one in (parent, single):
        setattr(one.recorder.claims[4], note, 2)
    assert parent.take(rows) is single.take(singly(rows)) is None
    seen = parent.seen()
    assert 1 == sum(2 in change[4:7] for change in seen[0])
    assert single.seen() == seen
