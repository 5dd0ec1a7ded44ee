"""What is believed of the workers (pure): stimuli change it, instructions come out.

::

            SpawnWorker              Ready               Assign
    (place) ───────────> starting ──────────> idle <──────────────> busy
       ^                    │                  │    all ended        │
       │    respawn         v exited           v        exited       v
       └──────────────── failed              stopping ──────────> stopped

A place is what the pool wants to have filled; when its worker is lost, another one is made: the first time at once, after
a failure to become ready with a delay of 1, 2, 4 .. 60 s, at most `max_respawns` in a row (W-04). A worker that a task
brought down had been ready and does not count. A worker that has served long enough stays until its successor is ready
(pool.recycling).
"""

from __future__ import annotations

from collections.abc import Iterator

from rxtasks.clock import utc_from_us
from rxtasks.config import Settings
from rxtasks.lifecycle.options import ResourceLimits
from rxtasks.lifecycle.status import WorkerStatus
from rxtasks.pool.events import WorkerEvent
from rxtasks.pool.info import PoolStatus, RunningTask, WorkerInfo, WorkerSpec
from rxtasks.pool.places import Place, WorkerState
from rxtasks.pool.recycling import Recycling, backoff
from rxtasks.pool.timers import Timers
from rxtasks.pool.words import Announce, CloseWorker, Instruction, KillWorker, Now, PoolReady, ShowTurned, SpawnWorker
from rxtasks.stores.base import Lane
from rxtasks.wire.message import Define

__all__ = ["Place", "PoolState", "WorkerState"]

_STARTING, _IDLE, _BUSY = WorkerStatus.STARTING, WorkerStatus.IDLE, WorkerStatus.BUSY
_STOPPING = WorkerStatus.STOPPING
#: Most workers of one kind that scale() makes.
_MOST = 256
#: Threads that are left running and replaced; each holds memory, and perhaps locks.
_MOST_ABANDONED = 8
#: Workers that are gone whose end is remembered.
_MOST_ENDED = 1000


class PoolState:
    """The workers, and the rules by which they come and go."""

    def __init__(self, specs: list[WorkerSpec], settings: Settings, timers: Timers) -> None:
        self.settings = settings
        self.timers = timers
        self.workers: dict[str, WorkerState] = {}
        self.places: list[Place] = []
        self.spares: list[str] = []
        #: Workers whose status has gone from idle to busy or back in this step.
        self._turned: list[WorkerState] = []
        self.stopping = False
        self.started_ns = 0
        #: None until the first start is over.
        self.ready: bool | None = None
        self.abandoned = 0
        #: A worker has become ready once.
        self._proven = False
        #: Hooks and resources, by key: every worker is told of them before it sets itself up.
        self.defines: dict[str, Define] = {}
        #: Own options, as JSON, of the handlers that workers have told of when they became ready.
        self.own_options: dict[str, str] = {}
        #: How workers ended, the latest ones: None = orderly.
        self.ended: dict[str, str | None] = {}
        #: Who was made in the place of those of them, and of others, that were restarted.
        self.restarted: dict[str, str] = {}
        self.recycling = Recycling(settings, timers, self.workers, self.places)
        self._specs = specs
        self._lanes: dict[WorkerSpec, Lane] = {}
        for spec in specs:
            for _ in range(spec.count):
                self.places.append(Place(len(self.places), spec))
        #: The number of the next place: none is used twice, a timer may still name it.
        self._numbered = len(self.places)

    @property
    def lanes(self) -> list[Lane]:
        """The kinds of queue that its workers serve."""
        return list(dict.fromkeys(self.lane_of(spec) for spec in self._specs))

    def lane_of(self, spec: WorkerSpec) -> Lane:
        """Return the lane that workers of this kind serve."""
        lane = self._lanes.get(spec)
        if lane is None:
            queues = None if spec.queues is None else frozenset(spec.queues)
            lane = Lane(spec.isolation, queues)
            # Kinds of workers that take the same tasks share one lane.
            lane = self._lanes[spec] = next((known for known in self._lanes.values() if known == lane), lane)
        return lane

    def limits_of(self, spec: WorkerSpec) -> ResourceLimits | None:
        """Return the limits of workers of this kind, None = there are none."""
        limits = spec.limits or self.settings.limits
        return limits if limits is not None and limits.bounded and spec.isolation == "process" else None

    def _without_limits(self) -> list[str]:
        """Return what to tell of limits that mean nothing to workers of these kinds."""
        kinds = {spec.isolation for spec in self._specs if spec.limits or self.settings.limits} - {"process"}
        others = " and ".join(sorted(kinds))
        return [f"limits do not apply to {others} workers: what they use is this process's"] if others else []

    # -- coming --------------------------------------------------------------------------------------------------------

    def start(self, now: Now, out: list[Instruction]) -> None:
        """Fill every place."""
        self.started_ns = now.mono_ns
        out.append(self.announce("pool_started", None, now, f"{len(self.places)} workers"))
        for text in (*self.recycling.not_for(self._specs), *self._without_limits()):
            out.append(self.announce("warning", None, now, text))
        for place in self.places:
            self.spawn(place, now, out)
        if not self.places:
            self.ready = True
            out.append(PoolReady(None))

    def spawn(self, place: Place, now: Now, out: list[Instruction]) -> None:
        """Make a worker for the place."""
        if not self.spares:
            # Fresh ids come with the next turn.
            self.timers.at(now.mono_ns, "respawn", place.number)
            return
        place.worker_id = self._make(place, now, out)

    def _make(self, place: Place, now: Now, out: list[Instruction], *, heir_of: str | None = None) -> str:
        """Make a worker of the place's kind, which is to take over from another one; return its id."""
        worker_id = self.spares.pop()
        worker = WorkerState(worker_id, place.spec, self.lane_of(place.spec), now.wall_us)
        worker.lasts = self.recycling.lifetime(place.spec)
        worker.allowed = self.recycling.allowance(place.spec)
        self.workers[worker_id] = worker
        self.timers.at(now.mono_ns + int(self.settings.start_timeout * 1e9), "start", worker_id)
        out.append(self.announce("started", worker, now))
        out.append(SpawnWorker(worker_id, place.spec, heir_of, tuple(self.defines.values())))
        return worker_id

    def recycle(self, now: Now, out: list[Instruction]) -> None:
        """Start the successors that are due."""
        self.recycling.news = False
        while not self.stopping and (place := self.recycling.next(now)) is not None:
            if not self.spares:
                self.timers.at(now.mono_ns, "recycle", place.number)
                return
            place.successor = self._make(place, now, out, heir_of=place.worker_id)
            self.workers[place.successor].allowed = 0

    def on_ready(self, worker: WorkerState, pid: int, now: Now, out: list[Instruction]) -> WorkerState | None:
        """The worker has said that it can take work; return the one that it takes over from, if any."""
        worker.pid = pid or worker.pid
        worker.was_ready = self._proven = True
        place = self.place_of(worker.worker_id)
        if place is not None:
            place.failures = 0
        for other in self.places:
            if other.given_up and other.failures <= self.settings.max_respawns:
                # It failed in the first start, when nothing had shown yet that workers can start at all.
                self._try_later(other, now)
        if worker.status is _STARTING:  # else it was sent home before it could tell
            out.append(self.announce("ready", worker, now, data={"pid": worker.pid}))
            self.turned(worker, _IDLE)
        self._first_start(now, out)
        heir = self._heir_of(worker.worker_id)
        if heir is None or not worker.able:
            return None
        old = self.workers.get(heir.worker_id or "")
        if old is not None and self.recycling.keeps_place(old):
            return None
        self._hand_over(heir)
        heir.failures = 0
        return old

    def replace(self, place: Place, now: Now, out: list[Instruction]) -> None:
        """Fill the place of a worker that is gone, or wants to go: with its successor if that is under way."""
        if place.successor is None:
            self.spawn(place, now, out)
        else:
            self._hand_over(place)

    def _hand_over(self, place: Place) -> None:
        place.worker_id, place.successor = place.successor, None
        place.not_before_ns = 0
        worker = self.workers.get(place.worker_id or "")
        if worker is not None:
            worker.allowed = self.recycling.allowance(worker.spec)
        self.recycling.news = True

    def served(self, worker: WorkerState) -> Place | None:
        """Return the place that a worn worker leaves now: it has ended its last attempt, or need not wait; None: it stays."""
        if self.stopping or not (worker.worn and self.recycling.strict and worker.able):
            return None
        place = self.place_of(worker.worker_id)
        if place is None or worker.worn == "tasks":
            return None if worker.assigned or worker.left > 0 else place
        successor = self.workers.get(place.successor or "")
        return place if successor is not None and successor.able else None

    def _first_start(self, now: Now, out: list[Instruction], error: str | None = None) -> None:
        if self.ready is not None:
            return
        if error is not None:
            self.ready = False
            out.append(PoolReady(error))
        elif all(place.worker_id is not None and self._is_ready(place.worker_id) for place in self.places):
            self.ready = True
            out.append(PoolReady(None))

    def _is_ready(self, worker_id: str) -> bool:
        worker = self.workers.get(worker_id)
        return worker is not None and worker.was_ready

    def on_start_timeout(self, worker: WorkerState, out: list[Instruction]) -> None:
        """It has not become ready in time."""
        if worker.status is _STARTING and not worker.doom:
            worker.start_error = (
                f"not ready within start_timeout ({self.settings.start_timeout:g} s): its modules, initializer, resources or"
                " worker_start hooks take longer"
            )
            worker.doom = "start"
            out.append(KillWorker(worker.worker_id, True))

    # -- going ---------------------------------------------------------------------------------------------------------

    def on_gone(
        self,
        worker: WorkerState,
        how: str,
        facts: dict[str, object],
        now: Now,
        out: list[Instruction],
        *,
        crashed: bool = False,
    ) -> None:
        """The worker is confirmed gone, `crashed` if a task was lost with it: forget it and see to its place."""
        worker_id = worker.worker_id
        del self.workers[worker_id]
        orderly = worker.status is _STOPPING and not (worker.doom or crashed)
        worker.status = WorkerStatus.STOPPED if orderly else WorkerStatus.FAILED
        out.append(self.announce("stopped" if orderly else "failed", worker, now, "" if orderly else how, facts))
        out.append(CloseWorker(worker_id, None if orderly else how))
        self.ended[worker_id] = None if orderly else how
        while len(self.ended) > _MOST_ENDED:
            oldest = next(iter(self.ended))
            del self.ended[oldest]
            self.restarted.pop(oldest, None)
        self.recycling.news = True
        text = worker.start_error or (f"{worker.fault}; {how}" if worker.fault else how)
        heir = self._heir_of(worker_id)
        if heir is not None:
            heir.successor = None
            if not self.stopping:
                said = self.recycling.not_yet(heir, text, now)
                out.append(self.announce("warning", self.workers.get(heir.worker_id or ""), now, said))
            return
        place = self.place_of(worker_id)
        if place is None:
            return
        place.worker_id = None
        if self.stopping:
            return
        if self.abandoned > _MOST_ABANDONED and place.successor is None:
            place.given_up = True
            message = f"not replaced: {self.abandoned} threads that could not be ended run on already"
            out.append(self.announce("warning", None, now, message, {"place": place.number}))
            return
        if worker.was_ready or worker.doom == "kill":
            self.replace(place, now, out)
            out.append(self.announce("replaced", worker, now, f"by {place.worker_id}", {"by": place.worker_id}))
            return
        place.failures += 1
        self._first_start(now, out, text)
        if not self._proven:
            place.given_up = True
        elif place.failures > self.settings.max_respawns:
            place.given_up = True
            message = f"given up after {place.failures} failures to become ready: {text}"
            out.append(self.announce("warning", None, now, message, {"place": place.number}))
        else:
            self._try_later(place, now)

    def _try_later(self, place: Place, now: Now) -> None:
        place.given_up = False
        self.timers.at(now.mono_ns + int(backoff(place.failures) * 1e9), "respawn", place.number)

    def on_respawn(self, number: int, now: Now, out: list[Instruction]) -> None:
        """The delay before another try is over."""
        place = next((place for place in self.places if place.number == number), None)
        if place is not None and place.worker_id is None and not self.stopping and not place.given_up:
            self.spawn(place, now, out)

    def hopeless(self) -> str | None:
        """Return why no worker will ever come, or None."""
        if self.stopping or not self.places or not all(place.given_up for place in self.places):
            return None
        if self.abandoned > _MOST_ABANDONED:
            return (
                f"no worker is left: {self.abandoned} threads could not be ended and run on, and no more are replaced;"
                ' run what may not end in time with isolation="process"'
            )
        return "no worker could be started; see the pool's events for their error text"

    # -- size ----------------------------------------------------------------------------------------------------------

    def scale(self, count: int, now: Now, out: list[Instruction]) -> tuple[int, list[WorkerState]]:
        """Want `count` workers of the first kind; return the number after clamping and those that should leave."""
        before = self._of_first_kind()
        leaving: list[WorkerState] = []
        clamped = self.resize(count)
        self.recycling.news = True
        mine = self._of_first_kind()
        for place in before:
            if place not in mine:
                both = (place.worker_id, place.successor)
                leaving += [self.workers[key] for key in both if key is not None and key in self.workers]
        for place in mine:
            if place.given_up:
                # Asked for anew: worth another try.
                place.given_up, place.failures = False, 0
                self.spawn(place, now, out)
            elif place not in before:
                self.spawn(place, now, out)
        said = f"{len(before)} -> {clamped}" + (f" (asked for {count})" if clamped != count else "")
        out.append(self.announce("pool_scaled", None, now, said, {"count": clamped, "asked": count}))
        return clamped, leaving

    def resize(self, count: int) -> int:
        """Have `count` places of the first kind, less the idle ones first; return the number after clamping."""
        if not self._specs:
            return 0
        spec = self._specs[0]
        clamped = self.clamp(count)
        mine = self._of_first_kind()
        mine.sort(key=self._weight)
        for place in mine[: max(0, len(mine) - clamped)]:
            self.places.remove(place)
        for _ in range(clamped - len(mine)):
            self.places.append(Place(self._numbered, spec))
            self._numbered += 1
        return clamped

    def clamp(self, count: int) -> int:
        """Return the number of workers that a wish for so many comes to."""
        if not self._specs:
            return 0
        # An inline worker is every caller's thread: there is one.
        return 1 if self._specs[0].isolation == "inline" else max(1, min(_MOST, count))

    def _of_first_kind(self) -> list[Place]:
        return [place for place in self.places if self._specs and place.spec == self._specs[0]]

    def _weight(self, place: Place) -> tuple[bool, int]:
        worker = self.workers.get(place.worker_id or "")
        return (worker is not None and worker.status is _BUSY, 0 if worker is None else len(worker.assigned))

    def place_of(self, worker_id: str) -> Place | None:
        """Return the place that this worker fills, or None."""
        for place in self.places:
            if place.worker_id == worker_id:
                return place
        return None

    def _heir_of(self, worker_id: str) -> Place | None:
        """Return the place that this worker is to take over, or None."""
        for place in self.places:
            if place.successor == worker_id:
                return place
        return None

    # -- looking -------------------------------------------------------------------------------------------------------

    def serving(self, lane: Lane) -> Iterator[WorkerState]:
        """Yield the workers of the lane that may be given work."""
        for worker in self.workers.values():
            if worker.lane is lane and worker.able:
                yield worker

    def open_to(self, lane: Lane) -> list[WorkerState]:
        """Return the workers of the lane that may be given work now: nothing is being taken back from them."""
        found: list[WorkerState] = []
        for worker in self.workers.values():
            status = worker.status
            if (
                (status is _IDLE or status is _BUSY)
                and worker.lane is lane
                and not (worker.doom or worker.broken or worker.owes or worker.taking)
                and worker.allowed > worker.ended + len(worker.assigned)
            ):
                found.append(worker)
        return found

    def turned(self, worker: WorkerState, status: WorkerStatus) -> None:
        """The worker is busy or idle from now on; `tell_turned` says so at the end of the step."""
        worker.status = status
        self._turned.append(worker)

    def tell_turned(self, now: Now, out: list[Instruction]) -> None:
        """Show which workers have become busy or idle and are so still."""
        turned = self._turned
        if not turned:
            return
        for worker in turned:
            status = worker.status
            if status is not worker.told and (status is _BUSY or status is _IDLE):
                worker.told = status
                out.append(ShowTurned(worker.worker_id, status, now.wall_us))
        turned.clear()

    def announce(
        self, kind: str, worker: WorkerState | None, now: Now, message: str = "", data: dict[str, object] | None = None
    ) -> Announce:
        """Return the instruction that shows this on the pool's stream."""
        worker_id = None if worker is None else worker.worker_id
        return Announce(WorkerEvent(kind, worker_id, utc_from_us(now.wall_us), message, data or {}))

    def infos(self) -> list[WorkerInfo]:
        """Describe every worker."""
        return [
            WorkerInfo(
                worker_id=worker.worker_id,
                isolation=worker.spec.isolation,
                pid=worker.pid,
                status=worker.status,
                task_ids=tuple(claim.envelope.task_id for claim in list(worker.assigned.values())),
                started_at=utc_from_us(worker.started_us),
                last_heartbeat=None if worker.beat_us is None else utc_from_us(worker.beat_us),
                completed=worker.completed,
                failed=worker.failed,
                cpu_percent=worker.cpu_percent,
                memory_bytes=worker.used_memory,
                running=tuple(
                    RunningTask(
                        claim.envelope.task_id,
                        claim.envelope.name,
                        max(1, claim.attempt),
                        claim.progress,
                        None if claim.started_us is None else utc_from_us(claim.started_us),
                    )
                    for claim in list(worker.assigned.values())[: worker.spec.concurrency]
                ),
                disk_bytes=None if worker.usage is None else worker.usage.disk_bytes,
                limits=self.limits_of(worker.spec),
            )
            for worker in list(self.workers.values())
        ]

    def status(self, now_ns: int, pending: int, paused: str | None = None) -> PoolStatus:
        """Describe the pool."""
        workers = list(self.workers.values())
        count = {status: sum(worker.status is status for worker in workers) for status in WorkerStatus}
        memory = [used for worker in workers if (used := worker.used_memory) is not None]
        disk = [worker.usage.disk_bytes for worker in workers if worker.usage is not None]
        percent = [worker.cpu_percent for worker in workers if worker.cpu_percent is not None]
        return PoolStatus(
            running=not self.stopping,
            active=count[_IDLE] + count[_BUSY],
            workers=len(workers),
            idle=count[_IDLE],
            busy=count[_BUSY],
            starting=count[_STARTING],
            stopping=count[_STOPPING],
            pending=pending,
            running_tasks=sum(min(len(worker.assigned), worker.spec.concurrency) for worker in workers),
            cpu_percent=sum(percent) if percent else None,
            memory_bytes=sum(memory) if memory else None,
            uptime=(now_ns - self.started_ns) / 1e9,
            disk_bytes=sum(disk) if disk else None,
            paused=paused,
        )
