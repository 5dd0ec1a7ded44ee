"""Workers are replaced after so many attempts, or above so much memory: stories under virtual time (W-11)."""

from __future__ import annotations

import attrs
import pytest

from rxtasks.lifecycle.options import TaskOptions
from rxtasks.lifecycle.status import TaskStatus, WorkerStatus
from rxtasks.pool.events import WorkerEvent
from rxtasks.pool.info import WorkerSpec
from rxtasks.pool.words import CancelAsked, CommandAsked, Exited, PauseAsked, ScaleAsked, StopAsked
from rxtasks.stores.memory import MemoryStore
from rxtasks.testing.invariants import Checker
from rxtasks.testing.simulation import SETTINGS, Simulation
from rxtasks.testing.simworker import Run, SimulatedWorker

_MS = 1_000_000
_SECOND = 1_000_000_000
_MIB = 2**20
_STARTING, _IDLE, _STOPPING = WorkerStatus.STARTING, WorkerStatus.IDLE, WorkerStatus.STOPPING


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


def _pool(
    *specs: WorkerSpec, max_tasks: int | None = None, max_memory: int | None = None, strict: bool = False
) -> Simulation:
    settings = attrs.evolve(SETTINGS, max_tasks=max_tasks, max_memory=max_memory, max_tasks_strict=strict)
    sim = Simulation(list(specs), settings)
    for worker in list(sim.workers.values()):
        worker.become_ready()
    return sim


def _run(sim: Simulation, worker: SimulatedWorker, count: int = 1) -> None:
    """Let the worker run so many tasks to their end."""
    for _ in range(count):
        if not worker.queue:
            sim.submit(TaskOptions())
        worker.end(_begun(worker), TaskStatus.SUCCEEDED)
        worker.flush(99)


def _begun(worker: SimulatedWorker) -> Run:
    run = worker.begin()
    assert run is not None
    return run


def _newest(sim: Simulation) -> SimulatedWorker:
    return list(sim.workers.values())[-1]


def _status(sim: Simulation, worker: SimulatedWorker) -> WorkerStatus:
    return sim.core.pool.workers[worker.worker_id].status


def _messages(told: list[WorkerEvent], kind: str) -> list[str]:
    return [event.message for event in told if event.kind == kind]


def _seen(sim: Simulation) -> int:
    return sim.core.pool.status(sim.now_ns, 0).active


# -- one worker after another -----------------------------------------------------------------------------------------


def test_a_worn_worker_goes_on_until_its_successor_is_ready(told: list[WorkerEvent]) -> None:
    """W-11: it gets tasks while its successor starts; then what it has not begun goes there, uncounted."""
    sim = _pool(WorkerSpec(1), max_tasks=3)
    (old,) = sim.workers.values()
    _run(sim, old, 3)
    assert 2 == len(sim.workers)
    new = _newest(sim)
    _run(sim, old, 2)
    tasks = [sim.submit(TaskOptions()) for _ in range(4)]
    run = _begun(old)
    old.flush(99)
    assert 3 == len(old.queue) and not new.queue
    new.become_ready()
    assert (0, 3) == (old.tokens, len(new.queue))
    assert (_STOPPING, True) == (_status(sim, old), old.stop)
    assert ["recycled: 5 tasks"] == _messages(told, "stopping")
    assert [f"by {new.worker_id}: recycled: 5 tasks"] == _messages(told, "replaced")
    old.end(run, TaskStatus.SUCCEEDED)
    old.flush(99)
    old.exit()
    _run(sim, new, 3)
    records = [sim.store.get(task) for task in tasks]
    assert [(TaskStatus.SUCCEEDED, 1, 0, 0)] * 4 == [
        (record.status, record.attempt, record.crashes, record.interruptions) for record in records if record
    ]
    assert "stopped" == [event for event in told if event.worker_id == old.worker_id][-1].kind
    sim.settle()


def test_the_pool_is_never_smaller_and_hardly_larger_for_it() -> None:
    """W-11: sixteen workers that are worn at once are replaced two at a time, and sixteen are there throughout."""
    sim = _pool(WorkerSpec(16), max_tasks=1)
    first = list(sim.workers.values())
    for _ in first:
        sim.submit(TaskOptions())
    for worker in first:
        worker.end(_begun(worker), TaskStatus.SUCCEEDED)
        worker.flush(99)
    replaced = 0
    while replaced < 16:
        starting = [worker for worker in sim.workers.values() if not worker.ready]
        assert 2 == len(starting)
        for worker in starting:
            worker.become_ready()
            assert (16, 18) == (_seen(sim), len(sim.workers))
        leaving = [worker for worker in first if worker.stop and not worker.exited]
        assert 2 == len(leaving), "another two only when these are gone"
        for worker in leaving:
            worker.leave()
            worker.exit()
        replaced += 2
    assert (16, 16) == (_seen(sim), len(sim.workers))
    assert not any(worker in first for worker in sim.workers.values())
    sim.settle()


def _two_busy(sim: Simulation) -> tuple[SimulatedWorker, SimulatedWorker]:
    """Give each of two workers a task that it has begun."""
    one, two = sim.workers.values()
    for worker in (one, two):
        sim.submit(TaskOptions())
        sim.submit(TaskOptions())
        _begun(worker)
        worker.flush(99)
    return one, two


def _end(worker: SimulatedWorker) -> None:
    worker.end(worker.running[0], TaskStatus.SUCCEEDED)
    worker.flush(99)


def test_the_longest_worn_worker_is_replaced_first() -> None:
    """W-11: a place whose workers are worn soon does not keep others from being replaced."""
    sim = _pool(WorkerSpec(2), max_tasks=1)
    one, two = _two_busy(sim)
    _end(one)
    sim.advance(_MS)
    _end(two)
    sim.advance(_MS)
    new = _newest(sim)
    new.become_ready()
    _run(sim, new)
    assert [one, two, new] == list(sim.workers.values())
    one.leave()
    one.exit()
    first, second = sim.core.pool.places
    assert [None, _newest(sim).worker_id] == [first.successor, second.successor]
    sim.settle()


def test_what_runs_beside_each_other_ends_where_it_is() -> None:
    """W-11 E-11: a worker that runs several tasks at once begins no more and leaves when the last has ended."""
    sim = _pool(WorkerSpec(1, concurrency=3), max_tasks=1)
    (old,) = sim.workers.values()
    _run(sim, old)
    tasks = [sim.submit(TaskOptions()) for _ in range(3)]
    runs = [_begun(old), _begun(old)]
    old.flush(99)
    new = _newest(sim)
    new.become_ready()
    assert [1, 2] == [len(new.queue), len(old.running)]
    for run in runs:
        assert old.dead is None
        old.end(run, TaskStatus.SUCCEEDED)
        old.flush(99)
    assert (0, None) == old.dead
    _run(sim, new)
    assert [1, 1, 1] == [record.attempt for record in map(sim.store.get, tasks) if record is not None]
    sim.settle()


def test_threads_are_replaced_after_so_many_tasks_and_not_for_memory(told: list[WorkerEvent]) -> None:
    """W-11: max_tasks counts for a thread too; its memory is everybody's, which is told at the start."""
    sim = _pool(WorkerSpec(1, isolation="thread"), max_tasks=2, max_memory=_MIB)
    (old,) = sim.workers.values()
    assert ["max_memory does not apply to thread workers: their memory is this process's"] == _messages(told, "warning")
    _run(sim, old, 2)
    _newest(sim).become_ready()
    old.leave()
    old.exit()
    assert ["recycled: 2 tasks"] == _messages(told, "stopping")
    sim.settle()


def test_the_inline_worker_stays(told: list[WorkerEvent]) -> None:
    """W-11: it is its callers' threads: nothing of it could be replaced, which is told at the start."""
    sim = _pool(WorkerSpec(1, isolation="inline"), max_tasks=1, max_memory=_MIB)
    (worker,) = sim.workers.values()
    assert 2 == len(_messages(told, "warning"))
    _run(sim, worker, 5)
    assert [worker] == list(sim.workers.values())
    sim.settle()


# -- a strict bound ---------------------------------------------------------------------------------------------------


def test_a_worker_with_a_strict_bound_gets_that_many_and_no_more(told: list[WorkerEvent]) -> None:
    """W-11: what is sent ahead counts; the successor starts with the last assignment and works after its end."""
    sim = _pool(WorkerSpec(1), max_tasks=3, strict=True)
    (old,) = sim.workers.values()
    _run(sim, old)
    tasks = [sim.submit(TaskOptions()) for _ in range(4)]
    assert 2 == len(old.queue)
    new = _newest(sim)
    assert (2, False) == (len(sim.workers), new.ready)
    new.become_ready()
    assert (2, 0, False) == (len(old.queue), len(new.queue), old.stop), (
        "no more tasks run at once than there are places"
    )
    _run(sim, old)
    assert (1, 0, False) == (len(old.queue), len(new.queue), old.stop)
    _run(sim, old)
    assert (3, 2, True) == (old.begun, len(new.queue), old.stop)
    assert [f"by {new.worker_id}: recycled: 3 tasks"] == _messages(told, "replaced")
    old.leave()
    old.exit()
    _run(sim, new, 2)
    records = [sim.store.get(task) for task in tasks]
    assert [(TaskStatus.SUCCEEDED, 1)] * 4 == [(record.status, record.attempt) for record in records if record]
    sim.settle()


def test_a_worker_that_may_get_no_more_leaves_before_its_successor_is_ready(told: list[WorkerEvent]) -> None:
    """W-11: what starts is in its place then, and tasks wait for it."""
    sim = _pool(WorkerSpec(1), max_tasks=1, strict=True)
    (old,) = sim.workers.values()
    _run(sim, old)
    new = _newest(sim)
    task = sim.submit(TaskOptions())
    assert (True, [task]) == (old.stop, sim.store.waiting())
    old.leave()
    old.exit()
    new.become_ready()
    assert 1 == len(new.queue)
    assert [f"by {new.worker_id}: recycled: 1 tasks"] == _messages(told, "replaced")
    sim.settle()


def test_each_worker_with_a_strict_bound_may_have_its_successor() -> None:
    """W-11: none of them can work on without one."""
    sim = _pool(WorkerSpec(4), max_tasks=1, strict=True)
    first = list(sim.workers.values())
    for _ in first:
        sim.submit(TaskOptions())
    assert [1, 1, 1, 1] == [len(worker.queue) for worker in first]
    coming = list(sim.workers.values())[4:]
    assert 4 == len(coming)
    for worker in coming:
        worker.become_ready()
    sim.submit(TaskOptions())
    assert not any(worker.queue for worker in coming)
    for worker in first:
        worker.end(_begun(worker), TaskStatus.SUCCEEDED)
        worker.flush(99)
    assert 1 == sum(len(worker.queue) for worker in coming)
    sim.settle()


def test_what_a_worker_gives_back_does_not_count() -> None:
    """W-11 W-13: what it has not begun leaves room for others, and the successor waits on."""
    sim = _pool(WorkerSpec(1), max_tasks=4, strict=True)
    (old,) = sim.workers.values()
    _run(sim, old)  # its run time is known now, and tasks are sent ahead
    tasks = [sim.submit(TaskOptions()) for _ in range(3)]
    run = _begun(old)
    old.flush(99)
    new = _newest(sim)
    new.become_ready()
    assert sim.ask(lambda ticket: CancelAsked(ticket, tasks[-1], "", None, unbegun=True))
    old.end(run, TaskStatus.SUCCEEDED)
    assert old.begin() is None, "it finds that both were taken back"
    old.flush(99)
    _run(sim, old)
    assert (3, False) == (old.begun, old.stop)
    sim.settle()
    assert old.worker_id in sim.workers, "one that may get more stays"
    _run(sim, old)
    assert (4, True, 0) == (old.begun, old.stop, len(sim.store.waiting()))
    _run(sim, new)
    sim.settle()


def test_a_successor_that_cannot_start_holds_no_place(told: list[WorkerEvent]) -> None:
    """W-11 W-04: the worker goes when it has ended its last, and its place is filled as any."""
    sim = _pool(WorkerSpec(1), max_tasks=1, strict=True)
    (old,) = sim.workers.values()
    sim.submit(TaskOptions())
    run = _begun(old)
    old.flush(99)
    _newest(sim).fail_to_start()
    _newest(sim).exit()
    assert "it goes on" not in _messages(told, "warning")[0]
    old.end(run, TaskStatus.SUCCEEDED)
    old.flush(99)
    assert old.stop and not _newest(sim).ready
    old.leave()
    old.exit()
    (new,) = sim.workers.values()
    new.become_ready()
    _run(sim, new)
    sim.settle()


def test_memory_replaces_a_worker_with_a_strict_bound_before_that() -> None:
    """W-11: when its successor is ready, or at once where that waits already."""
    sim = _pool(WorkerSpec(1), max_tasks=4, max_memory=50 * _MIB, strict=True)
    (old,) = sim.workers.values()
    _run(sim, old, 2)
    old.memory = 60 * _MIB
    _run(sim, old)
    assert not old.stop
    second = _newest(sim)
    second.become_ready()
    assert old.stop
    old.leave()
    old.exit()
    _run(sim, second)
    tasks = [sim.submit(TaskOptions()) for _ in range(3)]
    run = _begun(second)
    second.flush(99)
    third = _newest(sim)
    third.become_ready()
    assert sim.ask(lambda ticket: CancelAsked(ticket, tasks[-1], "", None, unbegun=True))
    second.memory = 60 * _MIB
    second.end(run, TaskStatus.SUCCEEDED)
    second.flush(99)
    assert (True, 1) == (second.stop, len(third.queue)), "what it had not begun moves"
    sim.settle()


# -- memory -----------------------------------------------------------------------------------------------------------


def test_a_worker_above_max_memory_after_an_attempt_is_replaced(told: list[WorkerEvent]) -> None:
    """W-11: the event tells how much it was."""
    sim = _pool(WorkerSpec(1), max_memory=512 * _MIB)
    (old,) = sim.workers.values()
    _run(sim, old, 5)
    assert 1 == len(sim.workers)
    old.memory = 612 * _MIB
    _run(sim, old)
    assert 2 == len(sim.workers)
    old.memory = 100 * _MIB
    old.beat()
    old.flush(99)
    _newest(sim).become_ready()
    assert ["recycled: memory 612 MB over 512 MB"] == _messages(told, "stopping")
    assert not _messages(told, "warning")
    sim.settle()


def test_a_worn_worker_that_grows_on_keeps_its_turn() -> None:
    """W-11: what it tells again does not put it behind others."""
    sim = _pool(WorkerSpec(3), max_memory=50 * _MIB)
    workers = list(sim.workers.values())
    for worker in workers:
        sim.submit(TaskOptions())
        _begun(worker)
        worker.flush(99)
    for memory, some in ((40, workers), (60, workers), (90, workers[1:2])):
        for worker in some:
            worker.memory = memory * _MIB
            _end(worker)
            sim.submit(TaskOptions())
            _begun(worker)
            worker.flush(99)
            sim.advance(_MS)
    _newest(sim).become_ready()
    _end(workers[0])
    workers[0].exit()
    assert sim.core.pool.places[1].successor == _newest(sim).worker_id
    sim.settle()


def test_memory_in_the_midst_of_an_attempt_replaces_nobody() -> None:
    """W-11 W-06: a heartbeat tells of a peak; what counts is what an attempt leaves behind."""
    sim = _pool(WorkerSpec(1), max_memory=512 * _MIB)
    (worker,) = sim.workers.values()
    sim.submit(TaskOptions())
    run = _begun(worker)
    worker.memory = 2048 * _MIB
    worker.beat()
    worker.flush(99)
    assert 2048 * _MIB == sim.core.pool.workers[worker.worker_id].memory_bytes
    worker.memory = 100 * _MIB
    worker.end(run, TaskStatus.SUCCEEDED)
    worker.flush(99)
    assert [worker] == list(sim.workers.values())
    sim.settle()


def _one_life(sim: Simulation, memory: int) -> float:
    """Let the only worker be above the limit after its first attempt; return the seconds until its successor starts."""
    (old,) = sim.workers.values()
    old.become_ready()
    old.memory = memory
    at = sim.now_ns
    _run(sim, old)
    while len(sim.workers) == 1:
        assert sim.now_ns - at < 100 * _SECOND
        sim.advance(_SECOND // 4)
    waited = (sim.now_ns - at) / _SECOND
    _newest(sim).become_ready()
    old.leave()
    old.exit()
    return waited


def test_a_limit_that_no_worker_can_keep_leads_to_no_loop(told: list[WorkerEvent]) -> None:
    """W-11: workers that are above max_memory after their first attempt are replaced less and less often, with a warning."""
    sim = _pool(WorkerSpec(1), max_memory=50 * _MIB)
    waited = [_one_life(sim, 80 * _MIB) for _ in range(10)]
    assert [0, 1, 2, 4, 8, 16, 32, 60, 60, 60] == waited
    (warning,) = _messages(told, "warning")
    assert "max_memory (50 MB) is too low" in warning and "80 MB" in warning
    (worker,) = sim.workers.values()
    _run(sim, worker, 10)
    worker.memory = 60 * _MIB
    _run(sim, worker)
    assert 2 == len(sim.workers), "one that has served a while is replaced at once"
    sim.settle()


def test_a_worker_that_grows_on_above_the_limit_does_not_wait() -> None:
    """W-11: what leaks in earnest is replaced at once, even where the limit is too low for all."""
    sim = _pool(WorkerSpec(1), max_memory=50 * _MIB)
    for _ in range(5):
        _one_life(sim, 80 * _MIB)
    (old,) = sim.workers.values()
    old.memory = 80 * _MIB
    _run(sim, old)
    sim.advance(_SECOND)
    assert 1 == len(sim.workers)
    old.memory = 110 * _MIB
    _run(sim, old)
    assert 1 == len(sim.workers)
    old.memory = 160 * _MIB
    _run(sim, old)
    assert 2 == len(sim.workers)
    sim.settle()


def test_max_tasks_is_kept_where_max_memory_is_too_low() -> None:
    """W-11: waiting because of the one does not put off the other."""
    sim = _pool(WorkerSpec(1), max_tasks=2, max_memory=50 * _MIB)
    for _ in range(5):
        _one_life(sim, 80 * _MIB)
    (old,) = sim.workers.values()
    old.memory = 80 * _MIB
    _run(sim, old)
    assert 1 == len(sim.workers)
    _run(sim, old)
    assert 2 == len(sim.workers)
    sim.settle()


# -- in the midst of it -----------------------------------------------------------------------------------------------


def _half_way(told: list[WorkerEvent], *, running: bool = False) -> tuple[Simulation, SimulatedWorker, SimulatedWorker]:
    """Return a pool of one worn worker whose successor is starting."""
    sim = _pool(WorkerSpec(1), max_tasks=1)
    (old,) = sim.workers.values()
    _run(sim, old)
    if running:
        sim.submit(TaskOptions())
        old.begin()
        old.flush(99)
    told.clear()
    return sim, old, _newest(sim)


def test_a_worker_that_dies_meanwhile_is_replaced_by_its_successor(told: list[WorkerEvent]) -> None:
    """W-11 W-07: no third worker is started, and the lost task runs there."""
    sim, old, new = _half_way(told, running=True)
    old.die(None, 9, 9)
    old.exit()
    assert [new] == list(sim.workers.values())
    assert [f"by {new.worker_id}"] == _messages(told, "replaced")
    new.become_ready()
    assert 1 == len(new.queue)
    sim.settle()
    (lost,) = [record for record in map(sim.store.get, sim.checker.tasks) if record is not None and record.crashes]
    assert (TaskStatus.SUCCEEDED, 2, 1) == (lost.status, lost.attempt, lost.crashes)


def test_a_worker_that_dies_on_its_way_out_has_failed(told: list[WorkerEvent]) -> None:
    """W-11 W-02: "stopped" is said of those that have ended what they ran."""
    sim, old, new = _half_way(told, running=True)
    new.become_ready()
    old.die(None, 9, 9)
    old.exit()
    assert ["failed"] == [event.kind for event in told if event.worker_id == old.worker_id][-1:]
    assert [new] == list(sim.workers.values())
    sim.settle()


def test_successors_that_cannot_start_are_tried_again_later_and_later(told: list[WorkerEvent]) -> None:
    """W-11 W-04: meanwhile the old worker goes on, and each failure is told."""
    sim, old, new = _half_way(told)
    delays, at = [], sim.now_ns
    for _ in range(12):
        new.fail_to_start()
        new.exit()
        _run(sim, old)
        while len(sim.workers) == 1:
            sim.advance(_SECOND // 2)
        delays.append((sim.now_ns - at) / _SECOND)
        at, new = sim.now_ns, _newest(sim)
    assert [1, 2, 4, 8, 16, 32, *[60] * 6] == delays
    assert 12 == len(_messages(told, "warning"))
    assert "ImportError: no module" in _messages(told, "warning")[0]
    assert (_IDLE, 0) == (_status(sim, old), len(_messages(told, "stopping")))
    new.become_ready()
    assert _STOPPING is _status(sim, old)
    old.leave()
    old.exit()
    _run(sim, new)
    assert 2 == len(sim.workers), "a success ends the row of failures"
    sim.settle()


def test_a_successor_that_cannot_be_spawned_is_tried_again() -> None:
    """W-11: no room for another process: the old one goes on."""
    sim = _pool(WorkerSpec(1), max_tasks=1)
    (old,) = sim.workers.values()
    sim.refuse_spawn = 2
    _run(sim, old, 3)
    assert [old] == list(sim.workers.values())
    sim.advance(3 * _SECOND)
    assert [_IDLE, _STARTING] == [_status(sim, worker) for worker in sim.workers.values()]
    sim.settle()


def test_a_worker_that_must_leave_meanwhile_is_replaced_by_its_successor() -> None:
    """W-11 W-17: a worker that cannot be restored does not wait for its successor, and none is started beside that."""
    sim = _pool(WorkerSpec(1), max_tasks=1)
    (old,) = sim.workers.values()
    _run(sim, old)
    new = _newest(sim)
    old.recycle()
    assert [old, new] == list(sim.workers.values())
    old.exit()
    assert [new] == list(sim.workers.values())
    sim.settle()


@pytest.mark.parametrize("ready", [False, True])
def test_a_smaller_pool_needs_no_successor(ready: bool) -> None:
    """W-11 W-03: with the place of a worn worker both leave."""
    sim = _pool(WorkerSpec(2), max_tasks=1)
    one, two = _two_busy(sim)
    _end(one)
    while one.queue:
        _begun(one)
        _end(one)
    assert _IDLE is _status(sim, one)
    new = _newest(sim)
    if ready:
        new.become_ready()
    assert 1 == sim.ask(lambda ticket: ScaleAsked(ticket, 1))
    assert (True, True, False) == (one.stop, new.stop or new.killed, two.stop)
    sim.settle()
    assert 1 == len([worker for worker in sim.workers.values() if not worker.stop])


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("ready", [False, True])
def test_a_stop_ends_a_recycling(told: list[WorkerEvent], force: bool, ready: bool) -> None:
    """W-11 W-05: what runs in the old worker may finish, the successor leaves, and nobody is started any more."""
    sim, _, new = _half_way(told, running=True)
    if ready:
        new.become_ready()
    sim.stop_asked = True
    sim.turn([StopAsked(force, 60 * _SECOND, "fail")])
    assert 2 == len(sim.workers)
    sim.settle()
    assert sim.finished
    statuses = {outcome.status for outcome in sim.checker.outcomes.values()}
    assert ({TaskStatus.SUCCEEDED, TaskStatus.FAILED} if force else {TaskStatus.SUCCEEDED}) == statuses


def test_a_pause_does_not_hold_up_a_recycling(told: list[WorkerEvent]) -> None:
    """W-11: what goes back while the pool is paused waits in the store."""
    sim = _pool(WorkerSpec(1), max_tasks=3)
    (old,) = sim.workers.values()
    _run(sim, old, 3)
    tasks = [sim.submit(TaskOptions()) for _ in range(3)]
    run = _begun(old)
    old.flush(99)
    sim.paused = True
    sim.turn([PauseAsked(True)])
    new = _newest(sim)
    new.become_ready()
    assert (tasks[1:], 0) == (sim.store.waiting(), len(new.queue))
    old.end(run, TaskStatus.SUCCEEDED)
    old.flush(99)
    old.exit()
    sim.paused = False
    sim.turn([PauseAsked(False)])
    sim.settle()
    assert [1, 1, 1] == [record.attempt for record in map(sim.store.get, tasks) if record is not None]


def test_a_worker_that_stays_on_is_still_asked(told: list[WorkerEvent]) -> None:
    """W-11 W-14: commands to all go to those that work; one that has left does not keep the answer back."""
    sim, old, new = _half_way(told)
    sim.ask(lambda ticket: CommandAsked(ticket, "ping"))
    ticket = sim.tickets
    new.become_ready()
    old.leave()
    old.exit()
    assert [old.worker_id] == list(sim.answers[ticket])
    sim.settle()


def test_a_successor_that_hangs_is_given_up_in_time(told: list[WorkerEvent]) -> None:
    """W-11 W-04: start_timeout counts for successors too."""
    sim, old, new = _half_way(told)
    sim.advance(31 * _SECOND)
    assert new.killed
    new.exit()
    assert [old] == list(sim.workers.values())
    assert "start_timeout" in _messages(told, "warning")[0]
    sim.settle()


def test_nothing_is_believed_of_a_successor_that_is_ready_too_late(told: list[WorkerEvent]) -> None:
    """W-11: one that is being killed already takes over from nobody."""
    sim, old, new = _half_way(told)
    new.frozen = True
    sim.advance(31 * _SECOND)
    sim.turn([])
    new.dead = None
    new.become_ready()
    assert (_IDLE, 0) == (_status(sim, old), len(_messages(told, "replaced")))
    sim.turn([Exited(new.worker_id, None, 9, 0)])
    sim.advance(2 * _SECOND)
    assert 2 == len(sim.workers)
    sim.settle()


def test_the_store_is_as_it_would_be_without_recycling() -> None:
    """W-11: 300 tasks through workers that last two attempts each end once, at their first attempt."""
    sim = _pool(WorkerSpec(3), max_tasks=2)
    tasks = [sim.submit(TaskOptions()) for _ in range(300)]
    sim.settle(2_000)
    assert isinstance(sim.store, MemoryStore)
    records = [sim.store.get(task) for task in tasks]
    assert [(TaskStatus.SUCCEEDED, 1)] * 300 == [(record.status, record.attempt) for record in records if record]
