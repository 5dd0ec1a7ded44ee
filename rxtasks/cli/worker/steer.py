"""`rxtasks worker scale|restart|kill|pause|resume`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from rxtasks.cli.codes import DONE
from rxtasks.cli.group import CONTEXT
from rxtasks.cli.output import write_json
from rxtasks.cli.place import configured, json_option, reach, store_options
from rxtasks.text import counted

__all__ = ["kill", "pause", "restart", "resume", "scale"]


def _say(as_json: bool, value: Any, sentence: str) -> int:
    if as_json:
        write_json(value)
    else:
        print(sentence, file=sys.stderr)
    return DONE


@click.command(epilog="\b\nExample:\n  rxtasks worker scale 8\n", context_settings=CONTEXT)
@click.argument("count", metavar="N", type=click.IntRange(0, 1000))
@store_options
@json_option
def scale(count: int, store: str | None, config: Path | None, as_json: bool) -> int:
    """Have so many workers.

    New ones are started; of those that are too many the idle ones leave at once, the others when they have ended what
    they run. The number that the pool can have (1 to 256) is said.
    """
    answer = reach(configured(store, config)).post("/v1/scale", {"count": count})
    will = answer["count"]
    clamped = "" if will == count else f" (not {count}: that is what this pool can have)"
    return _say(as_json, answer, f"the pool will have {counted(will, 'worker')}{clamped}")


@click.command(
    epilog="\b\nExample:\n  rxtasks worker restart 7QX2MD      an id, or any beginning or end that is unique\n",
    context_settings=CONTEXT,
)
@click.argument("worker_id", metavar="ID")
@store_options
@json_option
def restart(worker_id: str, store: str | None, config: Path | None, as_json: bool) -> int:
    """Replace a worker when it has ended what it runs."""
    from rxtasks.cli.worker.ids import find_worker

    client = reach(configured(store, config))
    found = find_worker(client, worker_id)["worker_id"]
    answer = client.post(f"/v1/workers/{found}/restart")
    new = answer.get("replaced_by")
    told = f"worker {found} is replaced" + (f" by {new}" if new else "")
    return _say(as_json, {"worker_id": found, **answer}, told)


@click.command(
    epilog="\b\nExample:\n  rxtasks worker kill 7QX2MD      an id, or any beginning or end that is unique\n",
    context_settings=CONTEXT,
)
@click.argument("worker_id", metavar="ID")
@store_options
@json_option
def kill(worker_id: str, store: str | None, config: Path | None, as_json: bool) -> int:
    """Kill a worker; what it runs is run again by another."""
    from rxtasks.cli.worker.ids import find_worker

    client = reach(configured(store, config))
    found = find_worker(client, worker_id)["worker_id"]
    answer = client.post(f"/v1/workers/{found}/kill")
    return _say(as_json, {"worker_id": found, **answer}, f"worker {found} is killed")


@click.command(epilog="\b\nExample:\n  rxtasks worker pause\n", context_settings=CONTEXT)
@store_options
@json_option
def pause(store: str | None, config: Path | None, as_json: bool) -> int:
    """Begin no new tasks; those that run go on."""
    answer = reach(configured(store, config)).post("/v1/processing/pause")
    return _say(as_json, answer, "paused; go on with: rxtasks worker resume")


@click.command(epilog="\b\nExample:\n  rxtasks worker resume\n", context_settings=CONTEXT)
@store_options
@json_option
def resume(store: str | None, config: Path | None, as_json: bool) -> int:
    """Begin new tasks again."""
    return _say(as_json, reach(configured(store, config)).post("/v1/processing/resume"), "resumed")
