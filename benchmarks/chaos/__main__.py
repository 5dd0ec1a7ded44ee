"""`python -m benchmarks chaos [--minutes N] [--seed S] [--power] [--sabotage NAME] [--keep FOLDER]`.

Exit code: 0 all promises kept, 1 one was broken, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import fill

from benchmarks.chaos.checker import Verdict, check, read_evidence, shown
from benchmarks.chaos.driver import Run, kinds_here, missing_here
from benchmarks.chaos.sabotage import SABOTAGES
from benchmarks.machine import describe_machine, describe_versions
from benchmarks.table import align

__all__ = ["main", "render", "report"]

_WIDTH = 120


def main(arguments: Sequence[str] | None = None) -> int:
    """Run once, print the table, and return the exit code."""
    options = _parse(arguments)
    with tempfile.TemporaryDirectory(prefix="rxtasks-chaos-", ignore_cleanup_errors=True) as place:
        folder = Path(options.keep or place, "run").resolve()
        text, verdict = report(
            folder,
            seed=options.seed,
            seconds=options.minutes * 60,
            kinds=kinds_here(powerless=options.power),
            sabotages=options.sabotage,
            say=lambda line: print(line, file=sys.stderr, flush=True),
        )
    print(text)
    return 0 if verdict.kept else 1


def report(
    folder: Path,
    *,
    seed: int,
    seconds: float,
    kinds: Sequence[str],
    sabotages: Sequence[str] = (),
    patience: float = 120.0,
    alone: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[str, Verdict]:
    """Do a run in `folder`, which is made, and return all that is to be said of it, and the verdict (see Run for the rest)."""
    versions = describe_versions()
    facts = {**describe_machine(), **{name: versions[name] for name in ("python", "rxtasks", "apsw")}}
    began = time.monotonic()
    Run(
        folder, seed=seed, seconds=seconds, kinds=kinds, sabotages=sabotages, patience=patience, alone=alone, say=say
    ).go()
    verdict = check(read_evidence(folder))
    facts["seed"] = str(seed)
    facts["duration"] = f"{time.monotonic() - began:.0f} s, {seconds:.0f} s of them with faults"
    facts["not done here"] = ", ".join(missing_here()) or "-"
    return "\n".join([*(f"{name:15} {value}" for name, value in facts.items()), "", render(verdict)]), verdict


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks chaos",
        description="Harm a durable service on real processes, and check the remains.",
    )
    parser.add_argument("--minutes", type=float, default=1.0, metavar="N", help="how long faults are done (default: 1)")
    parser.add_argument("--seed", type=int, default=None, metavar="S", help="of the faults (default: a new one)")
    parser.add_argument("--power", action="store_true", help="with losses of power, simulated: slower")
    parser.add_argument("--sabotage", action="append", default=[], choices=sorted(SABOTAGES), help="plant this bug")
    parser.add_argument("--keep", metavar="FOLDER", help="an empty folder for the files of the run")
    options = parser.parse_args(arguments)
    if options.minutes <= 0:
        parser.error("--minutes is a number above 0")
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(10**6)
    return options


def render(verdict: Verdict) -> str:
    """Return the table of a verdict."""
    rows = []
    for promise in verdict.promises:
        bound = "-" if promise.bound is None else f"{promise.bound:.2g}"
        required = "0, trials > 0" if promise.needs_trials else "0"
        met = "yes" if promise.kept else "NO"
        rows.append([promise.name, str(len(promise.broken)), required, met, str(promise.trials), bound])
    lines = [align(("promise", "found", "required", "met", "trials", "95 % bound"), rows)]
    for promise in verdict.promises:
        lines += [f"  {promise.name}: {one}" for one in shown(promise)]
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(verdict.faults.items()))
    times = [verdict.recovery(percent) for percent in (50, 99, 100)]
    took = " / ".join("-" if one is None else f"{one:.2f} s" for one in times)
    facts = {
        "tasks": str(verdict.tasks),
        "faults": f"{sum(verdict.faults.values())}: {kinds}",
        "recovery": f"p50 / p99 / max of {len(verdict.recoveries)}: {took}",
        "out of memory": f"{verdict.starved} workers killed by the kernel",
        "allowed": f"{verdict.frozen} executions of services that had been frozen for longer than their lease",
    }
    lines.append("")
    for name, text in facts.items():
        lines.append(fill(f"{name:15} {text}", _WIDTH, subsequent_indent=" " * 16, break_on_hyphens=False))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
