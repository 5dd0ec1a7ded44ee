"""`python -m benchmarks [NAME...] [--quick] [--runs 5] [--json FILE]`.

Prints the machine, the versions, both sides and their ratios. Exit code: 0 all ran, 1 one crashed, 2 wrong usage.
A bar that is missed is shown and is no crash; so is a peer that is not installed. `--quick` proves that everything runs;
its figures mean nothing.

`python -m benchmarks chaos [--minutes N] [--seed S]` measures nothing: it harms a durable service and checks what remains.
"""

from __future__ import annotations

import argparse
import importlib
import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import attrs

from benchmarks.harness import Benchmark, Measured, render, run_benchmark
from benchmarks.machine import describe_machine, describe_versions

#: One module each, with BENCHMARK in it.
NAMES = (
    "throughput",
    "latency",
    "map",
    "events",
    "speedup",
    "large",
    "startup",
    "imports",
    "idle",
    "hundred",
    "memory",
    "recovery",
    "outlived",
    "cancel",
    "stop",
    "responsive",
    "flow",
    "durable",
    "health",
    "commands",
    "logs",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line names and return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["chaos"]:
        from benchmarks.chaos.__main__ import main as chaos

        return chaos(given[1:])
    options = _parse(given)
    signal.signal(signal.SIGTERM, _leave)
    started = time.monotonic()
    machine, versions = describe_machine(), describe_versions()
    for name, value in {**machine, **versions}.items():
        print(f"{name:15} {value}")
    results = []
    for name in options.names or NAMES:
        results.append(run_benchmark(load(name), runs=options.runs, quick=options.quick, progress=_show))
    print()
    print(render(results, judge=not options.quick))
    print(f"\n{_footer(options.quick, options.runs, time.monotonic() - started)}")
    for line in _missing(results):
        print(line)
    if options.json is not None:
        options.json.write_text(
            json.dumps(_as_json(machine, versions, results, options.quick), indent=1) + "\n", "utf-8"
        )
    crashed = [(measured, name) for measured in results for name in measured.crashes]
    for measured, name in crashed:
        print(f"\n{measured.benchmark.name}, {name}: {measured.crashes[name]}", file=sys.stderr)
    return 1 if crashed else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure rxtasks beside its peers.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which to run: {', '.join(NAMES)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="one short round of each, to see that they run")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="rounds of alternating pairs (default: 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every sample to FILE")
    options = parser.parse_args(arguments)
    for name in options.names:
        if name not in NAMES:
            parser.error(f"there is no benchmark {name!r}; there are {', '.join(NAMES)}")
    if options.runs < 1:
        parser.error("--runs is a whole number from 1")
    return options


def load(name: str) -> Benchmark:
    """Return the benchmark of that name."""
    benchmark = importlib.import_module(f"benchmarks.{name}").BENCHMARK
    assert isinstance(benchmark, Benchmark)
    return benchmark


def _leave(number: int, frame: object) -> None:
    """Leave by an exception, so that the measurement that runs is ended too."""
    sys.exit(128 + number)


def _show(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _footer(quick: bool, runs: int, seconds: float) -> str:
    if quick:
        return f"quick: one short round each, in {seconds:.0f} s; proves that they run, the figures mean nothing"
    rounds = f"medians of {runs} alternating runs (of fewer where a run is long), in {seconds:.0f} s"
    return f"{rounds}; bars are judged by the ratio `of pairs`"


def _missing(results: Sequence[Measured]) -> list[str]:
    """Return the line that names the modules which peers need and which are not installed, if there are such."""
    needed = dict.fromkeys(module for measured in results for module in measured.missing.values())
    if not needed:
        return []
    return [f"not installed, so not measured: {', '.join(needed)}; pip install '.[bench,peers]' installs all peers"]


def _as_json(
    machine: dict[str, str], versions: dict[str, str], results: Sequence[Measured], quick: bool
) -> dict[str, object]:
    return {
        "machine": machine,
        "versions": versions,
        "quick": quick,
        "benchmarks": [
            {
                "name": measured.benchmark.name,
                "question": measured.benchmark.question,
                "rows": [attrs.asdict(row) for row in measured.benchmark.rows],
                "samples": measured.samples,
                "crashes": measured.crashes,
                "missing": measured.missing,
            }
            for measured in results
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
