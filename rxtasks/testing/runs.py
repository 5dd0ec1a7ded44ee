"""Runs of the simulation by number: each seed is one run, always the same one; a run that fails is shrunk and told.

::

    simulate(7)                              # raises Violation: the shrunk moves, the story, how to run it again
    python -m rxtasks.testing.simulation --seed 7 --runs 1000
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs

from rxtasks.config import Settings
from rxtasks.lifecycle.options import ResourceLimits
from rxtasks.pool.info import WorkerSpec
from rxtasks.testing.coverage import Coverage
from rxtasks.testing.fleet import Fleet
from rxtasks.testing.invariants import Violation
from rxtasks.testing.script import describe, play_all, play_fleet
from rxtasks.testing.simulation import SETTINGS, Simulation

__all__ = ["POOLS", "RECYCLED", "Plan", "main", "plan_of", "simulate"]

#: Pools that are simulated.
POOLS: Final[tuple[tuple[WorkerSpec, ...], ...]] = (
    (WorkerSpec(2),),
    (WorkerSpec(1),),
    (WorkerSpec(3),),
    (WorkerSpec(1, concurrency=2), WorkerSpec(1, isolation="thread")),
    (WorkerSpec(2, isolation="thread"),),
    (WorkerSpec(1, queues=("default",)), WorkerSpec(1)),
    (WorkerSpec(1), WorkerSpec(1, concurrency=3)),
    (WorkerSpec(2, limits=ResourceLimits(memory_bytes=120_000_000, over_limit="kill")),),
)
#: Workers are replaced after so many attempts, or above so many bytes; most often not.
RECYCLED: Final[tuple[Settings, ...]] = (
    SETTINGS,
    SETTINGS,
    attrs.evolve(SETTINGS, max_tasks=1),
    attrs.evolve(SETTINGS, max_tasks=3),
    attrs.evolve(SETTINGS, max_memory=2 * 2**20),
    attrs.evolve(SETTINGS, max_memory=2**20),  # less than a fresh one has
    attrs.evolve(SETTINGS, max_tasks=4, max_memory=3 * 2**20),
    attrs.evolve(SETTINGS, max_tasks=1, max_tasks_strict=True),
    attrs.evolve(SETTINGS, max_tasks=3, max_tasks_strict=True),
    attrs.evolve(SETTINGS, max_tasks=4, max_memory=3 * 2**20, max_tasks_strict=True),
)
#: Lines of a failed run's story that are shown.
_LINES: Final = 60


@attrs.frozen
class Plan:
    """One run: what it is of, and what happens in it."""

    #: The pools of its services, by their place in POOLS. One with a memory store if it is not `shared`.
    pools: tuple[int, ...]
    settings: int
    script: bytes
    #: How the one service ends (see play_all).
    ending: int = 0
    shared: bool = False
    hosts: int = 1

    def run(self, coverage: Coverage | None = None, trace: list[str] | None = None) -> None:
        """Play it.

        Raises:
            Violation: something does not hold.
        """
        settings = RECYCLED[self.settings]
        pools = [list(POOLS[number]) for number in self.pools]
        if self.shared:
            fleet = Fleet(pools, settings, hosts=self.hosts, coverage=coverage, trace=trace)
            play_fleet(fleet, self.script)
        else:
            sim = Simulation(pools[0], settings, coverage=coverage, trace=trace)
            play_all(sim, self.script, self.ending)

    def __str__(self) -> str:
        pools = "; ".join(", ".join(map(_spec, POOLS[number])) for number in self.pools)
        what = f"{len(self.pools)} services on a durable store" if self.shared else "a service"
        settings = {
            field.name: value
            for field in attrs.fields(Settings)
            if (value := getattr(RECYCLED[self.settings], field.name)) != getattr(SETTINGS, field.name)
        }
        lines = [f"{what}: {pools}" + "".join(f", {key}={value}" for key, value in settings.items())]
        lines += describe(self.script, fleet=self.shared)
        return "\n  ".join([*lines, f"then faults stop ({self.ending})"])


def _spec(spec: WorkerSpec) -> str:
    said = f"{spec.count} {spec.isolation}"
    return (
        said
        + (f" x {spec.concurrency}" if spec.concurrency > 1 else "")
        + (f" of {spec.queues}" if spec.queues else "")
    )


def plan_of(seed: int) -> Plan:
    """Return the run of this number."""
    chance = random.Random(seed)
    script = chance.randbytes(3 * chance.choice((10, 20, 40, 40, 80, 120)))
    settings = chance.randrange(len(RECYCLED))
    if chance.random() < 0.3:
        pools = tuple(chance.randrange(len(POOLS)) for _ in range(chance.choice((1, 2, 2, 3))))
        return Plan(pools, settings, script, shared=True, hosts=chance.choice((1, 1, 2)))
    ending = chance.choice((0, 0, chance.randrange(40)))
    return Plan((chance.randrange(len(POOLS)),), settings, script, ending)


def simulate(seed: int, *, coverage: Coverage | None = None, shrink: bool = True) -> None:
    """Run one simulation: the real core of one service or several under virtual time, with every kind of fault.

    Args:
        seed: which one; the same seed is the same run, on every machine.
        coverage: counts which stimulus met which state.
        shrink: look for the shortest script that fails, before it is told.

    Raises:
        Violation: an invariant does not hold; the message has the shrunk script as moves, the last lines of the story, and
            how to run it again.
    """
    plan = plan_of(seed)
    error = _failure(plan, coverage)
    if error is None:
        return
    if shrink:
        plan, error = shrunk(plan, error)
    trace: list[str] = []
    _failure(plan, None, trace)
    story = "\n".join(trace[-_LINES:])
    raise Violation(
        f"seed {seed}: {type(error).__name__}: {error}\n\n{plan}\n\nthe last of it:\n{story}\n\n"
        f"again: python -m rxtasks.testing.simulation --seed {seed}"
    ) from error


def _failure(plan: Plan, coverage: Coverage | None = None, trace: list[str] | None = None) -> Exception | None:
    try:
        plan.run(coverage, trace)
    except Exception as error:  # the core itself may have noticed
        return error
    return None


def shrunk(plan: Plan, error: Exception) -> tuple[Plan, Exception]:
    """Return a shorter run that fails too, and its error: moves are left out, then made simpler, as long as it fails."""
    until = time.monotonic() + 20.0

    def fails(script: bytes) -> bool:
        nonlocal plan, error
        if time.monotonic() > until:
            return False
        candidate = attrs.evolve(plan, script=script)
        found = _failure(candidate)
        if found is not None:
            plan, error = candidate, found
        return found is not None

    _leave_out(lambda: plan.script, fails)
    for at in range(len(plan.script)):
        for value in (0, plan.script[at] % 2):
            if plan.script[at] > value and fails(plan.script[:at] + bytes([value]) + plan.script[at + 1 :]):
                break
    _leave_out(lambda: plan.script, fails)
    return plan, error


def _leave_out(script: Callable[[], bytes], fails: Callable[[bytes], bool]) -> None:
    size = len(script()) // 3
    while size:
        at = 0
        while at < len(script()) // 3:
            now = script()
            if not fails(now[: 3 * at] + now[3 * (at + size) :]):
                at += size
        size //= 2


def main(arguments: Sequence[str] | None = None) -> None:
    """Run seeds from the command line; exits with 1 if one of them fails."""
    parser = argparse.ArgumentParser(
        prog="python -m rxtasks.testing.simulation", description="Run simulations of the core, each by its seed."
    )
    parser.add_argument("--seed", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--runs", type=int, default=1, help="how many seeds from that one on (default 1)")
    parser.add_argument("--story", action="store_true", help="print what happens in each run")
    parser.add_argument("--coverage", action="store_true", help="print which stimulus met which state")
    given: Any = parser.parse_args(arguments)
    if given.runs < 1:
        parser.error(f"--runs is a whole number from 1, not {given.runs}")
    coverage = Coverage() if given.coverage else None
    began = time.perf_counter()
    for seed in range(given.seed, given.seed + given.runs):
        if given.story:
            trace: list[str] = []
            _failure(plan_of(seed), None, trace)
            print(plan_of(seed), *trace, sep="\n")
        try:
            simulate(seed, coverage=coverage)
        except Violation as error:
            print(error, file=sys.stderr)
            raise SystemExit(1) from None
    took = time.perf_counter() - began
    if coverage is not None:
        print(coverage.table())
    print(f"{given.runs} runs from seed {given.seed}: every invariant held ({took:.1f} s)")
