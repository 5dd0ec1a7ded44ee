"""An observer of the chaos protocol: `python -m benchmarks.chaos.observer FOLDER NAME [SABOTAGE...]`.

Tracks every second task that was acknowledged, from another process than any that pushes or runs it, and writes down every
event that it sees. It ends at the end of stdin.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.chaos import sabotage
from benchmarks.chaos.descriptors import open_here
from benchmarks.chaos.lines import Lines
from benchmarks.chaos.service import STORE, settings
from rxtasks import StoreError, TaskEvent, TaskService, UnknownTask

__all__ = ["main"]

_LOOK = 0.05


def main(folder: str, name: str, sabotages: Sequence[str]) -> None:
    """Track until stdin ends."""
    for one in sabotages:
        sabotage.apply(one)
    seen = Lines(Path(folder, f"seen-observer-{name}-{os.getpid()}.jsonl"))
    before = open_here()
    service = TaskService(0, store=f"sqlite:///{Path(folder, STORE)}", echo=None, **settings())
    service.start()
    over = threading.Event()

    def observe(event: TaskEvent) -> None:
        seen.write(id=event.task_id, seq=event.seq, event=event.to_json().decode())

    def watch() -> None:
        news = _acknowledged(Path(folder))
        turn = 0
        while not over.wait(_LOOK):
            for task_id in next(news):
                turn += 1
                if turn % 2:
                    continue
                try:
                    service.track(task_id).subscribe(
                        observe, lambda error, task_id=task_id: seen.write(what="error", id=task_id, error=str(error))
                    )
                except UnknownTask:
                    seen.write(what="unknown", id=task_id)
                except (StoreError, TimeoutError) as error:
                    seen.write(what="refused", id=task_id, error=str(error))

    thread = threading.Thread(target=watch)
    thread.start()
    os.write(1, b"ready\n")
    sys.stdin.read()
    over.set()
    thread.join()
    service.stop(timeout=5)
    seen.write(what="stopped", open=list((open_here() - before).elements()))


def _acknowledged(folder: Path) -> Iterator[list[str]]:
    """Yield the ids that have been acknowledged since the last time."""
    places: dict[Path, int] = {}
    while True:
        found = []
        for path in sorted(folder.glob("pushed-*.jsonl")):
            with path.open("rb") as file:
                file.seek(places.get(path, 0))
                whole, newline, _ = file.read().rpartition(b"\n")
            places[path] = places.get(path, 0) + len(whole) + len(newline)
            rows = [json.loads(line) for line in whole.splitlines()]
            found += [row["id"] for row in rows if row["what"] == "pushed"]
        yield found


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
