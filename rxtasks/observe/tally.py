"""What became of attempts and tasks, by the task's name: counted by the core as it decides, where somebody wants it (C-07).

The core holds a tuple of tallies, empty as a rule: then this costs one look at it for each report of many attempts. A tally
is only counted up, on the core's thread (claims on the thread that hears of them); any other may read it meanwhile, and
may be a count behind.

A name becomes a label only if it is a registered one: registered in this process, or proven, because a worker, which runs
what is registered there and nothing else, has run it: to its end, to a timeout, or until it died of it (one that is not
registered fails at once, of UNKNOWN_HANDLER). All others are counted as "other", and so is what comes after the first
MOST_NAMES.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Container, Iterable
from typing import TYPE_CHECKING, Final, TypeVar

from rxtasks.lifecycle.status import TaskStatus
from rxtasks.text import steers

if TYPE_CHECKING:
    from rxtasks.engine.engine import TaskEngine
    from rxtasks.pool.state import WorkerState
    from rxtasks.stores.base import Claim

__all__ = ["CLAIM_BOUNDS", "DURATION_BOUNDS", "MOST_NAMES", "OTHER", "Spread", "Tally", "attach", "detach"]

#: Upper bounds of the buckets, seconds: of attempts (C-07), and of claims.
DURATION_BOUNDS: Final = (0.1, 0.5, 2.5, 12.5, 62.5, 312.5)
CLAIM_BOUNDS: Final = (0.0001, 0.0005, 0.0025, 0.0125, 0.0625, 0.3125, 1.5625)
#: Names that become labels (R6).
MOST_NAMES: Final = 200
#: Names of which it is remembered that they do not (R6).
_MOST_OTHERS: Final = 1000
#: The label of all other names.
OTHER: Final = "other"
_LONGEST_NAME: Final = 200

_Key = TypeVar("_Key", tuple[str, str], tuple[str, str, str])


class Spread:
    """How many durations lie in each bucket, and their sum."""

    __slots__ = ("_bounds_us", "bounds", "counts", "sum_us")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self._bounds_us = [round(bound * 1e6) for bound in bounds]
        #: The last one: longer than the last bound.
        self.counts = [0] * (len(bounds) + 1)
        self.sum_us = 0

    def add(self, us: int) -> None:
        """Count one duration, microseconds."""
        self.counts[bisect_left(self._bounds_us, us)] += 1
        self.sum_us += us


class Tally:
    """Counts for one who wants them.

    Args:
        registered: says whether a handler of this name is registered in this process.
        names: others that are to be labels.
    """

    def __init__(self, registered: Callable[[str], bool], names: Iterable[str] = ()) -> None:
        self._registered = registered
        self._labels: dict[str, str] = {name: name for name in names}
        self._others: dict[str, None] = {}
        #: By name and isolation.
        self.durations: dict[tuple[str, str], Spread] = {}
        self.crashes: dict[tuple[str, str], int] = {}
        self.timeouts: dict[tuple[str, str], int] = {}
        self.interruptions: dict[tuple[str, str], int] = {}
        self.retries: dict[tuple[str, str], int] = {}
        #: By name, isolation and outcome (the terminal status).
        self.completions: dict[tuple[str, str, str], int] = {}
        self.claims = Spread(CLAIM_BOUNDS)
        #: By what the machine was short of.
        self.pauses: dict[str, int] = {}

    # -- what the core tells -------------------------------------------------------------------------------------------

    def reported(
        self,
        worker: WorkerState,
        claims: list[Claim],
        statuses: list[TaskStatus],
        rans_us: list[int],
        known: Container[int],
    ) -> None:
        """A worker has ended these attempts; `known`: tokens of those that failed in a handler that it has."""
        isolation = worker.spec.isolation
        for claim, status, ran_us in zip(claims, statuses, rans_us, strict=True):
            envelope = claim.envelope
            name = self._labels.get(envelope.name)
            if name is None:
                ran = status is TaskStatus.SUCCEEDED or claim.token in known
                name = self._label(envelope.name, ran and envelope.blob is None)
            self._ran(name, isolation, ran_us)
            if status.terminal:
                _count(self.completions, (name, isolation, status.value))
            elif status is TaskStatus.RETRYING:
                _count(self.retries, (name, isolation))

    def finished(self, claim: Claim, status: TaskStatus, ran_us: int | None) -> None:
        """The engine has ended the task; None: no attempt of it was running."""
        name, isolation = self._of(claim)
        if ran_us is not None:
            self._ran(name, isolation, ran_us)
        _count(self.completions, (name, isolation, status.value))

    def requeued(self, claim: Claim, ran_us: int) -> None:
        """The engine has ended an attempt, and the task waits again."""
        self._ran(*self._of(claim), ran_us)

    def crashed(self, claim: Claim) -> None:
        """An attempt was lost with its worker, and it was its own doing."""
        _count(self.crashes, self._of(claim, ran=True))

    def timed_out(self, claim: Claim) -> None:
        """An attempt took longer than its timeout and grace, and was ended."""
        _count(self.timeouts, self._of(claim, ran=True))

    def interrupted(self, claim: Claim) -> None:
        """An attempt was lost with its worker, and was not to blame."""
        _count(self.interruptions, self._of(claim))

    def paused(self, kind: str) -> None:
        """The pool pauses because the machine is short of something."""
        self.pauses[kind] = self.pauses.get(kind, 0) + 1

    def claimed(self, ns: int) -> None:
        """The store has answered a claim after so many nanoseconds."""
        self.claims.add(ns // 1000)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _of(self, claim: Claim, *, ran: bool = False) -> tuple[str, str]:
        worker: WorkerState | None = claim.worker
        isolation = claim.envelope.options.isolation or "none" if worker is None else worker.spec.isolation
        return self._label(claim.envelope.name, ran and claim.envelope.blob is None), isolation

    def _ran(self, name: str, isolation: str, ran_us: int) -> None:
        spread = self.durations.get((name, isolation))
        if spread is None:
            spread = self.durations[name, isolation] = Spread(DURATION_BOUNDS)
        spread.add(max(0, ran_us))

    def _label(self, name: str, proven: bool) -> str:
        label = self._labels.get(name)
        if label is not None:
            return label
        if not proven and name in self._others:
            return OTHER
        if len(self._labels) < MOST_NAMES and (proven or self._registered(name)) and _is_plain(name):
            self._labels[name] = name
            return name
        if len(self._others) < _MOST_OTHERS:
            self._others[name] = None
        return OTHER


def attach(engine: TaskEngine, tally: Tally) -> None:
    """Let the engine's core count for `tally` from now on; once. Any thread."""
    if tally not in engine.core.recorder.tallies:
        engine.core.recorder.tallies = engine.driver.tallies = (*engine.core.recorder.tallies, tally)


def detach(engine: TaskEngine, tally: Tally) -> None:
    """Let it count no more."""
    left = tuple(other for other in engine.core.recorder.tallies if other is not tally)
    engine.core.recorder.tallies = engine.driver.tallies = left


def _count(counts: dict[_Key, int], key: _Key) -> None:
    counts[key] = counts.get(key, 0) + 1


def _is_plain(name: str) -> bool:
    return len(name) <= _LONGEST_NAME and not any(map(steers, name))
