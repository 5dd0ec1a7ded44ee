"""The command `rxtasks top`: its arguments."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import click

from rxtasks.cli.group import CONTEXT
from rxtasks.cli.place import configured, running_pool, store_options
from rxtasks.cli.usage import UsageMistake

__all__ = ["top"]

_EPILOG = """\b
Keys:
  tab, shift+tab   from pane to pane; arrows move in one
  p                pause, or resume
  + and -          one worker more, or less
  c                cancel the selected task
  k, r             kill, or restart, the selected worker
  /                filter the log by text; esc shows all again
  q                quit
"""


@click.command(epilog=_EPILOG, context_settings=CONTEXT)
@store_options
def top(store: str | None, config: Path | None) -> int:
    """Watch and steer the pool live, in this terminal.

    Shows the workers, the queue, the log and what they use. It goes on when the pool ends, and when another one starts.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageMistake("top needs a terminal; in a script use: rxtasks worker status --json")
    if find_spec("textual") is None:
        raise UsageMistake("top needs textual; install it with: pip install 'rxtasks[cli]'")
    configuration = configured(store, config)
    running_pool(configuration)
    from rxtasks.cli.top.feed import Feed
    from rxtasks.cli.top.screen import run

    return run(Feed(configuration))
