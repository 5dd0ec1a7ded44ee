"""The buffer between core and subscribers: bounds, conflation, relief."""

from __future__ import annotations

import threading

from rxtasks.lifecycle.events import LogEvent, ProgressEvent, StatusEvent, TaskEvent
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.observe.backlog import Backlog, conflate
from tests.unit.observe.support import NOW, SOON, Blocker, Core, Sink


def progress(seq: int, task: str = "t") -> TaskEvent:
    return ProgressEvent(task, seq, 1, "w", NOW, seq)


def log(seq: int, task: str = "t") -> TaskEvent:
    return LogEvent(task, seq, 1, "w", NOW, "INFO", "x")


def status(seq: int, task: str = "t") -> TaskEvent:
    return StatusEvent(task, seq, 1, "w", NOW, TaskStatus.RUNNING)


def test_progress_is_overwritten_by_later_progress_of_its_task_before_its_next_status() -> None:
    """R8, R10: only progress goes, never the last one before a status, never for another task's sake."""
    events = [
        progress(1),
        log(2),
        progress(3),
        progress(4),
        progress(1, "u"),
        status(5),
        progress(6),
        progress(2, "u"),
        progress(7),
    ]
    kept = conflate(events, set())
    assert [(e.task_id, e.seq) for e in kept] == [("t", 2), ("t", 4), ("t", 5), ("u", 2), ("t", 7)]


def test_a_backlog_below_half_keeps_everything(core: Core) -> None:
    """L-04: progress is conflated only when more than half of the buffer waits."""
    small = Core(buffer_events=100)
    blocker = Blocker()
    small.bus.subscribe(blocker)
    for number in range(50):
        small.progress(number)
    assert blocker.entered.wait(SOON)
    blocker.go_on.set()
    small.flush()
    assert blocker.seqs == list(range(1, 51))
    small.close()


def test_a_flood_of_progress_stays_within_the_bound() -> None:
    """R6: a million progress events before a stuck subscriber take no more than the buffer."""
    core = Core(buffer_events=1000)
    blocker = Blocker()
    core.bus.subscribe(blocker)
    core.run("a")
    assert blocker.entered.wait(SOON)
    most = 0
    for number in range(20):
        batch = [core.make(ProgressEvent, "ab"[at % 2], number * 1000 + at) for at in range(1000)]
        core.batch(batch)
        most = max(most, core.delivery._backlog.events)
    core.succeed(None, "a")
    assert most <= 2000  # the bound, and the batch that is being put
    blocker.go_on.set()
    core.flush()
    seqs = [event.seq for event in blocker.got if event.task_id == "a"]
    assert seqs == sorted(seqs) and seqs[-1] == core.seqs["a"]
    assert blocker.got[-2].current + blocker.got[-1].seq > 0
    report = core.delivery.ledger_report()
    assert report.exact and report.progress.produced == 20_000
    assert report.progress.conflated > 17_000
    last = {e.task_id: e for e in blocker.got if isinstance(e, ProgressEvent)}
    assert last["a"].current == 19_998 and last["b"].current == 19_999
    core.close()


def test_after_a_flood_of_lines_progress_is_overwritten_from_half_on_again() -> None:
    """R6: what could not be overwritten once does not make the buffer longer later."""
    core = Core(buffer_events=100)
    first, second = Blocker(), Blocker(lambda event: event.kind == "status")
    core.bus.subscribe(first)
    core.bus.subscribe(second)
    for number in range(300):
        core.log(str(number))
    assert first.entered.wait(SOON)
    first.go_on.set()
    core.flush()
    core.run()
    assert second.entered.wait(SOON)
    for number in range(60):
        core.progress(number)
    assert core.delivery._backlog.events < 60
    second.go_on.set()
    core.flush()
    core.close()


def test_full_comes_at_the_bound_and_goes_below_half() -> None:
    """L-04: congested from the bound on, relieved at half, told once."""
    core = Core(buffer_events=64)
    blocker = Blocker(lambda event: event.seq in (1,))
    second = Blocker(lambda event: event.seq == 40)
    core.bus.subscribe(blocker)
    core.bus.subscribe(second)
    for number in range(63):
        core.log(str(number))
    assert blocker.entered.wait(SOON)
    assert not core.delivery.congested
    core.log("last")
    assert core.delivery.congested and core.delivery.withheld("t")
    blocker.go_on.set()
    assert second.entered.wait(SOON)
    assert core.relieved.wait(SOON)
    assert not core.delivery.congested
    second.go_on.set()
    core.flush()
    assert blocker.seqs == list(range(1, 65))
    core.close()


def test_bytes_count_like_events() -> None:
    """R6: the bound in bytes holds with few large events."""
    core = Core(buffer_bytes=10_000)
    blocker = Blocker()
    core.bus.subscribe(blocker)
    core.log("x" * 4000)
    assert blocker.entered.wait(SOON)
    assert not core.delivery.congested
    core.log("x" * 4000)
    core.log("x" * 4000)
    assert core.delivery.congested
    blocker.go_on.set()
    core.flush()
    assert not core.delivery.congested
    assert core.delivery._backlog.size == 0 == core.delivery._backlog.events
    core.close()


def test_large_batches_are_given_out_in_parts() -> None:
    """L-04: the counts are right to within a chunk, and a batch put stays as it was."""
    backlog = Backlog(events=80, size=10**6, on_conflated=lambda _: None, on_relief=lambda: None)
    batch = [log(seq) for seq in range(1, 26)]
    backlog.put(batch, 2500)
    taken = []
    while len(taken) < 25:
        part = backlog.take()
        assert isinstance(part, list) and len(part) <= 10
        taken += part
    assert taken == batch and len(batch) == 25
    assert backlog.first_seq("t") is None
    backlog.close()
    assert backlog.take() is None
    assert (backlog.events, backlog.size) == (0, 0)


def test_the_first_waiting_event_of_a_task_is_found() -> None:
    """R19: what a late subscriber's snapshot must leave to the live events."""
    backlog = Backlog(events=80, size=10**6, on_conflated=lambda _: None, on_relief=lambda: None)
    backlog.put([log(1), log(1, "u")], 10)
    backlog.put_call(lambda: None)
    backlog.put([log(2), log(2, "u")], 10)
    assert (backlog.first_seq("u"), backlog.first_seq("x")) == (1, None)
    backlog.take()
    assert backlog.first_seq("u") == 2


def test_a_sleeping_taker_is_woken_by_whatever_comes() -> None:
    """W-12: no wake-up is lost between looking and sleeping, from several putting threads."""
    backlog = Backlog(events=80, size=10**6, on_conflated=lambda _: None, on_relief=lambda: None)
    taken: list[object] = []

    def take() -> None:
        while (item := backlog.take()) is not None:
            taken.append(item)

    taker = threading.Thread(target=take)
    taker.start()

    def put_calls() -> None:
        for _ in range(2000):
            backlog.put_call(lambda: None)

    caller = threading.Thread(target=put_calls)
    caller.start()
    for seq in range(2000):
        backlog.put([log(seq)], 1)
    caller.join(SOON)
    backlog.close()
    taker.join(SOON)
    assert len(taken) == 4000 and not taker.is_alive()
    assert not backlog.put_call(lambda: None)


def test_only_the_lagging_stream_has_gaps_and_only_in_progress(core: Core) -> None:
    """R8: gaps in seq are progress; produced = delivered + conflated."""
    small = Core(buffer_events=40)
    blocker, sink = Blocker(), Sink()
    small.bus.subscribe(blocker)
    small.bus.subscribe(sink)
    made = [small.run()]
    for number in range(100):
        made.append(small.progress(number) if number % 2 else small.log(str(number)))
    made.append(small.succeed())
    assert blocker.entered.wait(SOON)
    blocker.go_on.set()
    small.flush()
    missing = [event for event in made if event not in sink.got]
    assert missing and all(isinstance(event, ProgressEvent) for event in missing)
    assert [event for event in made if event in sink.got] == sink.got == blocker.got
    report = small.delivery.ledger_report()
    assert report.progress.conflated == len(missing) and report.exact
    small.close()
