"""Which workers have served long enough, and when each gets its successor (W-11, pure).

::

    works ── max_tasks attempts, or one that ends above max_memory ──> worn, works on ── successor is started
      ^                                                                   ^                      │
      │                                              another try, later   └─────── it fails ─────┤
      └─────────────────────────── takes over <──────────────────────────────────────── it is ready
                                       │
                                       └──> the worn one gives back what it has not begun, ends what it runs, and leaves

So the pool has never fewer workers than it wants, and no task waits for a start, nor for imports that the worn worker has
done already: its successor does them before it is ready. It has few more: one worker in eight is on its way in or out at a
time (at least one in all), however many are worn at once: while one that is to leave runs a long task, others wait for
their turn, and work on.

With max_tasks_strict a worker is worn as soon as it has been given the last attempt of its allowance, and gets nothing more.
Its successor, when it is ready, waits until all that has ended, so that no more tasks run at once than the pool has workers
for; each worker may have its successor at the same time, because it cannot work on without one.

Where a worker is above max_memory after its first attempt already, and its successor too, replacing it does not help: then
there are 1, 2, 4 .. 60 s between two of them, unless it has grown by half meanwhile.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from rxtasks.config import Settings
from rxtasks.lifecycle.status import WorkerStatus
from rxtasks.pool.info import WorkerSpec
from rxtasks.pool.places import Place, WorkerState
from rxtasks.pool.timers import Timers
from rxtasks.pool.words import Now

__all__ = ["Recycling", "backoff"]

#: Places for each worker that is on its way in or out.
_FOR_EACH = 8
#: Kinds of worker that live in this process: their memory is everybody's.
_OF_OURS = frozenset({"inline", "thread"})
#: How far above its first attempt a worker has grown that is replaced without delay.
_GROWN = 1.5


def backoff(failures: int) -> float:
    """Return the seconds between the last of so many failures in a row, at least one, and the next try."""
    return min(60.0, 2.0 ** min(failures - 1, 6))


class Recycling:
    """Decides which worker is replaced next. `workers` and `places` are those of the pool."""

    def __init__(
        self, settings: Settings, timers: Timers, workers: dict[str, WorkerState], places: list[Place]
    ) -> None:
        self._max_tasks, self._max_memory = settings.max_tasks, settings.max_memory
        #: No worker is given more than max_tasks.
        self.strict = settings.max_tasks_strict and settings.max_tasks is not None
        self._timers = timers
        self._workers = workers
        self._places = places
        #: Something has changed that `next` looks at.
        self.news = False

    # -- what is worn --------------------------------------------------------------------------------------------------

    def lifetime(self, spec: WorkerSpec) -> int:
        """Return how many attempts make a worker of this kind worn."""
        return sys.maxsize if self._max_tasks is None or spec.isolation == "inline" else self._max_tasks

    def allowance(self, spec: WorkerSpec) -> int:
        """Return how many attempts a worker of this kind may be given."""
        return self.lifetime(spec) if self.strict else sys.maxsize

    def keeps_place(self, worker: WorkerState) -> bool:
        """Return True while the worker stays, though its successor is ready."""
        return self.strict and worker.worn != "memory"

    def gave_back(self, worker: WorkerState) -> None:
        """The worker has given back some that it had not begun: it may be given others."""
        if self.strict and worker.worn == "tasks" and worker.left > 0:
            worker.worn = ""

    def not_for(self, specs: Iterable[WorkerSpec]) -> list[str]:
        """Return what to tell about settings that mean nothing to workers of these kinds."""
        told: list[str] = []
        kinds = {spec.isolation for spec in specs}
        if self._max_tasks is not None and "inline" in kinds:
            told.append("max_tasks does not apply to the inline worker: it is its callers' threads")
        if self._max_memory is not None:
            others = " and ".join(sorted(kinds & _OF_OURS))
            if others:
                told.append(f"max_memory does not apply to {others} workers: their memory is this process's")
        return told

    def wear(self, worker: WorkerState, why: str, now: Now, seconds: float = 0.0) -> None:
        """The worker is to be replaced, because of its "tasks" or its "memory", in so many seconds at the earliest."""
        worker.worn = why
        worker.due_ns = now.mono_ns + int(seconds * 1e9)
        self.news = True

    def measured(self, worker: WorkerState, place: Place, ended: int, now: Now) -> str | None:
        """The `ended`-th attempt in the place's worker has left it with so much memory in use; return a warning, or None."""
        memory, most = worker.memory_bytes, self._max_memory
        if most is None or memory is None or memory <= most:
            return None
        if worker.spec.isolation in _OF_OURS or worker.worn == "tasks":
            return None
        worker.worn_bytes = memory
        if worker.worn:
            if memory > _GROWN * worker.heavy_bytes:
                worker.due_ns = min(worker.due_ns, now.mono_ns)
                self.news = True
            return None
        if ended > worker.spec.concurrency:
            place.heavy = 0
            self.wear(worker, "memory", now)
            return None
        worker.heavy_bytes = memory
        place.heavy += 1
        delay = backoff(place.heavy - 1) if place.heavy > 1 else 0.0
        self.wear(worker, "memory", now, delay)
        self._timers.at(worker.due_ns, "recycle", place.number)
        if place.heavy != 2:
            return None
        return (
            f"max_memory ({_megabytes(most)}) is too low for these tasks: one worker after another is above it after its "
            f"first attempt ({_megabytes(memory)}); from now on they are replaced less and less often"
        )

    def reason(self, worker: WorkerState) -> str:
        """Return why the worker is replaced."""
        if worker.worn == "tasks":
            return f"recycled: {worker.ended} tasks"
        return f"recycled: memory {_megabytes(worker.worn_bytes)} over {_megabytes(self._max_memory or 0)}"

    # -- who is next ---------------------------------------------------------------------------------------------------

    @property
    def most(self) -> int:
        """How many workers the pool may have beyond its places, on their way in or out."""
        return len(self._places) if self.strict else -(-len(self._places) // _FOR_EACH)

    def next(self, now: Now) -> Place | None:
        """Return the place whose worker gets a successor now: that of the longest worn one; None: none may."""
        coming = sum([place.successor is not None for place in self._places])
        going = sum([bool(w.worn) and w.status is WorkerStatus.STOPPING for w in self._workers.values()])
        if coming + going >= self.most:
            return None
        found: Place | None = None
        oldest = 0
        for place in self._places:
            worker = self._workers.get(place.worker_id or "")
            if worker is None or not worker.worn or not worker.able or place.successor is not None:
                continue
            if max(place.not_before_ns, worker.due_ns) <= now.mono_ns and (found is None or worker.due_ns < oldest):
                found, oldest = place, worker.due_ns
        return found

    def not_yet(self, place: Place, text: str, now: Now) -> str:
        """The successor could not start: another try, later; return what to tell."""
        place.failures += 1
        delay = backoff(place.failures)
        place.not_before_ns = now.mono_ns + int(delay * 1e9)
        self._timers.at(place.not_before_ns, "recycle", place.number)
        meanwhile = "" if self.strict else "it goes on, and "
        return f"its successor could not start: {text}; {meanwhile}the next one is started in {delay:g} s"


def _megabytes(number: int) -> str:
    return f"{number / 2**20:.0f} MB"
