"""The command `rxtasks`: its arguments, and how it ends.

Nothing but click is imported before a command runs, so that `--help` and a mistake in the arguments answer at once.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from rxtasks.cli.streams import close_quietly, complete

if TYPE_CHECKING:
    import click

__all__ = ["main"]

_EPILOG = """\b
Exit codes: 0 every task succeeded; 1 a task failed, or the output could not be
written; 2 wrong usage (TARGET or INPUT not found included); 130 interrupted;
141 the reader of the output left.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; never raises for a user's mistake."""
    try:
        complete()
        if any(find_spec(name) is None for name in ("click", "rich")):
            print(
                "rxtasks: the command line needs click and rich; install them with: pip install 'rxtasks[cli]'",
                file=sys.stderr,
            )
            return 2
        code = _run(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        close_quietly()
        return 141
    except OSError as error:
        if error.filename is not None:
            raise
        # No file was named, so it was one of the streams.
        close_quietly()
        with contextlib.suppress(OSError):
            print(f"rxtasks: the output cannot be written: {error.strerror or error}", file=sys.stderr)
        return 1


def _run(arguments: Sequence[str] | None) -> int:
    import click

    from rxtasks.cli.usage import UsageMistake

    try:
        code = _command().main(
            args=None if arguments is None else list(arguments), prog_name="rxtasks", standalone_mode=False
        )
        return int(code or 0)
    except click.NoSuchOption as error:
        advice = ""
        if error.option_name[1:2].isdigit():
            advice = " A negative number is an INPUT after --: rxtasks run TARGET -- -1"
        click.UsageError(error.format_message() + advice, error.ctx).show()
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except UsageMistake as error:
        print(f"rxtasks: {error}", file=sys.stderr)
        return 2
    except click.Abort:
        return 130


def _command() -> click.Group:
    import click

    @click.group(
        context_settings={"help_option_names": ["-h", "--help"]},
        no_args_is_help=True,
        epilog=_EPILOG,
        options_metavar="",
    )
    @click.version_option(_version(), prog_name="rxtasks", message="%(prog)s %(version)s")
    def rxtasks() -> None:
        """Run tasks in parallel and watch everything they do."""

    @rxtasks.command(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
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

    return rxtasks


def _version() -> str:
    from rxtasks import __version__

    return __version__
