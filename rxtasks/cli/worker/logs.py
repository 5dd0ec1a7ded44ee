"""`rxtasks worker logs`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import click

from rxtasks.cli.codes import DONE, FAILED
from rxtasks.cli.group import CONTEXT
from rxtasks.cli.place import configured, json_option, running_pool, store_options
from rxtasks.cli.usage import CommandFailed
from rxtasks.text import shown

if TYPE_CHECKING:
    from rxtasks.configuration import Configuration
    from rxtasks.control.client import ControlClient, ServerSentEvent
    from rxtasks.logs import LogFilter, LogLine

__all__ = ["logs", "show_logs"]

_EPILOG = """\b
Examples:
  rxtasks worker logs                            the last 100 lines
  rxtasks worker logs --since 1h --level error   also of a pool that has gone
  rxtasks worker logs 7QX2MD --follow            one worker, live
  rxtasks worker logs pool                       what the pool itself says
"""
#: Lines that are shown where nothing says how many.
_LINES = 100
#: Lines of the files that the live ones are compared with, where both meet.
_SEAM = 2000


@click.command(epilog=_EPILOG, context_settings=CONTEXT)
@click.argument("worker", metavar="[ID]", required=False)
@click.option("--follow", "-f", is_flag=True, help="Go on with the lines to come, until Ctrl-C or the end of the pool.")
@click.option("--since", metavar="TIME", help="From then on: 10m, 1h30m, or 2026-11-22T10:30 (local time).")
@click.option("--until", metavar="TIME", help="Up to then.")
@click.option("--level", metavar="LEVEL", help="Least level: debug, info, warning, error, ...")
@click.option("--task", metavar="TASK", help="Of a task: its id, a part of it, or its name.")
@click.option("--text", metavar="TEXT", help="Lines that contain this, in any case.")
@click.option("--lines", "-n", type=click.IntRange(0), metavar="N", help="The last N; without --since 100.")
@click.option("--log-directory", metavar="DIR", help="Where the files of a pool that has gone are, if not where usual.")
@store_options
@json_option
def logs(
    worker: str | None,
    follow: bool,
    since: str | None,
    until: str | None,
    level: str | None,
    task: str | None,
    text: str | None,
    lines: int | None,
    log_directory: str | None,
    store: str | None,
    config: Path | None,
    as_json: bool,
) -> int:
    """Show the merged logs of the pool, or of one worker.

    They are read from the log files, so those of a pool that has gone are there too.
    """
    from rxtasks.logs import LogFilter

    wanted = LogFilter(worker=worker, task=task, level=level, since=since, until=until, text=text)
    configuration = configured(store, config, flags={"logs.directory": log_directory})
    if level is None and follow:
        # The live ones are all that is said; the files have what is kept.
        wanted = attrs.evolve(wanted, level=configuration.values.logs.level)
    return show_logs(configuration, wanted, follow=follow, lines=lines, as_json=as_json)


def show_logs(
    configuration: Configuration, wanted: LogFilter, *, follow: bool, lines: int | None, as_json: bool
) -> int:
    """Write the lines of the log files that pass, then with `follow` those to come; return the exit code."""
    from rxtasks.host.directories import log_name
    from rxtasks.logs import LogFiles

    limit = _LINES if lines is None and wanted.since is None else lines
    write = _writer(as_json)
    live: Iterator[LogLine] | None = None
    if follow:
        from rxtasks.control.client import ControlClient

        # Begun before the files are read, so that nothing falls between the two.
        live = _live(ControlClient(running_pool(configuration).socket), wanted)
    directory = _directory(configuration)
    count, seam = 0, dict[bytes, None]()
    if directory is not None:
        with LogFiles(directory, name=log_name(configuration)).query(wanted, limit) as found:
            for line in found:
                write(line)
                count += 1
                if live is not None:
                    seam[line.to_json()] = None
                    if len(seam) > _SEAM:
                        del seam[next(iter(seam))]
        if found.skipped:
            print(f"{found.skipped} damaged lines were skipped", file=sys.stderr)
    if live is None:
        if not count:
            print(f"no line passes, in the log files in {shown(directory or 'no directory')}", file=sys.stderr)
        return DONE
    sys.stdout.flush()
    return _follow(live, seam, write)


def _follow(live: Iterator[LogLine], seam: dict[bytes, None], write: Callable[[LogLine], None]) -> int:
    from rxtasks.control.client import ControlError

    try:
        for line in live:
            if seam and line.to_json() in seam:
                continue
            write(line)
            sys.stdout.flush()
    except ControlError as error:
        print(
            f"rxtasks: {shown(error.message)}: the pool has gone or was killed; see rxtasks worker status",
            file=sys.stderr,
        )
        return FAILED
    print("the pool has ended", file=sys.stderr)
    return DONE


def _live(client: ControlClient, wanted: LogFilter) -> Iterator[LogLine]:
    """Return the lines to come; the pool has been asked for them when this returns."""
    from rxtasks.logs import LogLine

    query = {name: value for name, value in wanted.to_query().items() if name != "since"}
    stream = client.stream("/v1/logs/follow", **query)

    def read(events: Iterator[ServerSentEvent]) -> Iterator[LogLine]:
        import json

        for event in events:
            if event.event == "line":
                yield LogLine.from_json(json.dumps(event.data))
            elif event.event == "overflow":
                raise CommandFailed(
                    "whoever reads this was too slow for the lines that came, and was let go; ask for fewer with --level"
                )

    return read(stream)


def _writer(as_json: bool) -> Callable[[LogLine], None]:
    from rxtasks.logs import choose_format, render
    from rxtasks.logs.render import Format

    format: Format = "json" if as_json else choose_format(sys.stdout, os.environ)
    return lambda line: print(render(line, format))


def _directory(configuration: Configuration) -> str | None:
    """Return where the log files are: where the pool that runs, or was killed, said; else where they would be."""
    from rxtasks.control.place import Place
    from rxtasks.host.directories import logs_directory

    given = configuration.sources["logs.directory"].startswith("flag")
    if configuration.values.store != "memory" and not given:
        found = Place.of(configuration.values.store).find()
        if found is not None and found.info is not None and found.info.logs is not None:
            return found.info.logs
    return logs_directory(configuration)
