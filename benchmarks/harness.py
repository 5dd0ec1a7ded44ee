"""The one harness: every benchmark is a question, the contenders that answer it, and the rows that compare them.

::

    Benchmark ── rounds ──> contender 1, contender 2, ..., contender 1, contender 2, ...   (A B A B)
                                │ each in a fresh process (measure.py)
                                v
                            samples ──> rows: medians, ratio of medians, median of the pairs' ratios, bar met?

Only ratios of samples taken side by side in one run count: machines drift, and others use them too.
"""

from __future__ import annotations

import atexit
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import attrs

from benchmarks.figures import Bar, compare
from benchmarks.leftovers import end_leftovers
from benchmarks.programs import find_program
from benchmarks.table import CRASHED, MISSING, align, bar_text, figure_text

__all__ = ["OURS", "Benchmark", "Contender", "Crash", "Measured", "Row", "render", "run_benchmark", "run_measurement"]

#: The name of our own side where there is only one.
OURS = "rxtasks"

#: The folder that holds this package, and the library where it is not installed.
_ROOT = Path(__file__).resolve().parent.parent

#: Seconds after which a measurement is given up; the longest takes about a minute.
_TIMEOUT = 300.0
#: The same in a quick run.
_QUICK_TIMEOUT = 30.0
#: Seconds that a measurement which is late has to show its stacks.
_BEYOND = 5.0
#: Seconds that the processes which a measurement started have to end after it.
_PATIENCE = 2.0

#: Last lines of stderr that a crash shows.
_ERROR_LINES = 60

Samples = dict[str, float]


@attrs.frozen
class Contender:
    """One side: a function of a benchmark's module that measures once and returns samples by name."""

    name: str
    #: "module:function".
    target: str
    #: Keyword arguments beside the benchmark's own.
    parameters: Mapping[str, Any] = attrs.field(factory=dict)
    #: Top-level module that it needs; where that is not installed, its rows say so. "": none.
    needs: str = ""
    #: Program that it needs as well; "": none.
    program: str = ""

    @property
    def installed(self) -> bool:
        """Whether what it needs is there; nothing is imported to find out."""
        return not self.lacks

    @property
    def lacks(self) -> str:
        """What it needs and is not there; "": nothing."""
        if self.needs and importlib.util.find_spec(self.needs) is None:
            return self.needs
        if self.program and find_program(self.program) is None:
            return f"{self.program} (a program of the system)"
        return ""


@attrs.frozen
class Row:
    """One line of the table: a sample of ours, beside the same of a peer if there is one."""

    label: str
    #: Name of the sample.
    key: str
    ours: str = OURS
    #: Name of the contender to compare with; None: the figure stands by itself and the bar is in its unit.
    peer: str | None = None
    bar: Bar | None = None
    unit: str = ""


@attrs.frozen
class Benchmark:
    """A question and how to answer it."""

    name: str
    question: str
    contenders: tuple[Contender, ...]
    rows: tuple[Row, ...]
    #: Parameters of every contender, in a full run ...
    full: Mapping[str, Any]
    #: ... and in a quick one, which only proves that it runs.
    quick: Mapping[str, Any]
    #: Rounds at most, where one is long and says enough.
    max_runs: int | None = None
    #: An uncounted round before, which fills the caches of byte code.
    warm_up: bool = False


class Crash(Exception):
    """A measurement ended without samples; the message holds what it wrote to stderr."""


@attrs.frozen
class Measured:
    """A benchmark's samples, in order of the rounds, what crashed, and what was left out."""

    benchmark: Benchmark
    samples: dict[str, list[Samples]]
    crashes: dict[str, str]
    #: By contender, the module or program that it needs and that is not installed.
    missing: dict[str, str] = attrs.field(factory=dict)

    def series(self, contender: str, key: str) -> list[float]:
        """Return one figure of one contender, round by round; empty if it crashed."""
        return [] if contender in self.crashes else [sample[key] for sample in self.samples.get(contender, [])]


def run_benchmark(
    benchmark: Benchmark, *, runs: int, quick: bool, progress: Callable[[str], None] = lambda line: None
) -> Measured:
    """Measure every contender that is installed once a round, `runs` rounds; one that crashes only until it does."""
    shared = benchmark.quick if quick else benchmark.full
    rounds = 1 if quick else min(runs, benchmark.max_runs or runs)
    measured = Measured(benchmark, {contender.name: [] for contender in benchmark.contenders}, {})
    for contender in benchmark.contenders:
        if not contender.installed:
            measured.missing[contender.name] = contender.lacks
            progress(f"{benchmark.name}: {contender.name} is not installed")
    for number in range(0 if benchmark.warm_up else 1, rounds + 1):
        for contender in benchmark.contenders:
            if contender.name in measured.crashes or contender.name in measured.missing:
                continue
            progress(f"{benchmark.name} {number}/{rounds}: {contender.name}")
            try:
                samples = run_measurement(
                    contender.target,
                    {**shared, **contender.parameters},
                    timeout=_QUICK_TIMEOUT if quick else _TIMEOUT,
                )
            except Crash as crash:
                measured.crashes[contender.name] = str(crash)
            else:
                if number:
                    measured.samples[contender.name].append(samples)
    return measured


def run_measurement(target: str, parameters: Mapping[str, Any], *, timeout: float = _TIMEOUT) -> Samples:
    """Run "module:function" once in a fresh interpreter and return its samples.

    It has a temporary directory of its own. Nothing of that, and no process that it started, is there afterwards.

    Raises:
        Crash: it failed, took longer than `timeout` seconds, or gave no samples.
    """
    with tempfile.TemporaryDirectory(prefix="rxtasks-benchmark-", ignore_cleanup_errors=True) as folder:
        out, errors = Path(folder, "samples.json"), Path(folder, "stderr")
        with errors.open("wb") as stderr:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "benchmarks.measure",
                    target,
                    json.dumps(dict(parameters)),
                    str(out),
                    str(timeout),
                ],
                cwd=_ROOT,
                env=_environment(folder),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,
            )
            try:
                late = _wait(process, timeout + _BEYOND)
            finally:
                end_leftovers(process.pid, folder, _PATIENCE)
        text = "\n".join(errors.read_text("utf-8", "replace").strip().splitlines()[-_ERROR_LINES:])
        if late:
            raise Crash(f"{target} took longer than {timeout:g} s\n{text}".rstrip())
        if process.returncode != 0:
            raise Crash(f"{target} ended with code {process.returncode}\n{text}".rstrip())
        return _read_samples(target, out)


def _environment(folder: str) -> dict[str, str]:
    """Return the environment of a measurement: byte code is cached, as it is where packages are installed.

    Temporary files go to `folder`. Where this shell has that switched off, the cache is a temporary directory of this run.
    """
    environment = {**os.environ, "TMPDIR": folder}
    if environment.pop("PYTHONDONTWRITEBYTECODE", ""):
        environment["PYTHONPYCACHEPREFIX"] = _byte_code_folder()
    return environment


@cache
def _byte_code_folder() -> str:
    folder = tempfile.mkdtemp(prefix="rxtasks-benchmark-pycache-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _wait(process: subprocess.Popen[bytes], timeout: float) -> bool:
    """Wait for the end; True if it had to be killed. An interrupted wait kills it too."""
    try:
        process.wait(timeout)
        return False
    except subprocess.TimeoutExpired:
        return True
    finally:
        if process.returncode is None:
            process.kill()
            process.wait()


def _read_samples(target: str, out: Path) -> Samples:
    try:
        samples = json.loads(out.read_bytes())
        return {name: float(value) for name, value in samples.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise Crash(f"{target} gave no samples: {error}") from error


_HEADER = ("benchmark", "figure", "ours", "peer", "peer's", "ratio", "of pairs", "bar", "met", "aim")


def render(results: Sequence[Measured], *, judge: bool = True) -> str:
    """Return the table of all rows; with judge=False bars are shown and not judged."""
    return align(_HEADER, [_cells(measured, row, judge) for measured in results for row in measured.benchmark.rows])


def _cells(measured: Measured, row: Row, judge: bool) -> list[str]:
    ours = measured.series(row.ours, row.key)
    peer = [] if row.peer is None else measured.series(row.peer, row.key)
    lead = [measured.benchmark.name, row.label, _side(measured, row.ours, ours, row.unit)]
    limit, aim = (bar_text(row.bar, "x" if row.peer else row.unit, aim=aim) for aim in (False, True))
    if row.peer is None:
        figure = statistics.median(ours) if ours else None
        return [*lead, "-", "-", "-", "-", limit, _verdict(measured, row, figure, judge), aim]
    lead += [row.peer, _side(measured, row.peer, peer, row.unit)]
    if not ours or not peer:
        return [*lead, "-", "-", limit, _verdict(measured, row, None, judge), aim]
    pairs = min(len(ours), len(peer))
    both = compare(ours[:pairs], peer[:pairs])
    ratios = [f"{both.ratio_of_medians:.2f}x", f"{both.median_ratio:.2f}x"]
    return [*lead, *ratios, limit, _verdict(measured, row, both.median_ratio, judge), aim]


def _side(measured: Measured, contender: str, series: Sequence[float], unit: str) -> str:
    if contender in measured.missing:
        return MISSING
    return figure_text(statistics.median(series), unit) if series else CRASHED


def _verdict(measured: Measured, row: Row, figure: float | None, judge: bool) -> str:
    if row.bar is None or not judge or row.ours in measured.missing or row.peer in measured.missing:
        return "-"
    return "yes" if figure is not None and row.bar.met(figure) else "NO"
