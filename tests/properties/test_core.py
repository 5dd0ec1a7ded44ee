"""The pure core in simulated trouble: crashes, hangs, late answers, slow and failing commits, scale, cancel, stop.

Every run is a script of bytes (rxtasks.testing.script); what must hold is in rxtasks.testing.invariants.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rxtasks.config import Settings
from rxtasks.lifecycle.options import TaskOptions
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.pool.info import WorkerSpec
from rxtasks.pool.words import CancelAsked, Claimed, LeaseChanged, ScaleAsked, StopAsked
from rxtasks.testing.runs import POOLS, RECYCLED
from rxtasks.testing.script import OPTIONS, play_all
from rxtasks.testing.simulation import SETTINGS, Simulation
from rxtasks.testing.simworker import Run, SimulatedWorker
from rxtasks.wire.message import Ack

_MS = 1_000_000
_SECOND = 1_000_000_000


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    pool=st.sampled_from(POOLS),
    recycled=st.sampled_from(RECYCLED),
    script=st.binary(min_size=90, max_size=330),
    ending=st.sampled_from((0, 0, 0, *range(1, 40))),
)
@example(pool=POOLS[0], recycled=SETTINGS, script=b"", ending=0)
def test_every_run_keeps_every_promise(
    pool: tuple[WorkerSpec, ...], recycled: Settings, script: bytes, ending: int
) -> None:
    """W-03 W-04 W-05 W-07 W-08 W-09 W-11 W-13 Q-02 R1 R2 R9 R20 R22: no script of faults breaks an invariant."""
    play_all(Simulation(list(pool), recycled), script, ending)


# -- single stories ---------------------------------------------------------------------------------------------------


def _ready(sim: Simulation) -> list[SimulatedWorker]:
    for worker in list(sim.workers.values()):
        worker.become_ready()
    return list(sim.workers.values())


def _begun(worker: SimulatedWorker) -> Run:
    run = worker.begin()
    assert run is not None
    return run


def test_a_task_that_kills_its_worker_fails_after_max_crashes() -> None:
    """W-07: the poison task runs max_crashes times, alone, and then fails with WorkerCrashed."""
    sim = Simulation([WorkerSpec(1)])
    task = sim.submit(TaskOptions(max_crashes=3))
    for _ in range(3):
        (worker,) = _ready(sim)
        assert worker.begin() is not None
        worker.flush(9)
        worker.die(None, 9, 0)
        worker.exit()
    record = sim.store.get(task)
    assert record is not None and record.error is not None
    assert (TaskStatus.FAILED, 3, 3) == (record.status, record.crashes, record.attempt)
    assert "WORKER_CRASHED" == record.error.code
    sim.settle()


def test_what_was_not_begun_is_run_elsewhere_uncounted() -> None:
    """W-07 R20: of what a dead worker held only the begun task counts a crash."""
    sim = Simulation([WorkerSpec(1)])
    (worker,) = _ready(sim)
    sim.submit(TaskOptions())
    worker.end(_begun(worker), TaskStatus.SUCCEEDED)
    worker.flush(9)
    first, *others = [sim.submit(TaskOptions()) for _ in range(3)]
    assert 3 == len(worker.queue)
    worker.begin()
    worker.die(None, 11, 9)
    worker.exit()
    records = [sim.store.get(task) for task in (first, *others)]
    assert [1, 0, 0] == [record.crashes for record in records if record is not None]
    sim.settle()


def test_what_waits_behind_a_long_task_is_taken_back_for_an_idle_worker() -> None:
    """W-13: tasks sent ahead to a worker that got a long one are run by the idle one after 10 ms."""
    sim = Simulation([WorkerSpec(2)])
    one, two = _ready(sim)
    sim.submit(TaskOptions())
    for worker in (one, two):
        if (run := worker.begin()) is not None:
            worker.end(run, TaskStatus.SUCCEEDED)
            worker.flush(9)
    tasks = [sim.submit(TaskOptions()) for _ in range(6)]
    one.begin()
    one.flush(9)
    while two.begin() is not None:
        two.end(two.running[0], TaskStatus.SUCCEEDED)
    two.flush(99)
    sim.advance(11 * _MS)
    assert 5 == sum(task in [held.task_id for held in two.queue] or task in sim.checker.outcomes for task in tasks)
    sim.settle()


def test_what_waits_behind_a_task_that_another_engine_has_taken_over_is_taken_back() -> None:
    """W-13 Q-02: such a task still runs here, although it is not held any more."""
    sim = Simulation([WorkerSpec(2)])
    one, two = _ready(sim)
    for _ in range(4):
        for worker in (one, two):
            sim.submit(TaskOptions())
            while worker.begin() is not None:
                worker.end(worker.running[0], TaskStatus.SUCCEEDED)
                worker.flush(9)
    sim.settle()
    taken = sim.submit(TaskOptions(max_crashes=5))
    busy, idle = (one, two) if one.queue else (two, one)
    run = _begun(busy)
    busy.flush(9)
    sim.submit(TaskOptions())
    sim.submit(TaskOptions())
    idle_runs = [_begun(idle)]
    idle.flush(9)
    behind = [task.task_id for task in busy.queue]
    assert behind, "nothing was sent ahead"
    sim.store.seize(taken, 1_000_000)
    sim.checker.stolen.add(taken)
    busy.ask(run)
    busy.flush(9)
    for held in idle_runs:
        idle.end(held, TaskStatus.SUCCEEDED)
        idle.flush(9)
    sim.advance(11 * _MS)
    assert behind == [task.task_id for task in idle.queue]
    sim.settle()


def test_nothing_is_begun_while_the_lease_has_lapsed() -> None:
    """Q-02 Q-03: what is claimed goes back, for it may be another engine's; it is begun when the lease holds again."""
    sim = Simulation([WorkerSpec(1)])
    (one,) = _ready(sim)
    sim.paused = True  # an idle worker beside waiting tasks is as it should be
    sim.turn([LeaseChanged(True)])
    tasks = [sim.submit(TaskOptions()) for _ in range(3)]
    assert tasks == sim.store.waiting() and not one.queue
    sim.paused = False
    sim.turn([LeaseChanged(False)])
    assert tasks[:1] == [held.task_id for held in one.queue][:1]
    sim.settle()
    assert {TaskStatus.SUCCEEDED} == {outcome.status for outcome in sim.checker.outcomes.values()}


def test_a_store_that_fails_for_days_is_still_tried() -> None:
    """E-19: every 60 s, the thousandth time too."""
    sim = Simulation([WorkerSpec(1)])
    _ready(sim)
    sim.failing = 1_100
    task = sim.submit(TaskOptions())
    sim.advance(1_100 * 60 * _SECOND)
    assert 0 == sim.failing
    sim.settle()
    assert TaskStatus.SUCCEEDED is sim.checker.outcomes[task].status


def test_what_a_worker_holds_takes_thirty_milliseconds_at_most() -> None:
    """W-13: of tasks of 9 ms it holds three, so that it need not wait for the next one; and one that is not measured yet."""
    sim = Simulation([WorkerSpec(1)])
    (worker,) = _ready(sim)
    tasks = [sim.submit(TaskOptions(), function="g") for _ in range(6)]
    assert [1] == [len(worker.queue)], "nothing is known of it yet"
    for _ in range(2):
        worker.end(_begun(worker), TaskStatus.SUCCEEDED)
        worker.flush(9)
    assert 3 == len(worker.queue)
    worker.begin()
    worker.flush(9)
    assert 2 == len(worker.queue)
    sim.settle()
    records = [sim.store.get(task) for task in tasks]
    assert all(record is not None and record.status is TaskStatus.SUCCEEDED for record in records)


def test_a_cancel_that_crosses_a_retry_is_kept() -> None:
    """W-09: an attempt that asked for a retry before the cancel reached it is not followed by another."""
    sim = Simulation([WorkerSpec(1)])
    (worker,) = _ready(sim)
    task = sim.submit(OPTIONS[2])
    worker.end(_begun(worker), TaskStatus.RETRYING)
    assert sim.ask(lambda ticket: CancelAsked(ticket, task, None, None)) is True
    worker.flush(9)
    assert TaskStatus.CANCELLED is sim.checker.outcomes[task].status
    sim.settle()


def test_a_cancel_of_what_has_not_begun_takes_it_back_and_leaves_what_runs() -> None:
    """N-03: a task that waits in the store, or behind another one in a worker, is cancelled; one that runs goes on."""
    sim = Simulation([WorkerSpec(1)])
    (worker,) = _ready(sim)
    for _ in range(20):  # short ones: the next are sent ahead
        sim.submit(OPTIONS[0])
        worker.end(_begun(worker), TaskStatus.SUCCEEDED)
        worker.flush(9)
    tasks = [sim.submit(OPTIONS[0]) for _ in range(4)]
    run = _begun(worker)
    assert len(worker.queue) > 1, "nothing was sent ahead"

    def cancel(task: str) -> bool:
        return bool(sim.ask(lambda ticket: CancelAsked(ticket, task, None, sim.store.claim_one(task), True)))

    assert cancel(tasks[2]) and cancel(tasks[3]) and not cancel(tasks[0])
    assert [TaskStatus.CANCELLED] * 2 == [sim.checker.outcomes[task].status for task in tasks[2:]]
    worker.end(run, TaskStatus.SUCCEEDED)
    sim.settle()
    assert [TaskStatus.SUCCEEDED] * 2 == [sim.checker.outcomes[task].status for task in tasks[:2]]
    assert not cancel(tasks[0]), "it has ended"


def _asked(worker: SimulatedWorker) -> int:
    """Return how many commands (requests for a checkpoint) the worker has acknowledged, and forget them."""
    found = [report for report in worker.out if isinstance(report, Ack)]
    for report in found:
        worker.out.remove(report)
    return len(found)


_LIMITED = TaskOptions(timeout=1.0, grace=2.0)


def test_a_time_limit_counts_from_the_report_that_the_attempt_has_begun() -> None:
    """W-08: the whole of timeout and grace is the attempt's, however late it began after its assignment."""
    sim = Simulation([WorkerSpec(1)])
    (worker,) = _ready(sim)
    task = sim.submit(_LIMITED)
    sim.advance(900 * _MS)
    worker.begin()
    worker.flush(1)
    sim.advance(990 * _MS)
    assert 0 == _asked(worker)
    sim.advance(20 * _MS)
    assert 1 == _asked(worker)
    sim.advance(1_980 * _MS)
    assert (0, False) == (_asked(worker), worker.killed)
    sim.advance(20 * _MS)
    assert worker.killed
    worker.exit()
    error = sim.checker.outcomes[task].error
    assert error is not None and "TASK_TIMEOUT" == error.code
    assert error.details is not None and error.details["elapsed"] >= 3.0
    sim.settle()


@pytest.mark.parametrize("late_ms", [1_500, 2_500])
def test_a_begin_that_is_reported_after_the_limit_moves_it(late_ms: int) -> None:
    """W-08: also when a checkpoint has been asked for; it is asked for again, and the hard limit comes once."""
    sim = Simulation([WorkerSpec(1)])
    (worker,) = _ready(sim)
    sim.submit(_LIMITED)
    sim.advance(late_ms * _MS)
    assert 1 == _asked(worker)
    worker.begin()
    worker.flush(1)
    sim.advance(990 * _MS)
    assert 0 == _asked(worker)
    sim.advance(1_990 * _MS)
    assert not worker.killed
    sim.advance(30 * _MS)
    assert worker.killed
    worker.exit()
    sim.settle()


def test_an_attempt_whose_begin_is_never_reported_is_timed_out() -> None:
    """W-08: a handler that holds the interpreter lets nothing out: then the limit counts from the assignment."""
    sim = Simulation([WorkerSpec(1)])
    (worker,) = _ready(sim)
    sim.submit(_LIMITED)
    worker.begin()
    sim.advance(990 * _MS)
    assert 0 == _asked(worker)
    sim.advance(20 * _MS)
    assert 1 == _asked(worker)
    sim.advance(1_980 * _MS)
    assert not worker.killed
    sim.advance(20 * _MS)
    assert worker.killed
    worker.exit()
    sim.settle()


def test_a_cancel_is_not_put_off_by_a_begin_that_is_reported_late() -> None:
    """W-09: what is being ended already gets no more time."""
    sim = Simulation([WorkerSpec(1)])
    (worker,) = _ready(sim)
    task = sim.submit(_LIMITED)
    run = _begun(worker)
    assert sim.ask(lambda ticket: CancelAsked(ticket, task, None, None)) is True
    worker.flush(9)
    assert run.cancelled
    sim.advance(2_010 * _MS)
    assert worker.killed
    worker.exit()
    assert TaskStatus.CANCELLED is sim.checker.outcomes[task].status
    sim.settle()


def test_respawns_wait_longer_and_longer_and_end() -> None:
    """W-04: after failures to become ready the delay doubles from 1 s to 60 s, and after ten the place is given up."""
    sim = Simulation([WorkerSpec(2)])
    one, two = sim.workers.values()
    one.become_ready()
    delays, at = [], sim.now_ns
    worker = two
    for _ in range(10):
        worker.fail_to_start()
        worker.exit()
        while all(w is one for w in sim.workers.values()):
            sim.advance(_SECOND // 2)
        delays.append((sim.now_ns - at) / _SECOND)
        at = sim.now_ns
        worker = next(w for w in sim.workers.values() if w is not one)
    assert [1, 2, 4, 8, 16, 32, 60, 60, 60, 60] == delays
    worker.fail_to_start()
    worker.exit()
    sim.advance(600 * _SECOND)
    assert [one] == list(sim.workers.values())


def test_a_stop_gives_unstarted_tasks_back_and_lets_running_ones_finish() -> None:
    """W-05: a graceful stop waits for what runs, at most drain_timeout; with `keep` the rest is in the store."""
    sim = Simulation([WorkerSpec(1)])
    (worker,) = _ready(sim)
    first, second = sim.submit(TaskOptions()), sim.submit(TaskOptions())
    run = _begun(worker)
    sim.stop_asked = True
    sim.turn([StopAsked(False, 60 * _SECOND, "keep")])
    assert not sim.finished
    worker.end(run, TaskStatus.SUCCEEDED)
    worker.flush(9)
    worker.exit()
    assert sim.finished
    assert TaskStatus.SUCCEEDED is sim.checker.outcomes[first].status
    assert [second] == sim.store.waiting()


def test_what_is_claimed_as_a_stop_comes_ends_with_it() -> None:
    """W-05 R24: a claim that the core hears of behind the stop does not wait for what still runs."""
    sim = Simulation([WorkerSpec(1)])
    (worker,) = _ready(sim)
    sim.submit(TaskOptions())
    _begun(worker)
    sim.slow = True
    late = sim.submit(TaskOptions())
    (lane,) = sim.core.pool.lanes
    claims = sim.store.claim(lane, 1, sim.wall_us)
    sim.slow = False
    sim.stop_asked = True
    sim.turn([StopAsked(False, 60 * _SECOND, "fail"), Claimed(lane, 1, claims, None)])
    assert TaskStatus.FAILED is sim.checker.outcomes[late].status
    sim.settle()


def test_a_forced_stop_kills_at_once_and_fails_what_ran() -> None:
    """W-05: force=True does not wait; what was cut off in a memory store fails with ServiceStopped."""
    sim = Simulation([WorkerSpec(1)])
    (worker,) = _ready(sim)
    task = sim.submit(TaskOptions())
    worker.begin()
    worker.flush(9)
    sim.stop_asked = True
    sim.turn([StopAsked(True, 60 * _SECOND, "fail")])
    worker.exit()
    assert sim.finished
    error = sim.checker.outcomes[task].error
    assert error is not None and "SERVICE_STOPPED" == error.code


def test_a_scale_during_a_stop_starts_nothing() -> None:
    """W-03 W-05: a stop is not undone by a scale that comes behind it."""
    sim = Simulation([WorkerSpec(1)])
    (worker,) = _ready(sim)
    sim.submit(TaskOptions())
    worker.begin()
    sim.stop_asked = True
    sim.turn([StopAsked(False, 60 * _SECOND, "fail")])
    sim.ask(lambda ticket: ScaleAsked(ticket, 4))
    assert [worker] == list(sim.workers.values())
    sim.settle()
