"""The command `rxtasks`: how it begins and how it ends. Its commands are in `rxtasks.cli.commands`.

Nothing but click is imported before a command runs, so that `--help` and a mistake in the arguments answer at once.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from importlib.util import find_spec

from rxtasks.cli.codes import FAILED, INTERRUPTED, NOT_FOUND, RUNS_ALREADY, UNREAD, USAGE
from rxtasks.cli.streams import close_quietly, complete

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; never raises for a user's mistake."""
    try:
        complete()
        if any(find_spec(name) is None for name in ("click", "rich")):
            print(
                "rxtasks: the command line needs click and rich; install them with: pip install 'rxtasks[cli]'",
                file=sys.stderr,
            )
            return USAGE
        code = _run(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        close_quietly()
        return UNREAD
    except OSError as error:
        if error.filename is not None:
            raise
        # No file was named, so it was one of the streams.
        close_quietly()
        with contextlib.suppress(OSError):
            print(f"rxtasks: the output cannot be written: {error.strerror or error}", file=sys.stderr)
        return FAILED


def _run(arguments: Sequence[str] | None) -> int:
    import click

    from rxtasks.cli.commands import root
    from rxtasks.cli.usage import CommandFailed

    out, err = sys.stdout, sys.stderr
    try:
        code = root().main(
            args=None if arguments is None else list(arguments), prog_name="rxtasks", standalone_mode=False
        )
        return int(code or 0)
    except click.NoSuchOption as error:
        advice = ""
        if error.option_name[1:2].isdigit() and error.ctx is not None:
            advice = f" A negative number goes behind --, as in: {error.ctx.command_path} ... -- -1"
        click.UsageError(error.format_message() + advice, error.ctx).show()
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except CommandFailed as error:
        return _tell(error, error.code)
    except click.Abort:
        return INTERRUPTED
    except SystemExit:
        if sys.stdout is out:
            raise
        # The reader of the output left: click makes exit code 1 of it, and puts something else in the place of the streams.
        sys.stdout, sys.stderr = out, err
        raise BrokenPipeError from None
    except Exception as error:
        code = _code_of(error)
        if code is None:
            raise
        return _tell(error, code)


def _code_of(error: Exception) -> int | None:
    """Return the exit code of an error of ours that no command has told, or None: it is not one."""
    from rxtasks.errors import RxTasksError, SettingsError, UnknownTask

    if not isinstance(error, RxTasksError):
        return None
    if isinstance(error, UnknownTask):
        return NOT_FOUND
    if isinstance(error, SettingsError):
        return USAGE
    from rxtasks.control.errors import ControlError, PoolRuns

    if isinstance(error, PoolRuns):
        return RUNS_ALREADY
    if isinstance(error, ControlError):
        # 404: nothing of that id; NO_POOL: it has gone since it was found. 422: an argument that only the pool could judge.
        return NOT_FOUND if error.status == 404 or error.code == "NO_POOL" else USAGE if error.status == 422 else FAILED
    return FAILED


def _tell(error: Exception, code: int) -> int:
    from rxtasks.text import shown

    for line in (str(error) or type(error).__name__).splitlines():
        print(f"rxtasks: {shown(line)}", file=sys.stderr)
    return code
