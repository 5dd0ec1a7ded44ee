"""`rxtasks worker stop`."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rxtasks.cli.codes import DONE, FAILED
from rxtasks.cli.group import CONTEXT
from rxtasks.cli.output import write_json
from rxtasks.cli.place import configured, json_option, running_pool, store_options
from rxtasks.cli.usage import CommandFailed
from rxtasks.text import counted, shown

if TYPE_CHECKING:
    from rxtasks.configuration import Configuration
    from rxtasks.control.place import Running
    from rxtasks.host.ending import Ending

__all__ = ["stop"]

_EPILOG = """\b
Examples:
  rxtasks worker stop                  running tasks may finish
  rxtasks worker stop --timeout 10     they have 10 seconds
  rxtasks worker stop --force          they have none

What has not finished goes back into the store; the next pool runs it.
"""
#: Seconds beyond the time that running tasks have, within which a pool goes.
_BEYOND = 30.0


@click.command(epilog=_EPILOG, context_settings=CONTEXT)
@click.option("--force", is_flag=True, help="Do not wait for what runs; hurries a stop that waits.")
@click.option("--timeout", type=click.FloatRange(0), metavar="S", help="Seconds for what runs; else the drain timeout.")
@store_options
@json_option
def stop(force: bool, timeout: float | None, store: str | None, config: Path | None, as_json: bool) -> int:
    """Stop the pool and wait until it has gone.

    Says what was not finished. Ctrl-C ends the waiting, not the pool's stop.
    """
    from rxtasks.control.client import ControlClient

    configuration = configured(store, config)
    found = running_pool(configuration)
    ended = _watch(found)
    ControlClient(found.socket).post("/v1/shutdown", {"force": force, "timeout": timeout})
    drain = configuration.values.workers.drain_timeout_seconds if timeout is None else timeout
    within = _BEYOND + (0 if force else drain)
    if not as_json:
        print(f"asked the pool (pid {found.pid}) to stop; waiting until it has", file=sys.stderr)
    if not ended(within):
        raise CommandFailed(
            f"the pool (pid {found.pid}) has not gone within {within:g} s; see rxtasks worker status, or hurry it with:"
            " rxtasks worker stop --force"
        )
    ending = _ending(configuration, found)
    if as_json:
        write_json({"pid": found.pid, "stopped": True, **({} if ending is None else ending.to_dict())})
    else:
        for line in _told(ending):
            print(line, file=sys.stderr)
    lost = ending is not None and ending.unfinished_count > 0 and not ending.kept
    return FAILED if lost or (ending is not None and ending.exit_code == 1) else DONE


def _watch(found: Running) -> Callable[[float], bool]:
    """Return what waits for the end of the pool's process, which it is made to know before it is asked to end."""
    if found.pid is None:
        raise CommandFailed("the pool is about to start; try again in a moment")
    try:
        fd = os.pidfd_open(found.pid)
    except ProcessLookupError:
        return lambda seconds: True

    def wait(seconds: float) -> bool:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        until = time.monotonic() + seconds
        try:
            while (left := until - time.monotonic()) > 0:
                if poll.poll(int(left * 1000) + 1):
                    return True
            return False
        finally:
            os.close(fd)

    return wait


def _ending(configuration: Configuration, found: Running) -> Ending | None:
    """Return how that pool has ended; None: it has left no word of it."""
    from rxtasks.host.directories import log_name
    from rxtasks.host.ending import Ending

    if found.info is None:
        return None
    ending = Ending.read(found.info.logs, log_name(configuration))
    return ending if ending is not None and ending.pid == found.pid else None


def _told(ending: Ending | None) -> list[str]:
    if ending is None:
        return ["stopped, and it has not said how: it was killed, or has no directory for its logs"]
    if not ending.unfinished_count:
        return ["stopped; every task that ran has finished"]
    fate = "back in the store, for the next pool" if ending.kept else "lost with the store in memory"
    lines = [f"stopped; {counted(ending.unfinished_count, 'task')} not finished, {fate}:"]
    lines += [f"  {shown(task_id)}" for task_id in ending.unfinished[:20]]
    if ending.unfinished_count > 20:
        lines.append(f"  and {ending.unfinished_count - 20:,} more")
    return lines
