"""Workers and tasks within limits, and a pool under pressure: stories under virtual time (L-01 to L-03)."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rxtasks.config import Settings
from rxtasks.lifecycle.options import ResourceLimits, TaskOptions
from rxtasks.lifecycle.status import TaskStatus, WorkerStatus
from rxtasks.pool.events import WorkerEvent
from rxtasks.pool.info import WorkerSpec
from rxtasks.pool.limits import Usage
from rxtasks.pool.pressure import Reading
from rxtasks.pool.words import Exited, MachineRead, Measured, PauseAsked
from rxtasks.testing.invariants import Checker
from rxtasks.testing.simulation import SETTINGS, Simulation
from rxtasks.testing.simworker import Run, SimulatedWorker

_SECOND = 1_000_000_000
_MB = 1_000_000
_KILL = ResourceLimits(memory_bytes=100 * _MB, over_limit="kill")
_SQUEEZED = MachineRead(Reading(1, 1000))
_FREE = MachineRead(Reading(1000, 1000))


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> list[WorkerEvent]:
    """What the pool's stream shows."""
    shown: list[WorkerEvent] = []
    check = Checker.told

    def tell(self: Checker, event: WorkerEvent) -> None:
        shown.append(event)
        check(self, event)

    monkeypatch.setattr(Checker, "told", tell)
    return shown


def _pool(*specs: WorkerSpec, with_settings: Settings = SETTINGS) -> Simulation:
    sim = Simulation(list(specs), with_settings)
    for worker in list(sim.workers.values()):
        worker.become_ready()
    return sim


def _begun(worker: SimulatedWorker) -> Run:
    run = worker.begin()
    assert run is not None
    return run


def _measure(sim: Simulation, worker: SimulatedWorker, memory: int, disk: int = 0) -> None:
    sim.advance(_SECOND // 10)
    sim.turn([Measured([(worker.worker_id, Usage(0.0, memory, disk))])])


def _kinds(told: list[WorkerEvent], kind: str) -> list[WorkerEvent]:
    return [event for event in told if event.kind == kind]


def _newest(sim: Simulation) -> SimulatedWorker:
    return list(sim.workers.values())[-1]


def _end(worker: SimulatedWorker, run: Run) -> None:
    worker.end(run, TaskStatus.SUCCEEDED)
    worker.flush(99)


# -- a kill -----------------------------------------------------------------------------------------------------------


def test_a_task_over_its_limit_is_killed_until_it_has_crashed_too_often(told: list[WorkerEvent]) -> None:
    """L-02 W-07: each kill is a crash of that task, told as over_limit; the error names the limit."""
    sim = _pool(WorkerSpec(1))
    task = sim.submit(TaskOptions(limits=_KILL, max_crashes=2))
    for attempt in (1, 2):
        worker = _newest(sim)
        if not worker.ready:
            worker.become_ready()
        _begun(worker)
        worker.flush(99)
        _measure(sim, worker, 101 * _MB)
        assert worker.dead == (None, 9), "killed at once"
        worker.exit()
        record = sim.store.get(task)
        assert record is not None and attempt == record.crashes
    assert TaskStatus.FAILED is record.status and record.error is not None
    assert "WORKER_CRASHED" == record.error.code
    assert "memory 101 MB over the limit of 100 MB (TaskOptions.limits)" in record.error.message
    assert record.error.details is not None and "memory" == record.error.details["resource"]
    assert (101 * _MB, 100 * _MB) == (record.error.details["used"], record.error.details["limit"])
    first, _ = _kinds(told, "over_limit")
    assert ("memory", "kill", "task", [task]) == tuple(first.data[key] for key in ("what", "action", "of", "task_ids"))
    sim.settle()


def test_a_task_with_limits_has_its_worker_to_itself_and_nobody_else_is_blamed() -> None:
    """L-02: nothing is sent ahead behind it, and nothing runs beside it."""
    sim = _pool(WorkerSpec(1, concurrency=3))
    (worker,) = sim.workers.values()
    first = sim.submit(TaskOptions(limits=_KILL, max_crashes=1))
    other = sim.submit(TaskOptions())
    run = _begun(worker)
    worker.flush(99)
    assert 0 == len(worker.queue), "the other one waits"
    _measure(sim, worker, 200 * _MB)
    assert not sim.core.pool.workers[worker.worker_id].able, "nothing more goes there"
    worker.exit()
    fresh = _newest(sim)
    fresh.become_ready()
    _end(fresh, _begun(fresh))
    records = [sim.store.get(task) for task in (first, other)]
    assert [(TaskStatus.FAILED, 1), (TaskStatus.SUCCEEDED, 0)] == [(r.status, r.crashes) for r in records if r]
    assert run.assignment.task_id == first
    sim.settle()


def test_what_had_begun_before_the_kill_came_is_interrupted_not_blamed() -> None:
    """L-02 W-07: the worker's limit was crossed by the one that was known to run."""
    sim = _pool(WorkerSpec(1, limits=_KILL, concurrency=2))
    (worker,) = sim.workers.values()
    guilty = sim.submit(TaskOptions())
    _begun(worker)
    worker.flush(99)
    late = sim.submit(TaskOptions())
    _begun(worker)  # it has begun, and nobody has heard of it
    _measure(sim, worker, 200 * _MB)
    worker.exit()
    records = {task: sim.store.get(task) for task in (guilty, late)}
    found = {task: (record.crashes, record.interruptions) for task, record in records.items() if record}
    assert {guilty: (1, 0), late: (0, 1)} == found
    sim.settle()


def test_what_has_not_begun_goes_to_the_next_worker_uncounted() -> None:
    """L-02: what was sent ahead to a worker that is killed had no part in it."""
    sim = _pool(WorkerSpec(1, limits=_KILL))
    (worker,) = sim.workers.values()
    sim.submit(TaskOptions())
    _end(worker, _begun(worker))
    tasks = [sim.submit(TaskOptions()) for _ in range(3)]
    _begun(worker)
    worker.flush(99)
    assert len(worker.queue) >= 1
    _measure(sim, worker, 200 * _MB)
    worker.exit()
    assert [1, 0, 0] == [record.crashes for record in map(sim.store.get, tasks) if record]
    assert [0, 0, 0] == [record.interruptions for record in map(sim.store.get, tasks) if record]
    sim.settle()


def test_an_idle_worker_over_its_limit_is_replaced_and_no_task_hears_of_it(told: list[WorkerEvent]) -> None:
    """L-02: what a leak has left there is nobody's crash."""
    sim = _pool(WorkerSpec(1, limits=_KILL))
    (worker,) = sim.workers.values()
    _measure(sim, worker, 200 * _MB)
    worker.exit()
    assert 1 == len(_kinds(told, "over_limit")) == len(_kinds(told, "replaced"))
    _newest(sim).become_ready()
    task = sim.submit(TaskOptions())
    fresh = _newest(sim)
    _end(fresh, _begun(fresh))
    record = sim.store.get(task)
    assert record is not None and (TaskStatus.SUCCEEDED, 1, 0) == (record.status, record.attempt, record.crashes)
    sim.settle()


def test_what_the_kernel_killed_at_the_cgroups_limit_is_seen_as_such(told: list[WorkerEvent]) -> None:
    """L-02 W-07: it is told as over_limit, and the error says so."""
    sim = _pool(WorkerSpec(1))
    (worker,) = sim.workers.values()
    task = sim.submit(TaskOptions(limits=_KILL, max_crashes=1))
    _begun(worker)
    worker.flush(99)
    worker.die(None, 9, 0)
    sim.turn([Exited(worker.worker_id, None, 9, 0, killed_at=100 * _MB)])
    worker.exited = True
    record = sim.store.get(task)
    assert record is not None and record.error is not None
    assert "memory at the limit of 100 MB (TaskOptions.limits), where the kernel killed for it" in record.error.message
    (event,) = _kinds(told, "over_limit")
    assert ("the kernel", "kill") == (event.data["how"], event.data["action"])


# -- warn and throttle ------------------------------------------------------------------------------------------------


def test_a_warning_changes_nothing(told: list[WorkerEvent]) -> None:
    """L-02: it is told, and the task goes on."""
    sim = _pool(WorkerSpec(1, limits=ResourceLimits(memory_bytes=100 * _MB)))
    (worker,) = sim.workers.values()
    sim.submit(TaskOptions())
    run = _begun(worker)
    worker.flush(99)
    _measure(sim, worker, 150 * _MB)
    _measure(sim, worker, 151 * _MB)
    _end(worker, run)
    assert ["memory 150 MB over the limit of 100 MB (limits of the worker)"] == [
        event.message for event in _kinds(told, "over_limit")
    ]
    sim.settle()


def test_a_throttled_worker_is_let_go_when_it_uses_less(told: list[WorkerEvent]) -> None:
    """L-02: and says by what means it was throttled."""
    sim = _pool(WorkerSpec(1, limits=ResourceLimits(disk_bytes=100, over_limit="throttle")))
    (worker,) = sim.workers.values()
    state = sim.core.pool.workers[worker.worker_id]
    _measure(sim, worker, 0, 150)
    assert state.throttled
    _measure(sim, worker, 0, 95)
    assert state.throttled
    _measure(sim, worker, 0, 90)
    assert not state.throttled
    (event,) = _kinds(told, "over_limit")
    assert event.message.endswith(": throttled (simulated)")
    sim.settle()


def test_a_worker_whose_priority_cannot_be_raised_again_is_replaced_after_the_task(told: list[WorkerEvent]) -> None:
    """L-02: the next task is not to pay for the limits of the last one."""
    sim = _pool(WorkerSpec(1))
    sim.lasting = True
    (worker,) = sim.workers.values()
    sim.submit(TaskOptions(limits=ResourceLimits(disk_bytes=100, over_limit="throttle")))
    run = _begun(worker)
    worker.flush(99)
    _measure(sim, worker, 0, 150)
    _measure(sim, worker, 0, 10)
    _end(worker, run)
    assert WorkerStatus.STOPPING is sim.core.pool.workers[worker.worker_id].status
    assert ["renewed: it was throttled, and its priority cannot be raised again"] == [
        event.message for event in _kinds(told, "stopping")
    ]
    assert 2 == len(sim.workers)
    sim.settle()


def test_the_limits_of_a_task_end_with_it(told: list[WorkerEvent]) -> None:
    """L-02: the next one uses what it likes."""
    sim = _pool(WorkerSpec(1))
    (worker,) = sim.workers.values()
    sim.submit(TaskOptions(limits=_KILL))
    run = _begun(worker)
    worker.flush(99)
    _end(worker, run)
    sim.submit(TaskOptions())
    run = _begun(worker)
    worker.flush(99)
    _measure(sim, worker, 500 * _MB)
    _end(worker, run)
    assert not _kinds(told, "over_limit") and len(sim.workers) == 1
    assert sim.core.pool.workers[worker.worker_id].watch is None
    sim.settle()


# -- limits that are too small ----------------------------------------------------------------------------------------


def test_a_limit_that_a_worker_exceeds_without_a_task_fails_the_start(told: list[WorkerEvent]) -> None:
    """L-01 W-04: the error says what it is, and what a worker takes."""
    sim = Simulation([WorkerSpec(1, limits=ResourceLimits(memory_bytes=5 * _MB))])
    sim.usage = Usage(0.0, 7 * _MB)
    (worker,) = sim.workers.values()
    worker.become_ready()
    assert worker.dead == (None, 9)
    worker.exit()
    error = str(sim.core.ender.stop_error)
    assert "memory_bytes=5000000 (5 MB) is less than a worker takes before its first task (7 MB" in error


def test_later_on_a_warning_is_no_reason_to_be_without_workers(told: list[WorkerEvent]) -> None:
    """L-02: a successor that has grown a little is told of, not refused."""
    sim = _pool(WorkerSpec(1, limits=ResourceLimits(memory_bytes=5 * _MB)))
    (worker,) = sim.workers.values()
    worker.die(None, 9, 0)
    worker.exit()
    sim.usage = Usage(0.0, 7 * _MB)
    _newest(sim).become_ready()
    assert WorkerStatus.IDLE is sim.core.pool.workers[_newest(sim).worker_id].status
    assert 1 == len(_kinds(told, "over_limit"))
    sim.settle()


def test_a_task_whose_limit_is_less_than_a_worker_takes_fails_at_once() -> None:
    """L-02: no attempt of it is begun, and the error says why."""
    sim = _pool(WorkerSpec(1))
    sim.usage = Usage(0.0, 101 * _MB)
    task = sim.submit(TaskOptions(limits=_KILL))
    record = sim.store.get(task)
    assert record is not None and record.error is not None
    assert (TaskStatus.FAILED, "SETTINGS", 0) == (record.status, record.error.code, record.attempt)
    assert "less than a worker takes before its first task (101 MB)" in record.error.message
    assert not sim.core.pool.workers[_newest(sim).worker_id].functions, "it was sent nothing"
    sim.usage = None
    sim.settle()


def test_what_others_have_left_in_a_worker_is_not_held_against_a_task(told: list[WorkerEvent]) -> None:
    """L-02: it begins in a new worker, and nothing is counted."""
    sim = _pool(WorkerSpec(1))
    (worker,) = sim.workers.values()
    sim.submit(TaskOptions())
    _end(worker, _begun(worker))
    sim.usage = Usage(0.0, 101 * _MB)
    task = sim.submit(TaskOptions(limits=_KILL))
    assert not worker.queue and worker.stop
    sim.usage = Usage(0.0, 10 * _MB)
    fresh = _newest(sim)
    assert fresh is not worker
    fresh.become_ready()
    _end(fresh, _begun(fresh))
    record = sim.store.get(task)
    assert record is not None
    assert (TaskStatus.SUCCEEDED, 1, 0, 0) == (record.status, record.attempt, record.crashes, record.interruptions)
    assert ["renewed: 101 MB in use before a task that may have 100 MB"] == [
        event.message for event in _kinds(told, "stopping")
    ]
    sim.settle()


def test_threads_have_no_limits_and_that_is_told_once(told: list[WorkerEvent]) -> None:
    """L-01: their memory is the whole process's; the tasks run."""
    limits = ResourceLimits(memory_bytes=1)
    sim = _pool(WorkerSpec(1, isolation="thread", limits=limits))
    (worker,) = sim.workers.values()
    for _ in range(2):
        sim.submit(TaskOptions(limits=limits))
        _end(worker, _begun(worker))
    assert [
        "limits do not apply to thread workers: what they use is this process's",
    ] == [event.message for event in _kinds(told, "warning") if event.worker_id is None]
    (said,) = [event.message for event in _kinds(told, "warning") if event.worker_id is not None]
    assert "do not apply in thread workers" in said
    sim.settle()


# -- pressure ---------------------------------------------------------------------------------------------------------

_PRESSED = attrs.evolve(SETTINGS, pause_memory=0.5)


def _running(sim: Simulation) -> int:
    return sum(len(worker.assigned) for worker in sim.core.pool.workers.values())


def test_under_pressure_one_attempt_runs_at_a_time_until_all_are_done(told: list[WorkerEvent]) -> None:
    """L-03: nothing stands still, and it is told why it is slow."""
    sim = _pool(WorkerSpec(3), with_settings=_PRESSED)
    sim.turn([_SQUEEZED])
    tasks = [sim.submit(TaskOptions()) for _ in range(5)]
    ended = 0
    while ended < 5:
        assert 1 == _running(sim)
        (worker,) = [worker for worker in sim.workers.values() if worker.queue]
        _end(worker, _begun(worker))
        ended += 1
    assert [TaskStatus.SUCCEEDED] * 5 == [record.status for record in map(sim.store.get, tasks) if record]
    (event,) = _kinds(told, "pool_paused")
    assert "memory" == event.data["pressure"] and "(pause_memory)" in event.message
    sim.turn([_FREE])
    sim.turn([_FREE])
    assert 1 == len(_kinds(told, "pool_resumed"))
    sim.settle()


def test_when_the_pressure_is_over_all_workers_get_work() -> None:
    """L-03: it resumes by itself."""
    sim = _pool(WorkerSpec(3), with_settings=_PRESSED)
    sim.turn([_SQUEEZED])
    for _ in range(3):
        sim.submit(TaskOptions())
    assert 1 == _running(sim)
    sim.turn([_FREE])
    assert 1 == _running(sim), "one reading is not enough"
    sim.turn([_FREE])
    assert 3 == _running(sim)
    sim.settle()


def test_what_runs_goes_on_when_the_pressure_begins() -> None:
    """L-03: only new attempts wait."""
    sim = _pool(WorkerSpec(2), with_settings=_PRESSED)
    for _ in range(4):
        sim.submit(TaskOptions())
    assert 2 == _running(sim)
    sim.turn([_SQUEEZED])
    one, two = sim.workers.values()
    _end(one, _begun(one))
    assert not one.queue, "the other one runs"
    _end(two, _begun(two))
    assert 1 == _running(sim)
    sim.turn([_FREE, _FREE])
    sim.settle()


def test_one_more_begins_every_ten_seconds_for_whom_the_others_may_wait() -> None:
    """L-03: tasks that wait for each other end, though slowly."""
    sim = _pool(WorkerSpec(3), with_settings=_PRESSED)
    sim.turn([_SQUEEZED])
    for _ in range(3):
        sim.submit(TaskOptions())
    seen = []
    for _ in range(25):
        sim.advance(_SECOND)
        sim.turn([_SQUEEZED])
        seen.append(_running(sim))
    assert [1] * 9 + [2] * 10 + [3] * 6 == seen
    sim.turn([_FREE, _FREE])
    sim.settle()


def test_one_more_that_needs_a_worker_to_itself_waits_for_one() -> None:
    """L-03: it is not claimed and given back without end where each worker has something."""
    sim = _pool(WorkerSpec(1, concurrency=3), with_settings=_PRESSED)
    (worker,) = sim.workers.values()
    sim.submit(TaskOptions())
    run = _begun(worker)
    worker.flush(99)
    sim.turn([_SQUEEZED])
    limited = sim.submit(TaskOptions(limits=_KILL))
    sim.advance(11 * _SECOND)
    sim.turn([_SQUEEZED])
    assert 1 == _running(sim)
    _end(worker, run)
    assert limited == _begun(worker).assignment.task_id
    sim.turn([_FREE, _FREE])
    sim.settle()


def test_an_inline_worker_is_never_held_back() -> None:
    """L-03: its caller is there already, and may be the handler of the one that runs."""
    sim = _pool(WorkerSpec(1, isolation="inline", concurrency=1000), with_settings=_PRESSED)
    sim.turn([_SQUEEZED])
    for _ in range(3):
        sim.submit(TaskOptions())
    assert 3 == _running(sim)
    sim.settle()


def test_workers_of_several_kinds_share_the_one_attempt() -> None:
    """L-03: a mixed pool runs one at a time too, of whichever kind."""
    sim = _pool(WorkerSpec(1, queues=("a",)), WorkerSpec(1, queues=("b",)), with_settings=_PRESSED)
    sim.turn([_SQUEEZED])
    for queue in ("a", "b", "a", "b"):
        sim.submit(TaskOptions(queue=queue))
    for _ in range(4):
        assert 1 == _running(sim)
        (worker,) = [worker for worker in sim.workers.values() if worker.queue]
        _end(worker, _begun(worker))
    assert 0 == _running(sim)
    sim.settle()


def test_pause_of_a_caller_and_pressure_are_told_apart() -> None:
    """L-03: both are in the status, the caller's word first."""
    sim = _pool(WorkerSpec(1), with_settings=_PRESSED)
    assert sim.core.paused_for is None
    sim.turn([_SQUEEZED])
    assert (sim.core.paused_for or "").startswith("pressure: ")
    sim.turn([PauseAsked(True)])
    assert "pause()" == sim.core.paused_for
    sim.turn([_FREE, _FREE])
    assert "pause()" == sim.core.paused_for
    sim.turn([PauseAsked(False)])
    assert sim.core.paused_for is None
    sim.settle()


# -- whatever happens -------------------------------------------------------------------------------------------------

_SPECS = (
    [WorkerSpec(2)],
    [WorkerSpec(1, limits=_KILL), WorkerSpec(1, concurrency=3)],
    [
        WorkerSpec(2, limits=ResourceLimits(memory_bytes=100 * _MB, over_limit="throttle")),
        WorkerSpec(1, isolation="thread"),
    ],
    [WorkerSpec(1, limits=ResourceLimits(disk_bytes=50, over_limit="kill"), concurrency=2)],
)
_OPTIONS = (
    TaskOptions(),
    TaskOptions(limits=_KILL),
    TaskOptions(limits=_KILL, max_crashes=1),
    TaskOptions(limits=ResourceLimits(memory_bytes=50 * _MB, disk_bytes=10, over_limit="throttle")),
    TaskOptions(limits=ResourceLimits(cpu_percent=10)),
    TaskOptions(priority=3),
)
_ACTIONS = st.tuples(
    st.sampled_from(
        (
            "submit",
            "submit",
            "begin",
            "begin",
            "end",
            "flush",
            "flush",
            "use",
            "use",
            "ready",
            "exit",
            "machine",
            "wait",
            "die",
        )
    ),
    st.integers(0, 255),
)


def _act(sim: Simulation, action: str, number: int) -> None:
    """Let one thing happen."""
    workers = list(sim.workers.values())
    worker = workers[number % len(workers)] if workers else None
    amount = (0, 20, 60, 101, 150)[number // 7 % 5] * _MB
    if action == "submit":
        sim.submit(_OPTIONS[number % len(_OPTIONS)])
    elif action == "machine":
        sim.turn([_SQUEEZED if number % 3 else _FREE])
    elif action == "wait":
        sim.advance((1, 200, 3_000, 11_000)[number % 4] * 1_000_000)
    elif worker is None or worker.exited:
        return
    elif action == "use":
        sim.usage = Usage(0.0, (10, 10, 10, 120)[number % 4] * _MB)
        look = Usage(number / 10, amount, number % 80, bool(number % 2), ooms=number // 250)
        sim.turn([Measured([(worker.worker_id, look)])])
    elif action == "ready" and worker.dead is None:
        worker.become_ready()
    elif action == "begin" and worker.able:
        worker.begin()
    elif action == "end" and worker.running and worker.dead is None:
        worker.end(worker.running[number % len(worker.running)], TaskStatus.SUCCEEDED)
    elif action == "flush" and worker.dead is None:
        worker.flush(1 + number % 4)
    elif action == "die" and not worker.thread:
        worker.die(None, 9, number % 3)
    elif action == "exit":
        worker.exit()


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(specs=st.sampled_from(_SPECS), lasting=st.booleans(), story=st.lists(_ACTIONS, max_size=80))
def test_no_story_of_limits_and_pressure_breaks_a_promise(
    specs: list[WorkerSpec], lasting: bool, story: list[tuple[str, int]]
) -> None:
    """L-01 L-02 L-03 W-07 R9: whatever is measured and whenever, every task ends once, and nobody stands still."""
    sim = Simulation(list(specs), _PRESSED)
    sim.lasting = lasting
    for worker in list(sim.workers.values()):
        worker.become_ready()
    for action, number in story:
        if not sim.finished:
            _act(sim, action, number)
    sim.usage = Usage(0.0, 0)
    if not sim.finished:
        sim.turn([_FREE])
        sim.turn([_FREE])
    sim.settle()
