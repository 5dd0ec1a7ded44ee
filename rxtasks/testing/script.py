"""What may happen to a pool, as moves that a script of bytes plays: three bytes a move, (which, a, b).

Bytes choose by remainder, so that every script is a legal one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rxtasks.lifecycle.options import TaskOptions
from rxtasks.lifecycle.retry import RetryPolicy
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.pool.words import CancelAsked, CommandAsked, DeliveryChanged, PauseAsked, ScaleAsked, StopAsked
from rxtasks.testing.simulation import Simulation
from rxtasks.testing.simworker import SimulatedWorker

__all__ = ["OPTIONS", "play", "play_all"]

_MS = 1_000_000
_SECOND = 1_000_000_000

_RETRY = RetryPolicy(max_attempts=3, backoff="fixed", base=0.05, jitter="none")
_TIMED = RetryPolicy(max_attempts=2, backoff="fixed", base=0.05, jitter="none", retry_on=(Exception,))

#: The kinds of task that a script submits.
OPTIONS = (
    TaskOptions(),
    TaskOptions(),
    TaskOptions(retry=_RETRY),
    TaskOptions(timeout=0.1, grace=0.05),
    TaskOptions(timeout=0.1, grace=0.0, retry=_TIMED),
    TaskOptions(max_crashes=1, grace=0.1),
    TaskOptions(priority=3, grace=0.0, max_crashes=2),
    TaskOptions(queue="other"),
)
_ENDS = (
    TaskStatus.SUCCEEDED,
    TaskStatus.SUCCEEDED,
    TaskStatus.FAILED,
    TaskStatus.RETRYING,
    TaskStatus.SCHEDULED,
    TaskStatus.CANCELLED,
)

_Move = Callable[[Simulation, int, int], Any]


def _one(sim: Simulation, number: int) -> SimulatedWorker | None:
    workers = list(sim.workers.values())
    return workers[number % len(workers)] if workers else None


def _with(do: Callable[[SimulatedWorker, int], Any]) -> _Move:
    def move(sim: Simulation, a: int, b: int) -> None:
        worker = _one(sim, a)
        if worker is not None:
            do(worker, b)

    return move


def _running(do: Callable[[SimulatedWorker, Any, int], Any]) -> _Move:
    """A move of an attempt; it begins the next one where none is under way."""

    def move(worker: SimulatedWorker, b: int) -> None:
        if not worker.running:
            worker.begin()
        if worker.running:
            do(worker, worker.running[b % len(worker.running)], b)

    return _with(move)


def _submit(sim: Simulation, a: int, b: int) -> None:
    if not sim.core.pool.stopping and not sim.store._closed:
        for _ in range(1 + b % 3):
            sim.submit(OPTIONS[a % len(OPTIONS)], function="fg"[b // 3 % 2], delay_us=30_000 if b % 7 == 6 else 0)


def _work(worker: SimulatedWorker, b: int) -> None:
    """Begin, run for a moment, end and report, as most tasks do."""
    worker.become_ready()
    for _ in range(1 + b % 3):
        run = worker.begin()
        if run is not None:
            worker.end(run, TaskStatus.SUCCEEDED)
    worker.flush(100)


def _end(worker: SimulatedWorker, run: Any, b: int) -> None:
    worker.end(run, _ENDS[b % len(_ENDS)])
    if b >= 128:
        worker.flush(100)


def _log(worker: SimulatedWorker, run: Any, b: int) -> None:
    for _ in range(1 + b % 4):
        worker.log(run, b * 24)


def _crash(worker: SimulatedWorker, b: int) -> None:
    if not worker.thread:
        worker.die(None if b % 2 else b % 3, 9 if b % 2 else None, b // 2 % 4)
    if b >= 64:
        worker.break_channel() if b % 4 == 0 else worker.exit()


def _grow(worker: SimulatedWorker, b: int) -> None:
    worker.memory += (1 + b % 4) * 2**19


def _freeze(worker: SimulatedWorker, b: int) -> None:
    worker.frozen = not worker.frozen


def _cancel(sim: Simulation, a: int, b: int) -> None:
    open_tasks = [task_id for task_id in sim.checker.tasks if task_id not in sim.checker.outcomes]
    if not open_tasks or sim.finished:
        return
    task_id = open_tasks[a % len(open_tasks)]
    claim = sim.store.claim_one(task_id)
    if sim.ask(lambda ticket: CancelAsked(ticket, task_id, "enough", claim, b % 2 == 1)):
        sim.checker.cancelled.add(task_id)


def _pause(sim: Simulation, a: int, b: int) -> None:
    sim.paused = a % 3 == 0
    sim.turn([PauseAsked(sim.paused)])


def _delivery(sim: Simulation, a: int, b: int) -> None:
    sim.full = a % 3 == 0
    sim.turn([DeliveryChanged(sim.full)])


def _steal(sim: Simulation, a: int, b: int) -> None:
    """Another engine takes a task over whose lease has lapsed."""
    held = [task_id for task_id, row in sim.store.rows() if row.token]
    if held:
        task_id = held[a % len(held)]
        sim.store.seize(task_id, 1_000_000 + len(sim.checker.stolen))
        sim.checker.stolen.add(task_id)


def _store(sim: Simulation, a: int, b: int) -> None:
    if a % 4 == 0:
        sim.slow = not sim.slow
    elif a % 4 == 1:
        sim.failing = 1 + b % 2
    sim.answer()


def _update(sim: Simulation, a: int, b: int) -> None:
    ids = sim.store.waiting()
    if ids:
        sim.store.update(ids[a % len(ids)], priority=b % 5)


def _ghosts(sim: Simulation, a: int, b: int) -> None:
    """What a lost worker said comes late."""
    if sim.ghosts:
        ghost = sim.ghosts[a % len(sim.ghosts)]
        ghost.flush(100)


def stop(sim: Simulation, a: int, b: int) -> None:
    """Stop the engine, or insist."""
    sim.stop_asked = True
    sim.turn([StopAsked(a % 4 == 0, (b % 5) * _SECOND, ("fail", "cancel", "keep")[b % 3])])


#: Each move with its weight.
MOVES: tuple[tuple[int, _Move], ...] = (
    (6, lambda sim, a, b: sim.advance(_MS * (1 + b % 12))),
    (8, _submit),
    (8, _with(_work)),
    (5, _with(lambda worker, b: worker.become_ready())),
    (5, _with(lambda worker, b: worker.begin())),
    (5, _running(_log)),
    (2, _running(lambda worker, run, b: worker.progress(run))),
    (6, _running(_end)),
    (6, _with(lambda worker, b: worker.flush(1 + b % 6))),
    (4, _with(_crash)),
    (4, _with(lambda worker, b: worker.exit())),
    (1, _with(lambda worker, b: worker.fail_to_start())),
    (3, _with(_freeze)),
    (4, _cancel),
    (2, _pause),
    (2, _delivery),
    (2, lambda sim, a, b: sim.ask(lambda ticket: ScaleAsked(ticket, a % 5))),
    (2, _with(lambda worker, b: worker.recycle())),
    (3, _with(lambda worker, b: worker.leave())),
    (4, _with(_grow)),
    (2, _store),
    (2, lambda sim, a, b: sim.answer()),
    (1, _running(lambda worker, run, b: worker.ask(run))),
    (1, _with(lambda worker, b: worker.misbehave() if b % 2 else None)),
    (1, _steal),
    (1, _update),
    (1, _ghosts),
    (1, lambda sim, a, b: sim.ask(lambda ticket: CommandAsked(ticket, "ping"))),
    (3, lambda sim, a, b: sim.advance(_MS * 10 * (1 + b % 20))),
    (1, lambda sim, a, b: sim.advance(_SECOND * (1 + b % 9))),
)
_TABLE = tuple(move for weight, move in MOVES for _ in range(weight))


def play(sim: Simulation, script: bytes) -> None:
    """Play the moves of the script; the last byte says whether the engine is stopped amid of it."""
    for at in range(0, len(script) - 2, 3):
        if sim.finished:
            return
        which, a, b = script[at : at + 3]
        _TABLE[which % len(_TABLE)](sim, a, b)


def play_all(sim: Simulation, script: bytes, ending: int = 0) -> None:
    """Play the script, then let faults stop: everything ends, before the stop or because of it.

    `ending`: 0 = everything ends, then stop; else the stop comes at once, in the way that the number chooses.
    """
    play(sim, script)
    sim.failing, sim.slow, sim.refuse_spawn = 0, False, 0
    while sim.waiting:
        sim.answer()
    if ending == 0:
        sim.paused = sim.full = False
        sim.turn([PauseAsked(False), DeliveryChanged(False)])
        sim.settle()
        ending = 1
    sim.full = False
    sim.turn([DeliveryChanged(False)])
    if not sim.finished:
        stop(sim, ending, ending // 4)
    sim.settle()
    if not sim.finished:
        sim.checker.at_the_end()
