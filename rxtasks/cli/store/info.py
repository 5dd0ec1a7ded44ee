"""`rxtasks store info`."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import click

from rxtasks.cli.codes import DONE, EPILOG
from rxtasks.cli.group import CONTEXT
from rxtasks.cli.opening import path_of, served
from rxtasks.cli.output import write_json
from rxtasks.cli.place import configured, json_option, store_options
from rxtasks.text import shown

__all__ = ["info"]


@click.command(context_settings=CONTEXT, epilog=EPILOG)
@store_options
@json_option
def info(store: str | None, config: Path | None, as_json: bool) -> int:
    """Show what is in the store, and who uses it.

    \b
    rxtasks store info
    rxtasks store info --json | jq .tasks.pending
    """
    from rxtasks.lifecycle.status import TaskStatus

    configuration = configured(store, config)
    path = path_of(configuration)
    with served(configuration) as service:
        _, version = service.migrate()
        tally = service.tally()
        found: dict[str, Any] = {
            "path": path,
            "bytes": _bytes(path),
            "log_bytes": _bytes(path + "-wal"),
            "schema": version,
            "tasks": {status.value: tally[status] for status in TaskStatus if status in tally},
            "set_aside": len(service.damaged(1000)),
            "services": [
                {"number": each.number, "pid": each.pid, "host": each.host, "holds": each.holds, "lapsed": each.lapsed}
                for each in service.services()
            ],
        }
    if as_json:
        write_json(found)
        return DONE
    print(f"path:      {shown(path)}")
    print(f"size:      {found['bytes']:,} bytes, and {found['log_bytes']:,} in its log")
    print(f"schema:    version {version}")
    tasks = ", ".join(f"{count:,} {status}" for status, count in found["tasks"].items())
    print(f"tasks:     {tasks or 'none'}")
    if found["set_aside"]:
        print(f"set aside: {found['set_aside']:,} that cannot be read (rxtasks store check)")
    for each in found["services"]:
        held = f"holds {each['holds']:,}" if each["holds"] else "holds none"
        gone = "; its lease has lapsed" if each["lapsed"] is not None and each["lapsed"] > 0 else ""
        print(f"service:   {each['number']}, pid {each['pid']} on {shown(each['host'])}, {held}{gone}")
    if not found["services"]:
        print("service:   none uses it")
    return DONE


def _bytes(path: str) -> int:
    with contextlib.suppress(OSError):
        return os.stat(path).st_size
    return 0
