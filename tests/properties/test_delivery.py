"""Laws of the delivery, over generated runs: conflation, order, the ledger, late subscribers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rxtasks.lifecycle.events import LogEvent, OutputEvent, ProgressEvent, StatusEvent, TaskEvent
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.observe.backlog import conflate
from rxtasks.observe.ledger import LANES
from rxtasks.observe.weight import weigh
from rxtasks.wire.outcome import Outcome
from tests.unit.observe.support import NOW, SOON, Blocker, Core, Sink

QUIET = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60)

#: A run: (task, kind) in the order in which things happen.
runs = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c"]), st.sampled_from(["progress", "progress", "log", "status", "output"])),
    max_size=200,
)


def events_of(run: list[tuple[str, str]]) -> list[TaskEvent]:
    seqs: dict[str, int] = {}
    made: list[TaskEvent] = []
    for task, kind in run:
        seq = seqs[task] = seqs.get(task, 0) + 1
        head = (task, seq, 1, "w", NOW)
        if kind == "progress":
            made.append(ProgressEvent(*head, seq))
        elif kind == "log":
            made.append(LogEvent(*head, "INFO", str(seq)))
        elif kind == "status":
            made.append(StatusEvent(*head, TaskStatus.RUNNING))
        else:
            made.append(OutputEvent(*head, seq))
    return made


def is_subsequence(part: list[Any], whole: list[Any]) -> bool:
    rest = iter(whole)
    return all(any(item == other for other in rest) for item in part)


def last_progress_before_each_status(events: list[TaskEvent]) -> list[tuple[str, int, int | None]]:
    latest: dict[str, int | None] = {}
    found = []
    for event in events:
        if event.kind == "progress":
            latest[event.task_id] = event.seq
        elif event.kind == "status":
            found.append((event.task_id, event.seq, latest.pop(event.task_id, None)))
    return found + [(task, 0, seq) for task, seq in sorted(latest.items())]


@QUIET
@given(runs, st.integers(1, 50))
def test_conflation_takes_only_progress_that_nobody_misses(run: list[tuple[str, str]], part: int) -> None:
    """R8, R10: a subsequence; all else stays; the last progress before each status, and at the end, stays."""
    events = events_of(run)
    kept = conflate(events, set())
    assert is_subsequence(kept, events)
    assert [e for e in kept if e.kind != "progress"] == [e for e in events if e.kind != "progress"]
    assert last_progress_before_each_status(kept) == last_progress_before_each_status(events)
    assert conflate(kept, set()) == kept
    overtaken: set[str] = set()
    batches = [events[at : at + part] for at in range(0, len(events), part)]
    by_batch = [conflate(batch, overtaken) for batch in reversed(batches)]
    assert [event for batch in reversed(by_batch) for event in batch] == kept


@QUIET
@given(runs, st.integers(16, 64), st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(0, 200))
def test_a_lagging_subscriber_gets_a_subsequence_that_differs_in_progress_only(
    run: list[tuple[str, str]], bound: int, cuts: list[int], stop_at: int
) -> None:
    """R8, R10, L-05: whatever the batches and wherever it lags; produced = delivered + conflated, per lane."""
    core = Core(buffer_events=bound)
    core.run("first")
    blocker = Blocker()
    core.bus.subscribe(blocker)
    core.run("first")
    assert blocker.entered.wait(SOON)
    events, at, turn = events_of(run), 0, 0
    while at < len(events):
        step = cuts[turn % len(cuts)]
        core.batch(events[at : at + step])
        at, turn = at + step, turn + 1
        if at >= stop_at:
            blocker.go_on.set()
    blocker.go_on.set()
    core.flush()
    seen = blocker.got[1:]
    assert is_subsequence(seen, events)
    assert [e for e in seen if e.kind != "progress"] == [e for e in events if e.kind != "progress"]
    assert last_progress_before_each_status(seen) == last_progress_before_each_status(events)
    report = core.delivery.ledger_report()
    assert report.exact and report.progress.conflated == len(events) - len(seen)
    if len(events) < bound // 2:  # with the one in the subscriber's hands not more than half
        assert seen == events
    core.close()


@QUIET
@given(runs, st.lists(st.integers(0, 200), max_size=6), st.sampled_from(["", "status", "log", "progress", "output"]))
def test_whoever_joins_whenever_sees_the_same_task(run: list[tuple[str, str]], joins: list[int], kind: str) -> None:
    """R19: at any point of a run, on the whole stream or a part: the same events, once each, in order."""
    core = Core()
    names = {"": "", "status": "statuses", "log": "logs", "progress": "progress", "output": "outputs"}
    trackers = {task: core.submit(task) for task in "abc"}
    sinks: list[tuple[str, int, Sink]] = []

    def join(at: int) -> None:
        for task, tracker in trackers.items():
            sink = Sink()
            (getattr(tracker, names[kind]) if kind else tracker).subscribe(sink)
            sinks.append((task, at, sink))

    events = events_of(run)
    for at, event in enumerate(events):
        for _ in range(joins.count(at)):
            join(at)
        core.publish(event)
    for task in "abc":
        core.seqs[task] = sum(event.task_id == task for event in events)
        core.succeed(None, task)
    join(len(events))
    core.flush()
    for task, at, sink in sinks:
        mine = [(number, event) for number, event in enumerate(events) if event.task_id == task]
        held = [event for number, event in mine if number < at]
        latest = [event for event in held if event.kind == "progress"][-1:]
        due = [
            event
            for number, event in mine
            if (number >= at or event.kind != "progress" or event in latest) and (not kind or event.kind == kind)
        ]
        got = [event for event in sink.got[:-1] if isinstance(event, TaskEvent)]
        if not kind or kind == "status":
            assert got.pop().status == "succeeded"
        assert sink.got[-1] == "done"
        progress = [event for event in got if event.kind == "progress"]
        assert [event for event in got if event.kind != "progress"] == [e for e in due if e.kind != "progress"]
        # of the progress before it joined only the latest is held, when its turn came
        assert is_subsequence(progress, [event for _, event in mine])
        live = [event for number, event in mine if number >= at and event.kind == "progress"]
        if live and (not kind or kind == "progress"):
            assert progress[-1] is live[-1]
    core.close()


class Subscriptions(RuleBasedStateMachine):
    """A service's streams while subscribers come, go, raise, block and are held; checked against what was made."""

    def __init__(self) -> None:
        super().__init__()
        self.core = Core(buffer_events=32)
        self.made: list[TaskEvent] = []
        self.plain: list[tuple[int, Sink]] = []
        self.left: list[tuple[int, int, Sink]] = []
        self.handles: dict[int, Any] = {}
        self.blocked: list[Blocker] = []
        self.raised = 0
        self.tracker = self.core.submit("t")
        self.over = False

    @initialize()
    def begin(self) -> None:
        self.publish(lambda: self.core.run("t"))

    def publish(self, make: Callable[[], TaskEvent]) -> None:
        self.made.append(make())

    @precondition(lambda self: not self.over)
    @rule(count=st.integers(1, 20), what=st.sampled_from(["log", "progress", "output"]))
    def work(self, count: int, what: str) -> None:
        kinds = {"log": (LogEvent, ("INFO", "x")), "progress": (ProgressEvent, (1.0,)), "output": (OutputEvent, (1,))}
        kind, values = kinds[what]
        batch = [self.core.make(kind, "t", *values) for _ in range(count)]
        self.core.batch(batch)
        self.made += batch

    @precondition(lambda self: not self.over)
    @rule()
    def end(self) -> None:
        self.over = True
        event = self.core.status("t", TaskStatus.SUCCEEDED)
        self.core.fold(event, Outcome(TaskStatus.SUCCEEDED))
        self.core.delivery.publish([event], weigh(event))
        self.made.append(event)

    @rule()
    def subscribe(self) -> None:
        sink = Sink()
        self.handles[id(sink)] = self.tracker.subscribe(sink)
        self.plain.append((0, sink))

    @precondition(lambda self: self.plain)
    @rule(data=st.data())
    def dispose(self, data: st.DataObject) -> None:
        _, sink = self.plain.pop(data.draw(st.integers(0, len(self.plain) - 1)))
        self.handles.pop(id(sink)).dispose()
        self.core.flush()
        self.left.append((len(sink.got), 0, sink))

    @precondition(lambda self: not self.over)
    @rule()
    def subscribe_one_that_raises(self) -> None:
        def boom(_: Any) -> None:
            raise ValueError

        self.core.bus.subscribe(boom)
        self.work(1, "log")
        self.core.flush()
        self.raised += 1

    @precondition(lambda self: not self.over and len(self.blocked) < 3)
    @rule()
    def subscribe_one_that_blocks(self) -> None:
        blocker = Blocker()
        self.core.bus.subscribe(blocker)
        self.blocked.append(blocker)
        self.work(1, "log")
        assert blocker.entered.wait(SOON)
        self.work(5, "log")
        self.core.pass_time(6)
        self.core.flush()

    @invariant()
    def everybody_has_what_is_due(self) -> None:
        self.core.flush()
        report = self.core.delivery.ledger_report()
        assert report.exact and report.raised == self.raised and report.stalled == len(self.blocked)
        assert {lane: getattr(report, lane).produced for lane in LANES} == {
            lane: sum(event.kind == lane for event in self.made) for lane in LANES
        }
        firm = [event for event in self.made if event.kind != "progress"]
        for _, sink in self.plain:
            got = [event for event in sink.got if isinstance(event, TaskEvent)]
            assert [event for event in got if event.kind != "progress"] == firm
            assert is_subsequence(got, self.made)
            assert ("done" in sink.got) == self.over
        for count, _, sink in self.left:
            assert len(sink.got) == count
        assert len(self.core.reports) == self.raised + len(self.blocked)

    def teardown(self) -> None:
        for blocker in self.blocked:
            blocker.go_on.set()
        self.core.close()


Subscriptions.TestCase.settings = settings(
    deadline=None, max_examples=25, stateful_step_count=20, suppress_health_check=[HealthCheck.too_slow]
)
TestSubscriptions = Subscriptions.TestCase
