"""`python -m benchmarks chaos [--minutes N] [--seed S] [--power] [--sabotage NAME] [--keep FOLDER]`.

Exit code: 0 all promises kept, 1 one was broken, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.chaos.checker import Verdict, check, read_evidence, shown
from benchmarks.chaos.driver import Run, kinds_here
from benchmarks.chaos.sabotage import SABOTAGES
from benchmarks.machine import describe_machine, describe_versions
from benchmarks.table import align

__all__ = ["main", "render"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run once, print the table, and return the exit code."""
    options = _parse(arguments)
    versions = describe_versions()
    facts = {**describe_machine(), **{name: versions[name] for name in ("python", "rxtasks", "apsw")}}
    for name, value in {**facts, "seed": str(options.seed)}.items():
        print(f"{name:15} {value}")
    kinds = kinds_here(powerless=options.power)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="rxtasks-chaos-", ignore_cleanup_errors=True) as place:
        folder = Path(options.keep or place, "run").resolve()
        Run(
            folder,
            seed=options.seed,
            seconds=options.minutes * 60,
            kinds=kinds,
            sabotages=options.sabotage,
            say=lambda line: print(line, file=sys.stderr, flush=True),
        ).go()
        verdict = check(read_evidence(folder))
    print(f"{'duration':15} {time.monotonic() - began:.0f} s, {options.minutes * 60:.0f} s of them with faults")
    print(f"\n{render(verdict)}")
    return 0 if verdict.kept else 1


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
    lines.append(f"\ntasks           {verdict.tasks}")
    lines.append(f"faults          {', '.join(f'{count} {kind}' for kind, count in sorted(verdict.faults.items()))}")
    times = [verdict.recovery(percent) for percent in (50, 99, 100)]
    shown_times = " / ".join("-" if one is None else f"{one:.2f} s" for one in times)
    lines.append(f"recovery        p50 / p99 / max of {len(verdict.recoveries)}: {shown_times}")
    lines.append(f"allowed         {verdict.frozen} overlaps of an execution that was frozen for longer than its lease")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
