"""Workers restarted, killed, asked and given hooks, amid everything that can go wrong: the core in simulation."""

from __future__ import annotations

import random

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rxtasks.clock import utc_from_us
from rxtasks.config import Settings
from rxtasks.engine.broadcast import NO_ANSWER
from rxtasks.lifecycle.options import TaskOptions
from rxtasks.lifecycle.status import TaskStatus, WorkerStatus
from rxtasks.pool.events import WorkerEvent
from rxtasks.pool.info import WorkerSpec
from rxtasks.pool.words import (
    Announce,
    CommandAsked,
    HookAsked,
    Instruction,
    KillAsked,
    Reported,
    RestartAsked,
    ShowTurned,
    SpawnWorker,
    Stimulus,
)
from rxtasks.testing.invariants import Violation
from rxtasks.testing.script import play, play_all, stop
from rxtasks.testing.simulation import SETTINGS, Simulation
from rxtasks.testing.simworker import SimulatedWorker
from rxtasks.testing.workerevents import check_worker_events
from rxtasks.wire.message import Define, Ready, Trouble

POOLS = (
    [WorkerSpec(2)],
    [WorkerSpec(1)],
    [WorkerSpec(1, concurrency=2), WorkerSpec(1, isolation="thread")],
    [WorkerSpec(2, isolation="thread")],
    [WorkerSpec(1, queues=("default",)), WorkerSpec(1)],
)
RECYCLED = (
    SETTINGS,
    attrs.evolve(SETTINGS, max_tasks=2),
    attrs.evolve(SETTINGS, max_tasks=3, max_tasks_strict=True),
    attrs.evolve(SETTINGS, max_memory=2 * 2**20),
)
_SECOND = 1_000_000_000


class Ordered(Simulation):
    """A simulation that keeps the pool's stream, and every worker's first hooks."""

    def __init__(self, specs: list[WorkerSpec], chosen: Settings = SETTINGS) -> None:
        self.stream: list[WorkerEvent] = []
        self.told: dict[str, list[str]] = {}
        super().__init__(specs, chosen)

    def _do(self, do: Instruction, outcomes: list[Stimulus]) -> None:
        if isinstance(do, Announce):
            self.stream.append(do.event)
        elif isinstance(do, ShowTurned):
            self.stream.append(WorkerEvent(do.status.value, do.worker_id, utc_from_us(do.wall_us)))
        elif isinstance(do, SpawnWorker):
            self.told[do.worker_id] = [define.key for define in do.defines]
        super()._do(do, outcomes)


def _some(sim: Simulation, number: int) -> str:
    """A worker that is there, or has been, or never was."""
    known = [*sim.core.pool.workers, *sim.core.pool.ended, "nobody"]
    return known[number % len(known)]


def _order(sim: Ordered, which: int, number: int) -> None:
    """Give one order, as `which` chooses."""
    if sim.finished:
        return
    worker_id = _some(sim, number)
    if which == 0:
        sim.ask(lambda ticket: RestartAsked(ticket, worker_id, f"by{ticket}"))
    elif which == 1:
        sim.ask(lambda ticket: KillAsked(ticket, worker_id))
    elif which == 2:
        key = f"hook:before_task:{number % 3}"
        define = Define(key, "m:f") if number % 2 else None
        sim.ask(lambda ticket: HookAsked(ticket, key, define, _SECOND))
        assert sim.frozen or (key in sim.core.pool.defines) == (define is not None)
    else:
        name = "checkpoint" if number % 2 else "ping"
        sim.ask(lambda ticket: CommandAsked(ticket, name, within_ns=_SECOND * (number % 3)))


def _run(sim: Ordered, script: bytes, orders: list[tuple[int, int]], ending: int) -> None:
    parts = len(orders) + 1
    size = len(script) // parts // 3 * 3
    for at, (which, number) in enumerate(orders):
        play(sim, script[at * size : (at + 1) * size])
        _order(sim, which, number)
    play_all(sim, script[len(orders) * size :], ending)
    check_worker_events(sim.stream, whole=sim.finished)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    pool=st.sampled_from(POOLS),
    recycled=st.sampled_from(RECYCLED),
    script=st.binary(min_size=60, max_size=300),
    orders=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 11)), min_size=1, max_size=12),
    ending=st.sampled_from((0, 0, *range(1, 40))),
)
def test_orders_amid_faults_break_no_promise(
    pool: list[WorkerSpec], recycled: Settings, script: bytes, orders: list[tuple[int, int]], ending: int
) -> None:
    """W-02 W-03 W-14: restart, kill, hooks and commands, in races with everything else; the events keep their grammar."""
    _run(Ordered(pool, recycled), script, orders, ending)


def test_long_random_runs_with_orders() -> None:
    """W-02 W-14: as above, over fixed seeds."""
    for seed in range(400):
        chance = random.Random(seed)
        script = chance.randbytes(3 * chance.randrange(10, 120))
        orders = [(chance.randrange(4), chance.randrange(12)) for _ in range(chance.randrange(1, 15))]
        pool, ending = chance.choice(POOLS), chance.choice((0, 0, chance.randrange(40)))
        try:
            _run(Ordered(pool, chance.choice(RECYCLED)), script, orders, ending)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error}") from error


# -- single stories ---------------------------------------------------------------------------------------------------


def _ready(sim: Simulation) -> list[SimulatedWorker]:
    for worker in list(sim.workers.values()):
        worker.become_ready()
    return list(sim.workers.values())


def _start_one(sim: Simulation) -> tuple[str, SimulatedWorker]:
    """Have a task run in the only worker."""
    task = sim.submit(TaskOptions(max_crashes=1))
    (worker,) = _ready(sim)
    assert worker.begin() is not None
    worker.flush(9)
    return task, worker


def test_kill_interrupts_and_counts_no_crash() -> None:
    """W-05: what the killed worker ran goes back as interrupted, though one crash would have been its end."""
    sim = Ordered([WorkerSpec(1)])
    task, worker = _start_one(sim)
    assert sim.ask(lambda ticket: KillAsked(ticket, worker.worker_id)) is True
    assert sim.ask(lambda ticket: KillAsked(ticket, worker.worker_id)) is True
    worker.exit()
    row = dict(sim.store.rows())[task]
    assert (0, 1) == (row.crashes, row.interruptions)
    assert sim.ask(lambda ticket: KillAsked(ticket, worker.worker_id)) == ""
    assert sim.ask(lambda ticket: KillAsked(ticket, "nobody")) is None
    (failed,) = [event for event in sim.stream if event.kind == "failed"]
    assert "killed on request" == failed.message
    sim.settle()
    assert sim.checker.outcomes[task].status is TaskStatus.SUCCEEDED


def test_a_starting_worker_that_is_killed_does_not_fail_the_start() -> None:
    """W-04 W-05: it is replaced at once, and counts as no failure to become ready."""
    sim = Ordered([WorkerSpec(1)])
    (worker_id,) = sim.workers
    assert sim.ask(lambda ticket: KillAsked(ticket, worker_id)) is True
    sim.workers[worker_id].exit()
    (other,) = sim.workers
    assert other != worker_id and sim.core.pool.ready is None
    _ready(sim)
    assert sim.core.pool.ready is True


def test_a_worker_that_was_sent_home_is_not_ready_any_more() -> None:
    """W-02: its Ready was under way when it was restarted: it is neither told nor given work."""
    sim = Ordered([WorkerSpec(1)])
    (worker_id,) = sim.workers
    by = sim.ask(lambda ticket: RestartAsked(ticket, worker_id, f"by{ticket}"))
    sim.turn([Reported(worker_id, Ready(1))])
    sim.workers[worker_id].exit()
    assert ["started", "stopping", "replaced", "stopped"] == [e.kind for e in sim.stream if e.worker_id == worker_id]
    assert [*sim.workers] == [by]
    check_worker_events(sim.stream, whole=False)


def test_a_restarted_worker_ends_what_it_runs() -> None:
    """W-05: it gives back what it has not begun, which its successor runs; asked again, nothing more happens."""
    sim = Ordered([WorkerSpec(1)])
    task, worker = _start_one(sim)
    by = sim.ask(lambda ticket: RestartAsked(ticket, worker.worker_id, f"by{ticket}"))
    assert by in sim.workers and by != worker.worker_id
    assert sim.ask(lambda ticket: RestartAsked(ticket, worker.worker_id, f"by{ticket}")) == by
    (run,) = worker.running
    worker.end(run, TaskStatus.SUCCEEDED)
    worker.flush(9)
    worker.exit()
    assert sim.checker.outcomes[task].status is TaskStatus.SUCCEEDED
    assert sim.ask(lambda ticket: RestartAsked(ticket, worker.worker_id, f"by{ticket}")) == by
    assert [*sim.workers] == [by]
    assert ["stopping", "stopped"] == [e.kind for e in sim.stream if e.worker_id == worker.worker_id][-3::2]


def test_a_thread_that_runs_a_task_is_not_killed() -> None:
    """W-18: its task would run twice at once; idle, it ends and is replaced."""
    sim = Ordered([WorkerSpec(1, isolation="thread")])
    task, worker = _start_one(sim)
    assert sim.ask(lambda ticket: KillAsked(ticket, worker.worker_id)) is False
    worker.end(worker.running[0], TaskStatus.SUCCEEDED)
    worker.flush(9)
    assert sim.checker.outcomes[task].status is TaskStatus.SUCCEEDED
    assert sim.ask(lambda ticket: KillAsked(ticket, worker.worker_id)) is True


def test_a_silent_worker_and_a_dead_one_are_named() -> None:
    """W-14: of three the answer tells who has acknowledged, who is gone and how, and who is silent."""
    sim = Ordered([WorkerSpec(3)])
    good, dead, silent = _ready(sim)
    silent.frozen = True
    asked: list[int] = []

    def make(ticket: int) -> CommandAsked:
        asked.append(ticket)
        return CommandAsked(ticket, "ping", within_ns=2 * _SECOND)

    assert sim.ask(make) is None
    good.flush(9)
    dead.die(None, 11, 0)
    dead.exit()
    assert asked[0] not in sim.answers
    sim.advance(3 * _SECOND)
    answer = sim.answers[asked[0]]
    assert {good.worker_id, dead.worker_id, silent.worker_id} == set(answer)
    assert (None, NO_ANSWER) == (answer[good.worker_id], answer[silent.worker_id])
    assert "gone" in answer[dead.worker_id] and "SIGSEGV" in answer[dead.worker_id]
    silent.frozen = False
    silent.flush(9)  # too late: nobody waits any more
    assert answer == sim.answers[asked[0]]


def test_hooks_reach_workers_that_come_later() -> None:
    """E-07: a hook goes to every worker that is there, and to others before they set themselves up; until it is removed."""
    sim = Ordered([WorkerSpec(1)])
    (first,) = _ready(sim)
    asked: list[int] = []

    def add(ticket: int) -> HookAsked:
        asked.append(ticket)
        return HookAsked(ticket, "hook:before_task:1", Define("hook:before_task:1", "m:f"))

    assert sim.ask(add) is None  # not before the worker has said so
    first.flush(9)
    assert sim.answers[asked[0]] == {first.worker_id: None}
    by = sim.ask(lambda ticket: RestartAsked(ticket, first.worker_id, f"by{ticket}"))
    assert ([], ["hook:before_task:1"]) == (sim.told[first.worker_id], sim.told[by])
    sim.ask(lambda ticket: HookAsked(ticket, "hook:before_task:1", None))
    last = sim.ask(lambda ticket: RestartAsked(ticket, by, f"by{ticket}"))
    assert [] == sim.told[last]


def test_a_failing_hook_is_told_with_its_worker_and_task() -> None:
    """E-07: as an event of the pool; nothing else comes of it, and a Trouble of a worker that is gone is nothing."""
    sim = Ordered([WorkerSpec(1)])
    task, worker = _start_one(sim)
    trouble = Trouble("hook", "before_task", "m.f", {"type": "ValueError", "message": "no"}, task, 3)
    before = sim.core.pool.workers[worker.worker_id].status
    sim.turn([Reported(worker.worker_id, trouble), Reported("nobody", trouble)])
    (event,) = [event for event in sim.stream if event.kind == "hook_failed"]
    assert (worker.worker_id, task) == (event.worker_id, event.data["task_id"])
    assert "hook before_task (m.f) failed: ValueError: no; 3 failures" in event.message
    assert before is sim.core.pool.workers[worker.worker_id].status is WorkerStatus.BUSY


def test_a_worker_that_does_not_leave_is_killed_and_named() -> None:
    """W-05: after leave_timeout, with a warning; it counts as stopped."""
    sim = Ordered([WorkerSpec(1)], attrs.evolve(SETTINGS, leave_timeout=2.0))
    (worker,) = _ready(sim)
    worker.frozen = True
    stop(sim, 1, 4)
    sim.advance(3 * _SECOND)
    (said,) = [event for event in sim.stream if event.kind == "warning"]
    assert worker.worker_id == said.worker_id and "leave_timeout (2 s)" in said.message
    sim.settle()
    assert ["stopping", "warning", "stopped"] == [e.kind for e in sim.stream if e.worker_id == worker.worker_id][-3:]


@pytest.mark.parametrize(
    "kinds",
    [
        ["started", "idle"],
        ["started", "ready", "idle", "stopping", "busy"],
        ["started", "ready", "stopped"],
        ["started", "ready", "idle", "idle"],
        ["started", "failed", "ready"],
        ["started", "replaced"],
        ["started", "stopping", "replaced", "stopped", "replaced"],
        ["heartbeat", "started"],
    ],
)
def test_the_grammar_refuses(kinds: list[str]) -> None:
    """W-02: the check can fail."""
    now = utc_from_us(0)
    events = [WorkerEvent("pool_started", None, now), *(WorkerEvent(kind, "w", now) for kind in kinds)]
    with pytest.raises(Violation):
        check_worker_events(events, whole=False)


@pytest.mark.parametrize(
    "kinds",
    [["pool_paused", "pool_paused"], ["pool_resumed"], ["pool_stopped", "warning"], ["pool_started"]],
)
def test_the_grammar_of_the_pool_refuses(kinds: list[str]) -> None:
    """W-02: the check can fail."""
    now = utc_from_us(0)
    with pytest.raises(Violation):
        check_worker_events([WorkerEvent(kind, None, now) for kind in ("pool_started", *kinds)], whole=False)
