"""A service of the chaos protocol: `python -m benchmarks.chaos.service FOLDER NAME [SABOTAGE...]`.

Its bus has a subscriber that writes down every event that is published. Told by lines on stdin: "scale N", "stuck" (one more
subscriber, that never returns), "stop" (drain, then end).
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.chaos import sabotage
from benchmarks.chaos.descriptors import open_here
from benchmarks.chaos.handlers import FOLDER, SERVICE
from benchmarks.chaos.lines import Lines
from rxtasks import TaskEvent, TaskService
from rxtasks.stores.base import Change
from rxtasks.stores.sqlite.store import SqliteStore

__all__ = ["LEASE", "RENEWAL", "STORE", "main", "settings"]

#: Seconds; shorter than a user's, so that a run sees many of them lapse.
LEASE, RENEWAL = 3.0, 0.5
STORE = "store/tasks.db"


def settings() -> dict[str, float]:
    """Return the settings of every service of a run."""
    return {"lease": LEASE, "lease_renewal": RENEWAL, "drain_timeout": 5.0}


class _LoggedStore(SqliteStore):
    """Writes down the ends that were refused: those of zombies."""

    def __init__(self, path: str, lines: Lines) -> None:
        super().__init__(path)
        self._lines = lines

    def commit(
        self,
        changes: list[Change],
        events: list[TaskEvent],
        done: Callable[[list[int], BaseException | None], None],
    ) -> None:
        def told(refused: list[int], error: BaseException | None) -> None:
            for change in changes if refused else ():
                if change.token in refused:
                    self._lines.write(what="refused", id=change.task_id, token=change.token, status=change.status)
            done(refused, error)

        super().commit(changes, events, told)


def main(folder: str, name: str, sabotages: Sequence[str]) -> None:
    """Run until told to stop."""
    for one in sabotages:
        sabotage.apply(one)
    os.environ[FOLDER], os.environ[SERVICE] = folder, name
    said = Lines(Path(folder, f"service-{name}.jsonl"))
    seen = Lines(Path(folder, f"seen-service-{name}-{os.getpid()}.jsonl"))
    before = open_here()
    store = _LoggedStore(str(Path(folder, STORE)), said)
    service = TaskService(2, store=store, modules=["benchmarks.chaos.handlers"], echo=None, **settings())

    def observe(event: TaskEvent) -> None:
        seen.write(id=event.task_id, seq=event.seq, event=event.to_json().decode())

    service.events.subscribe(observe)
    service.pool.subscribe(lambda event: said.write(what="pool", kind=event.kind, worker=event.worker_id))
    service.start()
    said.write(what="started", pid=os.getpid())
    os.write(1, b"ready\n")
    for line in sys.stdin:
        word, *rest = line.split()
        if word == "scale":
            service.scale(int(rest[0]))
        elif word == "stuck":
            service.events.subscribe(lambda event: threading.Event().wait())
        elif word == "stop":
            break
    report = service.stop(timeout=5)
    left = list((open_here() - before).elements())
    said.write(what="stopped", pid=os.getpid(), stuck=len(report.stuck), open=left)
    # A subscriber that never returns holds a thread.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
