"""A pusher of the chaos protocol: `python -m benchmarks.chaos.pusher FOLDER NAME SEED [SABOTAGE...]`.

Pushes tasks and cancels a few, without workers of its own. What was acknowledged is written down, and synced, after the call
has returned and before the next one. It ends at the end of stdin.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.chaos import sabotage
from benchmarks.chaos.descriptors import open_here
from benchmarks.chaos.handlers import HANDLERS
from benchmarks.chaos.lines import Lines
from benchmarks.chaos.service import STORE, settings
from rxtasks import StoreError, TaskService

__all__ = ["main"]

_THREADS = 2
#: Seconds between two pushes of a thread; tasks that may wait before it pauses.
_PAUSE = 0.03
_MOST = 400
_CANCELLED = 0.06


def main(folder: str, name: str, seed: int, sabotages: Sequence[str]) -> None:
    """Push until stdin ends."""
    for one in sabotages:
        sabotage.apply(one)
    acknowledged = Lines(Path(folder, f"pushed-{name}.jsonl"), sync=True)
    before = open_here()
    service = TaskService(0, store=f"sqlite:///{Path(folder, STORE)}", echo=None, **settings())
    service.start()
    over = threading.Event()

    def push(thread: int) -> None:
        chance = random.Random(f"{seed} {name} {thread} {os.getpid()}")
        recent: list[str] = []
        number = 0
        while not over.is_set():
            time.sleep(chance.uniform(0, 2 * _PAUSE))
            if service.status().pending > _MOST:
                continue
            number += 1
            try:
                if recent and chance.random() < _CANCELLED:
                    task_id = recent.pop(chance.randrange(len(recent)))
                    said = service.cancel(task_id, "chaos")
                    acknowledged.write(what="cancelled", id=task_id, said=said)
                    continue
                handler = chance.choice(HANDLERS)
                more = {"priority": chance.choice((0, 0, 0, 5))}
                if chance.random() < 0.05:
                    more["delay"] = chance.uniform(0.01, 1.0)
                tracker = service.with_options(**more).submit(handler, number)
            except (StoreError, TimeoutError) as error:
                acknowledged.write(what="refused", error=str(error))
                continue
            acknowledged.write(what="pushed", id=tracker.task_id)
            recent = [*recent[-30:], tracker.task_id]

    threads = [threading.Thread(target=push, args=(number,)) for number in range(_THREADS)]
    for thread in threads:
        thread.start()
    os.write(1, b"ready\n")
    sys.stdin.read()
    over.set()
    for thread in threads:
        thread.join()
    service.stop(timeout=5)
    acknowledged.write(what="stopped", open=list((open_here() - before).elements()))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:])
