"""`rxtasks worker start`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from rxtasks.cli.codes import DONE
from rxtasks.cli.group import CONTEXT
from rxtasks.cli.output import write_json
from rxtasks.cli.place import configured, json_option, store_options
from rxtasks.cli.usage import CommandFailed, UsageMistake

__all__ = ["start"]

_EPILOG = """\b
Examples:
  rxtasks worker start --module shop.tasks
  rxtasks worker start --count 8 --store sqlite:////var/lib/shop/tasks.db --detach
  rxtasks worker start --burst --module shop.tasks      work off what waits, then end

\b
Signals: SIGTERM and Ctrl-C once: running tasks may finish within the drain
timeout, what waits stays in the store; twice: ends at once; SIGHUP: as SIGTERM
where there is a terminal, else ignored.

\b
Exit codes: 0 it ended in order (--detach: it is ready); 1 it could not go on,
or tasks were lost with a store in memory; 2 wrong usage or configuration; 4 a
pool of that store runs already; 130 or 143 a second Ctrl-C or SIGTERM cut off
running tasks.
"""


@click.command(epilog=_EPILOG, context_settings=CONTEXT)
@click.option("--count", metavar="N", help="How many workers; one for each usable CPU if not given.")
@click.option("--mode", metavar="MODE", help="Where tasks run: process (the default) or thread.")
@click.option("--concurrency", metavar="N", help="Async tasks that one worker runs at once.")
@click.option(
    "--module",
    "modules",
    multiple=True,
    metavar="MODULE",
    help="A module with tasks, which each worker imports; the working directory is searched first. Repeatable.",
)
@store_options
@click.option("--listen", metavar="HOST:PORT", help="Serve the control API by TCP too; needs a token.")
@click.option("--log-directory", metavar="DIR", help="Where the log files are.")
@click.option("--log-level", metavar="LEVEL", help="Least level that is kept.")
@click.option("--drain-timeout", metavar="SECONDS", help="Time that a stop gives running tasks.")
@click.option("--set", "assigned", multiple=True, metavar="KEY=VALUE", help="Any other setting. Repeatable.")
@click.option("--detach", is_flag=True, help="Return when the pool is ready; it goes on without this terminal.")
@click.option("--burst", is_flag=True, help="End when nothing is left to run.")
@json_option
def start(
    count: str | None,
    mode: str | None,
    concurrency: str | None,
    modules: tuple[str, ...],
    store: str | None,
    config: Path | None,
    listen: str | None,
    log_directory: str | None,
    log_level: str | None,
    drain_timeout: str | None,
    assigned: tuple[str, ...],
    detach: bool,
    burst: bool,
    as_json: bool,
) -> int:
    """Start the pool of a store.

    The workers run the tasks that wait in the store and those that come. One pool runs on a store of one user and
    machine; it is steered with the other commands of `rxtasks worker`, from any terminal.
    """
    from rxtasks.configuration import assignments

    given: dict[str, object] = {
        "store": store,
        "workers.count": count,
        "workers.mode": mode,
        "workers.concurrency": concurrency,
        "modules": list(modules) or None,
        "control.listen": listen,
        "logs.directory": log_directory,
        "logs.level": log_level,
        "workers.drain_timeout_seconds": drain_timeout,
    }
    flags = assignments(assigned, given)
    configuration = configured(store, config, flags=flags)
    if burst and configuration.values.workers.count == 0:
        raise UsageMistake("with no workers nothing is ever worked off: give --burst with --count 1 or more")
    if detach:
        from rxtasks.host.detached import Failed, Order, start_detached

        found = start_detached(
            configuration,
            Order(flags, None if config is None else str(config.absolute()), burst),
        )
        if isinstance(found, Failed):
            raise CommandFailed(found.message, found.exit_code)
        if as_json:
            write_json(dict(found.facts))
        else:
            print(f"the pool runs (pid {found.facts['pid']}); see it with: rxtasks worker status", file=sys.stderr)
        return DONE
    from rxtasks.host.starting import run

    return run(configuration, burst=burst, announce=lambda facts: write_json(dict(facts)) if as_json else None)
