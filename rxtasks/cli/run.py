"""What `rxtasks run` does with its arguments (C-02).

Everything that a run needs is imported here, before the target's directory comes first on sys.path: it may hold a file
that has the name of a module of the standard library.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, TextIO

import attrs

from rxtasks.cli import target as targets
from rxtasks.cli.board import Board
from rxtasks.cli.codes import INTERRUPTED, UNREAD
from rxtasks.cli.inputs import Inputs, read_inputs
from rxtasks.cli.job import Job
from rxtasks.cli.jsonlines import mirror
from rxtasks.cli.loggers import leave_to_events
from rxtasks.cli.results import Results
from rxtasks.cli.screen import Screen
from rxtasks.cli.streams import apart
from rxtasks.cli.summary import Facts, lines
from rxtasks.cli.usage import UsageMistake
from rxtasks.errors import SettingsError
from rxtasks.machine import usable_cpus
from rxtasks.service import TaskService
from rxtasks.text import counted, cut, shown

__all__ = ["Request", "run"]


@attrs.frozen
class Request:
    """The arguments of `rxtasks run`."""

    target: str
    inputs: tuple[str, ...]
    workers: int | None = None
    isolation: str = "process"
    collect: str | None = None
    exclude: tuple[str, ...] = ()
    chaos: int = 0
    json: bool = False
    log_level: str = "INFO"


def run(request: Request) -> int:
    """Run one task per input and return the exit code: 0 all succeeded, 1 a task failed, 130 interrupted.

    Raises:
        UsageMistake: TARGET, INPUT or an option is wrong; nothing has run then.
    """
    if request.chaos and request.isolation != "process":
        raise UsageMistake("--chaos kills worker processes; use it with --isolation process.")
    if not request.json:
        return _run(request, sys.stdout, None)
    with apart() as events:
        return _run(request, sys.stderr, events)


def _run(request: Request, out: TextIO, events: BinaryIO | None) -> int:
    board = Board(shown(request.target.rpartition(":")[2]), request.log_level)
    screen = Screen(board)
    target = targets.find(request.target)
    inputs, collect = _plan(request, target)
    workers = request.workers or usable_cpus()
    if inputs.total is not None:
        workers = min(workers, inputs.total)
    if request.isolation != "process":
        leave_to_events()
    results = None if collect is None else Results()
    job = _job(request, target, inputs, workers, results, board, screen, events)
    with screen:
        outcome = job.run()
    if outcome.unread:
        return UNREAD
    failed = board.failed + board.cancelled + board.outstanding > 0
    if outcome.error is not None:
        for line in (str(outcome.error) or type(outcome.error).__name__).splitlines():
            print(f"rxtasks: {shown(line)}", file=sys.stderr)
        failed = True
    elif collect is not None and results is not None and not outcome.interrupted:
        failed |= not _collect(collect, results, out)
    elif collect is not None:
        print("rxtasks: interrupted, so the results were not collected", file=sys.stderr)
    facts = Facts(
        seconds=outcome.seconds,
        cpu_seconds=outcome.cpu_seconds,
        workers=workers,
        isolation=request.isolation,
        ledger=outcome.ledger,
        chaos=request.chaos > 0,
    )
    for line in lines(board, facts):
        print(line, file=out)
    if outcome.kills < request.chaos and not outcome.interrupted:
        print(
            f"rxtasks: --chaos killed {outcome.kills:,} of {counted(request.chaos, 'worker')}: the tasks were too few"
            " or too short",
            file=sys.stderr,
        )
    out.flush()
    return INTERRUPTED if outcome.interrupted else int(failed)


def _plan(request: Request, target: targets.Target) -> tuple[Inputs, Callable[..., Any] | None]:
    """Return the inputs and what collects, from the arguments or, without INPUT, from the target's module."""
    collect = None if request.collect is None else targets.find_collect(request.collect)
    words: Sequence[str] = request.inputs
    exclude = request.exclude
    if not words:
        defaults = target.defaults()
        if defaults is None:
            raise UsageMistake(
                "INPUT is missing: give paths, a quoted pattern such as '**/*.py', JSON, or - for standard input."
            )
        words, exclude = defaults.inputs, exclude + defaults.exclude
        collect = collect or defaults.collect
    target.refuse_misfit(request.target)
    return read_inputs(words, exclude), collect


def _job(
    request: Request,
    target: targets.Target,
    inputs: Inputs,
    workers: int,
    results: Results | None,
    board: Board,
    screen: Screen,
    events: BinaryIO | None,
) -> Job:
    try:
        service = TaskService(workers, isolation=request.isolation, echo=None)
    except SettingsError as error:
        raise UsageMistake(shown(str(error))) from error
    job = Job(
        service,
        board,
        target.function,
        inputs,
        workers=workers,
        isolation=request.isolation,
        results=results,
        kills=request.chaos,
        mirror=None if events is None else functools.partial(mirror, events),
        leave=screen.abandon,
    )
    board.on_end = job.on_end
    return job


def _collect(collect: Callable[..., Any], results: Results, out: TextIO) -> bool:
    """Call `collect` with the results and print what it returns; say whether it went well."""
    try:
        with contextlib.redirect_stdout(out):
            value = collect(results.in_order())
    except (Exception, SystemExit) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        name = getattr(collect, "__qualname__", repr(collect))
        print(
            f"rxtasks: collecting with {name} failed: {type(error).__name__}: {cut(shown(str(error)), 300)}"
            f" ({shown(last.filename)}, line {last.lineno})",
            file=sys.stderr,
        )
        return False
    if value is not None:
        for line in str(value).splitlines():
            print(shown(line), file=out)
    return True
