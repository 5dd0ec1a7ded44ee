"""Which stimulus has met which state: what a suite of runs has reached, as a table.

The state is that of the worker or task that the stimulus is about, as the core believes it to be at that moment; of a stimulus
that is about neither, that of the whole service. Pairs that cannot be are listed with their reason (NEVER), so that every
empty place of the table is either a gap of the suite, or known to be none or to be rare (RARE).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from rxtasks.engine.core import Core
from rxtasks.lifecycle.status import TaskStatus, WorkerStatus
from rxtasks.pool.state import WorkerState
from rxtasks.pool.words import (
    Broken,
    CancelAsked,
    Exited,
    Happened,
    KillAsked,
    Limited,
    Measured,
    Reported,
    RestartAsked,
    Run,
    Spares,
    Spawned,
    SpawnFailed,
    TakenBack,
    Throttled,
    Tick,
)
from rxtasks.stores.base import Claim

__all__ = ["NEVER", "RARE", "SERVICE", "TASK", "WORKER", "Coverage"]

#: States of a worker, the first one that holds.
WORKER = ("gone", "broken", "doomed", "starting", "taking", "owing", "stopping", "idle", "busy")
#: States of a task.
TASK = ("not held", "ready", "assigned", "running", "ending", "killed")
#: States of a service.
SERVICE = ("stopping", "paused", "full", "running")

_REPORTS = ("Ready", "StartFailed", "Heartbeat", "Ack", "Dropped", "Request", "Stopping")
_OF_WORKER = (
    "Spawned",
    "SpawnFailed",
    "Happened",
    *_REPORTS,
    "Broken",
    "Exited",
    "TakenBack",
    "RestartAsked",
    "KillAsked",
)
_OF_WORKER_MORE = ("Limited", "Throttled", "Measured")
_OF_WORKER_TIMER = ("timer start", "timer kill")
_OF_TASK = (
    "CancelAsked",
    "CancelAsked unbegun",
    "running",
    "progress",
    "log or output",
    "end",
    "timer soft",
    "timer hard",
)
_OF_TASK_TIMER = ("timer grace",)
_OF_SERVICE = (
    "HookAsked",
    "LeaseChanged",
    "MachineRead",
    "WorkArrived",
    "Claimed",
    "ClaimFailed",
    "Committed",
    "CommitFailed",
    "Swept",
    "DeliveryChanged",
    "ScaleAsked",
    "PauseAsked",
    "CommandAsked",
    "StopAsked",
    "Disowned",
    "Gone",
    "Tick",
)


def _pairs(kinds: str, states: str) -> Iterator[tuple[str, str]]:
    for kind in kinds.split(", "):
        for state in states.split(", "):
            yield kind, state


#: Pairs that cannot be, and why.
NEVER: dict[tuple[str, str], str] = {}


def _never(kinds: str, states: str, why: str) -> None:
    """Note pairs that cannot be."""
    NEVER.update(dict.fromkeys(_pairs(kinds, states), why))


_never(
    "Spawned, SpawnFailed",
    "gone, broken, taking, owing, idle, busy",
    "the outcome of SpawnWorker comes in the same turn",
)
_never("Happened, Dropped, Request", "starting", "nothing was assigned to it")
_never("Ready, StartFailed", "gone, broken, taking, owing, idle, busy", "it is said once, before anything else")
_never(
    "Heartbeat, Ack, Dropped, Request, Stopping, Broken, Exited",
    "gone",
    "a channel is read to its end before its worker is gone, and then no more",
)
_never("Request", "idle", "no attempt runs there that could ask")
_never("TakenBack", "starting, owing, stopping, idle, busy", "from TakeBack until then it is taking")
_never("Throttled", "starting", "its limits are set when it is ready")
_never("timer kill", "starting, taking, idle, busy", "only who leaves or is to die has one")
_never("running, progress, log or output, end", "ready", "no worker has it: of this worker it is not held")
_never(
    "timer grace", "ready, assigned, running", "who was asked to end is ending, and is cancelled when it is taken back"
)
_never("Swept", "paused, full, running", "the store is swept by a stop")

#: Pairs that take a coincidence within one turn, and are met in some hundred thousand runs: not asked of a suite.
RARE: set[tuple[str, str]] = {
    *_pairs("SpawnFailed", "doomed"),
    *_pairs("Broken, Limited, Throttled", "taking"),
    *_pairs("Throttled", "doomed, owing"),
    *_pairs("timer hard", "ready"),
    *_pairs("timer grace", "killed"),
    *_pairs("running", "not held"),
    *_pairs("ClaimFailed", "stopping"),
    *_pairs("Stopping", "starting"),
    *_pairs("Happened", "idle"),
    *_pairs("Throttled", "stopping"),
    *_pairs("timer start", "owing"),
}


class Coverage:
    """Counts what meets what, over many runs."""

    def __init__(self) -> None:
        self.met: Counter[tuple[str, str]] = Counter()

    def watch(self, core: Core) -> None:
        """Count every stimulus that this core takes in, at the state in which it comes."""
        for kind, handler in list(core._handlers.items()):
            if kind is Spares:
                continue  # no news
            core._handlers[kind] = self._counting(core, kind, handler)

    def _counting(self, core: Core, kind: type[Any], handler: Callable[[Any], None]) -> Callable[[Any], None]:
        met, name = self.met, kind.__name__

        def of_worker(stimulus: Any) -> None:
            met[name, worker_state(core, stimulus.worker_id)] += 1
            handler(stimulus)

        def of_service(stimulus: Any) -> None:
            met[name, service_state(core)] += 1
            handler(stimulus)

        if kind in (Spawned, SpawnFailed, Broken, Exited, TakenBack, RestartAsked, KillAsked, Limited, Throttled):
            return of_worker
        special: dict[type[Any], Callable[[Any], object]] = {
            Happened: lambda stimulus: self._happened(core, stimulus),
            Reported: lambda stimulus: self._add(
                type(stimulus.report).__name__, worker_state(core, stimulus.worker_id)
            ),
            CancelAsked: lambda stimulus: self._cancelled(core, stimulus),
            Measured: lambda stimulus: met.update([(name, worker_state(core, i)) for i, _ in stimulus.looks]),
            Tick: lambda stimulus: self._ticked(core),
        }
        count = special.get(kind)
        if count is None:
            return of_service

        def both(stimulus: Any) -> None:
            count(stimulus)
            handler(stimulus)

        return both

    def _add(self, kind: str, state: str) -> None:
        self.met[kind, state] += 1

    def _happened(self, core: Core, stimulus: Happened) -> None:
        self.met["Happened", worker_state(core, stimulus.worker_id)] += 1
        worker = core.pool.workers.get(stimulus.worker_id)
        for occurrence in stimulus.occurrences:
            if isinstance(occurrence, Run):
                self.met["log or output", held_state(core, occurrence.token, worker)] += 1
            if type(occurrence) is tuple and len(occurrence) == 4:
                token, event, end, _ = occurrence
                kind = type(event).__name__
                what = "end" if end is not None else {"StatusEvent": "running", "ProgressEvent": "progress"}.get(kind)
                self.met[what or "log or output", held_state(core, token, worker)] += 1

    def _cancelled(self, core: Core, stimulus: CancelAsked) -> None:
        kind = "CancelAsked unbegun" if stimulus.unbegun else "CancelAsked"
        claim = core.recorder.claim_of(stimulus.task_id) if stimulus.claim is None else None
        self.met[kind, "ready" if stimulus.claim is not None else task_state(claim)] += 1

    def _ticked(self, core: Core) -> None:
        self.met["Tick", service_state(core)] += 1
        for at_ns, _, kind, key in core.timers._heap:
            if at_ns > core._now.mono_ns:
                continue
            if isinstance(key, str):
                self.met[f"timer {kind}", worker_state(core, key)] += 1
            elif kind in ("soft", "hard", "grace"):
                self.met[f"timer {kind}", task_state(core.recorder.claims.get(key))] += 1

    # -- the table -----------------------------------------------------------------------------------------------------

    def missing(self) -> list[tuple[str, str]]:
        """Return the pairs that can be, without a rare coincidence, and were not met."""
        return [pair for pair in all_pairs() if not (self.met[pair] or pair in NEVER or pair in RARE)]

    def impossible(self) -> list[tuple[str, str]]:
        """Return the pairs that cannot be, as is believed, and were met."""
        return [pair for pair in self.met if pair in NEVER]

    def unknown(self) -> list[tuple[str, str]]:
        """Return what was met and is no pair of the table."""
        known = set(all_pairs())
        return [pair for pair in self.met if pair not in known]

    def table(self) -> str:
        """Return the counts, a row for each stimulus; "-" = cannot be, "0" = was not met."""
        lines: list[str] = []
        for title, kinds, states in _TABLES:
            width = max(len(kind) for kind in kinds) + 1
            lines.append(f"{title:{width}}" + "".join(f"{state:>10}" for state in states))
            for kind in kinds:
                cells = ["-" if (kind, state) in NEVER else str(self.met[kind, state]) for state in states]
                lines.append(f"{kind:{width}}" + "".join(f"{cell:>10}" for cell in cells))
            lines.append("")
        missing = self.missing()
        lines.append(
            f"{sum(self.met.values())} stimuli; {len(missing)} pairs that can be were not met"
            + "".join(f"\n  {kind} x {state}" for kind, state in missing)
        )
        return "\n".join(lines)


_TABLES: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("worker", (*_OF_WORKER, *_OF_WORKER_MORE, *_OF_WORKER_TIMER), WORKER),
    ("task", (*_OF_TASK, *_OF_TASK_TIMER), TASK),
    ("service", _OF_SERVICE, SERVICE),
)


def all_pairs() -> Iterator[tuple[str, str]]:
    """Yield every pair of the table."""
    for _, kinds, states in _TABLES:
        for kind in kinds:
            for state in states:
                yield kind, state


def worker_state(core: Core, worker_id: str) -> str:
    """Return how a worker stands."""
    worker = core.pool.workers.get(worker_id)
    if worker is None:
        return "gone"
    if worker.broken:
        return "broken"
    if worker.doom:
        return "doomed"
    if worker.status is WorkerStatus.STARTING:
        return "starting"
    if worker.taking:
        return "taking"
    if worker.owes:
        return "owing"
    return str(worker.status)


def task_state(claim: Claim | None) -> str:
    """Return how a task stands that may be held."""
    if claim is None:
        return "not held"
    if claim.worker is None:
        return "ready"
    if claim.ending is not None:
        return "killed" if claim.ending.killed else "ending"
    return "running" if claim.status is TaskStatus.RUNNING else "assigned"


def held_state(core: Core, token: int, worker: WorkerState | None) -> str:
    """Return how the task of a token stands for a worker that reports of it."""
    claim = core.recorder.claims.get(token)
    if claim is None or worker is None or claim.worker is not worker:
        return "not held"
    return task_state(claim)


def service_state(core: Core) -> str:
    """Return how a service stands."""
    if core.pool.stopping:
        return "stopping"
    if core._paused:
        return "paused"
    return "full" if core.recorder.full else "running"
