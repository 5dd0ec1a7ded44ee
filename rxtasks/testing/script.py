"""What may happen to a service, as moves that a script of bytes plays: three bytes a move, (which, a, b).

Bytes choose by remainder, so that every script is a legal one. `describe` says a script in words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import attrs

from rxtasks.lifecycle.options import ResourceLimits, TaskOptions
from rxtasks.lifecycle.retry import RetryPolicy
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.pool.info import WorkerSpec
from rxtasks.pool.limits import Usage
from rxtasks.pool.pressure import Reading
from rxtasks.pool.words import (
    CommandAsked,
    DeliveryChanged,
    Gone,
    HookAsked,
    KillAsked,
    MachineRead,
    Measured,
    PauseAsked,
    RestartAsked,
    ScaleAsked,
    StopAsked,
    WorkArrived,
)
from rxtasks.testing.fleet import Fleet
from rxtasks.testing.simulation import Simulation
from rxtasks.testing.simworker import SimulatedWorker
from rxtasks.wire.message import Define

__all__ = ["OPTIONS", "describe", "play", "play_all", "play_fleet"]

_MS = 1_000_000
_SECOND = 1_000_000_000

_RETRY = RetryPolicy(max_attempts=3, backoff="fixed", base=0.05, jitter="none")
_TIMED = RetryPolicy(max_attempts=2, backoff="fixed", base=0.05, jitter="none", retry_on=(Exception,))
_SPREAD = RetryPolicy(max_attempts=4, base=0.02, cap=2.0)

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
    TaskOptions(lock="door"),
    TaskOptions(max_running=2, retry=_SPREAD),
    TaskOptions(rate="100/s"),
    TaskOptions(isolation="thread", timeout=0.2, grace=0.05),
    TaskOptions(priority=-2, retry=_SPREAD),
    TaskOptions(limits=ResourceLimits(memory_bytes=100_000_000, over_limit="kill")),
    TaskOptions(limits=ResourceLimits(cpu_percent=50, memory_bytes=150_000_000, over_limit="throttle")),
)
#: A machine that is short of nothing, seen so twice.
_CALM = (MachineRead(Reading(900, 1000)),) * 2
_ENDS = (
    TaskStatus.SUCCEEDED,
    TaskStatus.SUCCEEDED,
    TaskStatus.FAILED,
    TaskStatus.RETRYING,
    TaskStatus.SCHEDULED,
    TaskStatus.CANCELLED,
)

_Do = Callable[[Simulation, int, int], Any]


class Move(NamedTuple):
    """One kind of move: how often it comes, what it is called, what it does."""

    weight: int
    name: str
    do: _Do


def _one(sim: Simulation, number: int) -> SimulatedWorker | None:
    workers = list(sim.workers.values())
    return workers[number % len(workers)] if workers else None


def _with(do: Callable[[SimulatedWorker, int], Any]) -> _Do:
    def move(sim: Simulation, a: int, b: int) -> None:
        worker = _one(sim, a)
        if worker is not None:
            do(worker, b)

    return move


def _running(do: Callable[[SimulatedWorker, Any, int], Any]) -> _Do:
    """A move of an attempt; it begins the next one where none is under way."""

    def move(worker: SimulatedWorker, b: int) -> None:
        if not worker.running:
            worker.begin()
        if worker.running:
            do(worker, worker.running[b % len(worker.running)], b)

    return _with(move)


def _takes(sim: Simulation) -> bool:
    return not (sim.core.pool.stopping or sim.stop_asked or sim.store._closed or sim.gone)


def _fits(sim: Simulation, options: TaskOptions) -> bool:
    """Say whether some worker of the service may run such a task, as a service looks before it takes one in."""
    return any(lane.takes(options.isolation, options.queue) for lane in sim.core.pool.lanes)


def _submit(sim: Simulation, a: int, b: int) -> None:
    options = OPTIONS[a % len(OPTIONS)]
    if _takes(sim) and _fits(sim, options):
        # What is bounded by its name has one of its own: the bounds that came last count.
        function = "fg"[b // 3 % 2] if options.rate is None else "r"
        for _ in range(1 + b % 3):
            sim.submit(options, function=function, delay_us=30_000 if b % 7 == 6 else 0)


def _submit_held(sim: Simulation, a: int, b: int) -> None:
    """Take a task in without queueing it, or queue such a one."""
    held = [i for i in sim.checker.books.open if sim.checker._row(i).status is TaskStatus.CREATED]
    if not _takes(sim):
        return
    if held and b % 2:
        sim.store.enqueue([attrs.evolve(sim.checker.tasks[held[a % len(held)]], hold=False)])
        sim.turn([WorkArrived()])
    else:
        sim.submit(OPTIONS[0], hold=True)


def _depend(sim: Simulation, a: int, b: int) -> None:
    """Submit a task that depends on one or two others."""
    if _takes(sim) and sim.checker.tasks:
        known = [i for i in sim.checker.tasks if i not in sim.checker.stolen]
        if known:
            needs = {known[a % len(known)], known[-1 - b % min(3, len(known))]}
            how = "run" if b % 4 == 3 else "cancel"
            sim.submit(TaskOptions(depends_on=tuple(sorted(needs)), on_dependency_failure=how))  # type: ignore[arg-type]


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


def _silence(worker: SimulatedWorker, b: int) -> None:
    worker.frozen = not worker.frozen


def _resist(worker: SimulatedWorker, b: int) -> None:
    worker.unkillable = not worker.thread


def _odd(worker: SimulatedWorker, b: int) -> None:
    """Break the protocol, one way or another."""
    if b % 4 == 0:
        worker.misbehave()
    elif b % 4 == 1:
        worker.repeat()
    elif b % 8 == 2:
        worker.sever()
    elif b % 8 == 6:
        worker.drop_unasked()


def _cancel(sim: Simulation, a: int, b: int) -> None:
    open_tasks = [task_id for task_id in sim.checker.tasks if task_id not in sim.checker.outcomes]
    if open_tasks and not (sim.finished or (sim.stop_asked and sim.seat is None)):
        sim.cancel(open_tasks[a % len(open_tasks)], "enough", unbegun=b % 4 == 3)


def _pause(sim: Simulation, a: int, b: int) -> None:
    sim.paused = a % 3 == 0
    sim.turn([PauseAsked(sim.paused)])


def _delivery(sim: Simulation, a: int, b: int) -> None:
    sim.full = a % 3 == 0
    sim.turn([DeliveryChanged(sim.full)])


def _steal(sim: Simulation, a: int, b: int) -> None:
    """Another engine takes a task over whose lease has lapsed."""
    if sim.seat is not None:
        return
    held = [task_id for task_id, row in sim.store.rows() if row.token]
    if held:
        task_id = held[a % len(held)]
        needed = {each for task in sim.checker.tasks.values() for each in task.options.depends_on}
        if sim.checker.tasks[task_id].related is None and task_id not in needed:
            sim.store.seize(task_id, 1_000_000 + len(sim.checker.stolen))
            sim.checker.stolen.add(task_id)


def _store(sim: Simulation, a: int, b: int) -> None:
    if a % 4 == 0:
        sim.slow = not sim.slow
    elif a % 4 == 1:
        sim.failing = 1 + b % 2
        sim.unknown = sim.seat is not None and b % 4 >= 2
    sim.answer()


def _update(sim: Simulation, a: int, b: int) -> None:
    ids = sim.store.waiting()
    if ids:
        sim.store.update(ids[a % len(ids)], priority=b % 5)


def _ghosts(sim: Simulation, a: int, b: int) -> None:
    """What a lost worker said comes late."""
    if sim.ghosts:
        sim.ghosts[a % len(sim.ghosts)].babble()


def _still(sim: Simulation, a: int, b: int) -> None:
    """The driver stands still; what happens until it goes on is one instant to it."""
    if sim.frozen:
        sim.thaw()
    else:
        sim.freeze()


def _wall(sim: Simulation, a: int, b: int) -> None:
    """Somebody sets the wall clock."""
    sim.clock.set_by_us += (b % 5 - 2) * 20_000_000
    sim.advance(0)


def _command(sim: Simulation, a: int, b: int) -> None:
    names = ("ping", "checkpoint", "hook")
    sim.ask(lambda ticket: CommandAsked(ticket, names[a % 3], "hook" if a % 3 == 2 else ""))


def _order(sim: Simulation, a: int, b: int) -> None:
    """Restart or kill one worker, known or not."""
    workers = [*sim.workers, "nobody"]
    worker_id = workers[a % len(workers)]
    if b % 2:
        sim.number += 1
        by = f"{sim.name}w{sim.number}-by"
        sim.ask(lambda ticket: RestartAsked(ticket, worker_id, by))
    else:
        sim.ask(lambda ticket: KillAsked(ticket, worker_id))


def _hook(sim: Simulation, a: int, b: int) -> None:
    """Add a hook, or take it out."""
    key = f"hook:h{a % 2}"
    define = Define(key, None, b"", 0) if b % 2 else None
    within_ns = None if b % 4 < 2 else _SECOND
    sim.ask(lambda ticket: HookAsked(ticket, key, define, within_ns))


def _machine(sim: Simulation, a: int, b: int) -> None:
    """The machine is short of memory, or not."""
    sim.turn([MachineRead(Reading(1 if a % 3 == 0 else 900, 1000))])


def _measure(worker: SimulatedWorker, b: int) -> None:
    """A look at what a worker uses."""
    worker_id = worker.worker_id if b % 8 else "gone meanwhile"
    worker.sim.turn([Measured([(worker_id, Usage(b / 50, b * 1_000_000))])])


def stop(sim: Simulation, a: int, b: int) -> None:
    """Stop the engine, or insist."""
    sim.stop_asked = True
    sim.turn([StopAsked(a % 4 == 0, (b % 5) * _SECOND, ("fail", "cancel", "keep")[b % 3])])


#: Each kind of move; the first does next to nothing.
MOVES: tuple[Move, ...] = (
    Move(6, "a few ms pass", lambda sim, a, b: sim.advance(_MS * (1 + b % 12))),
    Move(8, "submit", _submit),
    Move(3, "submit a dependent", _depend),
    Move(8, "work", _with(_work)),
    Move(5, "ready", _with(lambda worker, b: worker.become_ready())),
    Move(5, "begin", _with(lambda worker, b: worker.begin())),
    Move(5, "log", _running(_log)),
    Move(2, "progress", _running(lambda worker, run, b: worker.progress(run))),
    Move(6, "end", _running(_end)),
    Move(6, "report", _with(lambda worker, b: worker.flush(1 + b % 6))),
    Move(1, "handler does not end", _running(lambda worker, run, b: setattr(run, "deaf", True))),
    Move(4, "crash", _with(_crash)),
    Move(4, "death seen", _with(lambda worker, b: worker.exit())),
    Move(1, "fail to start", _with(lambda worker, b: worker.fail_to_start())),
    Move(1, "spawn refused", lambda sim, a, b: setattr(sim, "refuse_spawn", 1 + b % 2)),
    Move(3, "silent or not", _with(_silence)),
    Move(1, "cannot be killed", _with(_resist)),
    Move(5, "cancel", _cancel),
    Move(2, "pause or resume", _pause),
    Move(2, "subscribers behind or not", _delivery),
    Move(2, "scale", lambda sim, a, b: sim.ask(lambda ticket: ScaleAsked(ticket, a % 5))),
    Move(2, "worker asks to be replaced", _with(lambda worker, b: worker.recycle())),
    Move(3, "leave", _with(lambda worker, b: worker.leave())),
    Move(4, "grow", _with(_grow)),
    Move(1, "heartbeat", _with(lambda worker, b: worker.beat())),
    Move(2, "store slow, failing or not", _store),
    Move(2, "store answers", lambda sim, a, b: sim.answer()),
    Move(2, "checkpoint or step", _running(lambda worker, run, b: worker.ask(run, step=b % 2 == 1))),
    Move(1, "odd report", _with(_odd)),
    Move(1, "taken over", _steal),
    Move(1, "update", _update),
    Move(1, "late report", _ghosts),
    Move(1, "command to all", _command),
    Move(2, "worker restarted or killed by order", _order),
    Move(1, "hook added or removed", _hook),
    Move(1, "machine read", _machine),
    Move(2, "worker measured", _with(_measure)),
    Move(1, "throttling lasts or not", lambda sim, a, b: setattr(sim, "lasting", a % 2 == 0)),
    Move(1, "object let go", lambda sim, a, b: sim.turn([Gone("f" if b % 2 else "g")])),
    Move(1, "submit or push a held one", _submit_held),
    Move(3, "driver still or on", _still),
    Move(1, "wall clock set", _wall),
    Move(3, "some 10 ms pass", lambda sim, a, b: sim.advance(_MS * 10 * (1 + b % 20))),
    Move(1, "seconds pass", lambda sim, a, b: sim.advance(_SECOND * (1 + b % 9))),
)
_TABLE = tuple(move for move in MOVES for _ in range(move.weight))


def _moves(script: bytes, table: tuple[Any, ...]) -> Iterator[tuple[Any, int, int]]:
    for at in range(0, len(script) - 2, 3):
        which, a, b = script[at : at + 3]
        yield table[which % len(table)], a, b


def play(sim: Simulation, script: bytes) -> None:
    """Play the moves of the script."""
    for move, a, b in _moves(script, _TABLE):
        if sim.finished:
            return
        if sim.trace is not None:
            sim.trace.append(f"{move.name} ({a}, {b})")
        move.do(sim, a, b)


def play_all(sim: Simulation, script: bytes, ending: int = 0) -> None:
    """Play the script, then let faults stop: everything ends, before the stop or because of it.

    `ending`: 0 = everything ends, then stop; else the stop comes at once, in the way that the number chooses.
    """
    play(sim, script)
    if sim.trace is not None:
        sim.trace.append("faults stop")
    sim.thaw()
    sim.failing, sim.slow, sim.refuse_spawn = 0, False, 0
    while sim.waiting:
        sim.answer()
    if ending == 0:
        _push_all(sim)
        sim.paused = sim.full = False
        sim.turn([PauseAsked(False), DeliveryChanged(False), *_CALM])
        sim.settle()
        ending = 1
    sim.full = False
    sim.turn([DeliveryChanged(False)])
    if not sim.finished:
        stop(sim, ending, ending // 4)
    sim.settle()
    if not sim.finished:
        sim.checker.at_the_end()


def _push_all(sim: Simulation) -> None:
    """Queue what was taken in without being queued: others may wait for it."""
    held = [task_id for task_id in sim.checker.books.open if sim.checker._row(task_id).status is TaskStatus.CREATED]
    if held and not sim.store._closed:
        sim.store.enqueue([attrs.evolve(sim.checker.tasks[task_id], hold=False) for task_id in held])
        sim.turn([WorkArrived()])


# -- several services -------------------------------------------------------------------------------------------------

_FleetDo = Callable[[Fleet, Simulation, int], Any]


class FleetMove(NamedTuple):
    """One kind of move of a fleet, or of one of its services."""

    weight: int
    name: str
    do: _FleetDo


def _kill(fleet: Fleet, sim: Simulation, b: int) -> None:
    fleet.kill(sim, at_once=b % 2 == 0)
    if b % 4 < 3 or not fleet.services:
        fleet.start([WorkerSpec(1 + b % 2)])


def _lingering(fleet: Fleet, sim: Simulation, b: int) -> None:
    """Workers of a killed service go on."""
    for service in fleet.lingering():
        for worker in service.workers.values():
            worker.begin()
            if b % 2:
                worker.flush(100)


def _long(fleet: Fleet, sim: Simulation, b: int) -> None:
    """The service stands still for longer than its lease."""
    sim.freeze()
    fleet.advance(_SECOND * (6 + b % 16))
    if b % 4 == 3:  # a caller had asked for it
        held = [claim.envelope.task_id for claim in sim.core.recorder.claims.values()]
        if held:
            sim.cancel(held[b // 4 % len(held)], "enough")


def _stop_one(fleet: Fleet, sim: Simulation, b: int) -> None:
    if len(fleet.services) > 1:
        stop(sim, b, b // 4)


_FLEET_MOVES = (
    FleetMove(3, "service killed", _kill),
    FleetMove(4, "workers of the dead go on", _lingering),
    FleetMove(3, "service stands still for long", _long),
    FleetMove(3, "service goes on", lambda fleet, sim, b: sim.thaw()),
    FleetMove(2, "bell answered", lambda fleet, sim, b: None if sim.frozen else sim.hear()),
    FleetMove(2, "lease renewed", lambda fleet, sim, b: None if sim.frozen else sim.look()),
    FleetMove(1, "service stopped", _stop_one),
    FleetMove(2, "seconds pass", lambda fleet, sim, b: fleet.advance(_SECOND * (1 + b % 9))),
)
#: Of a hundred and some, these are of a fleet; the others are those of one of its services.
_FLEET_TABLE: tuple[Move | FleetMove, ...] = (
    *_TABLE,
    *(move for move in _FLEET_MOVES for _ in range(move.weight)),
)


def play_fleet(fleet: Fleet, script: bytes) -> None:
    """Play the script on the services in turn (`a` chooses which), then let faults stop: everything ends."""
    for move, a, b in _moves(script, _FLEET_TABLE):
        services = [service for service in fleet.services if not service.finished]
        if not services:
            break
        sim = services[a % len(services)]
        if fleet.trace is not None:
            fleet.trace.append(f"{sim.name}: {move.name} ({a // len(services)}, {b})")
        if isinstance(move, FleetMove):
            move.do(fleet, sim, b)
        else:
            move.do(sim, a // len(services), b)
    if fleet.trace is not None:
        fleet.trace.append("faults stop")
    for sim in list(fleet.services):
        sim.thaw()
        _push_all(sim)
        sim.paused = sim.full = False
        sim.turn([PauseAsked(False), DeliveryChanged(False), *_CALM])
    fleet.settle()


def describe(script: bytes, *, fleet: bool = False) -> list[str]:
    """Return one line for each move."""
    table = _FLEET_TABLE if fleet else _TABLE
    return [f"{move.name} ({a}, {b})" for move, a, b in _moves(script, table)]
