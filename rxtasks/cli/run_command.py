"""The command `rxtasks run`: its arguments. What it does with them is in `rxtasks.cli.run`, imported when it runs."""

from __future__ import annotations

import click

from rxtasks.cli.group import CONTEXT

__all__ = ["run"]

_EPILOG = """\b
Exit codes: 0 every task succeeded; 1 a task failed, or the output could not be
written; 2 wrong usage (TARGET or INPUT not found included); 130 interrupted;
141 the reader of the output left.
"""


@click.command(epilog=_EPILOG, context_settings=CONTEXT)
@click.argument("target")
@click.argument("inputs", nargs=-1, metavar="INPUT...")
@click.option(
    "--workers",
    type=click.IntRange(1, 1000),
    metavar="N",
    help="How many workers; one per usable CPU if not given, and never more than there are inputs.",
)
@click.option(
    "--isolation",
    type=click.Choice(["process", "thread", "inline"]),
    default="process",
    show_default=True,
    help="Where tasks run.",
)
@click.option(
    "--collect",
    metavar="FUNCTION",
    help="module:function that is called here with the list of results, in the order of the inputs, when all tasks"
    " have ended; what it prints and returns is shown.",
)
@click.option(
    "--exclude",
    multiple=True,
    metavar="GLOB",
    help="Leave out paths that match; with a slash the whole path is matched, else the name. Repeatable.",
)
@click.option(
    "--chaos", type=click.IntRange(0), default=0, metavar="N", help="Kill N busy worker processes on the way."
)
@click.option(
    "--json", "as_json", is_flag=True, help="Write every event as a line of JSON to stdout, the rest to stderr."
)
@click.option(
    "--log-level",
    type=click.Choice(["trace", "debug", "info", "success", "warning", "error", "critical"], case_sensitive=False),
    default="info",
    show_default=True,
    help="Least level of the tasks' log lines to show.",
)
def run(
    target: str,
    inputs: tuple[str, ...],
    workers: int | None,
    isolation: str,
    collect: str | None,
    exclude: tuple[str, ...],
    chaos: int,
    as_json: bool,
    log_level: str,
) -> int:
    """Call TARGET once for each INPUT, in parallel, and say how it went.

    TARGET is module:function, or file.py:function; the current directory is searched first.

    \b
    INPUT is one of
      a path that exists           passed as text
      a pattern, quoted            '**/*.py': each path that matches, sorted
      a JSON value                 '{"width": 64}': passed as one argument
      -                            each line of standard input (JSON, else text)

    Without INPUT, the module of TARGET may say what to do: default_inputs() returns the INPUTs, default_exclude
    and default_collect stand for --exclude and --collect.

    Progress and the tasks' log lines go to stderr, the report and the summary to stdout. Ctrl-C once lets running
    tasks finish and drops the rest, twice ends at once.
    """
    from rxtasks.cli.run import Request
    from rxtasks.cli.run import run as run_request

    return run_request(
        Request(
            target=target,
            inputs=inputs,
            workers=workers,
            isolation=isolation,
            collect=collect,
            exclude=exclude,
            chaos=chaos,
            json=as_json,
            log_level=log_level.upper(),
        )
    )
