"""Says whether a run kept its promises. Reads the files of the run and the store, and nothing else."""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs

from benchmarks.chaos.lines import read_lines
from benchmarks.chaos.service import LEASE, STORE
from benchmarks.figures import percentile
from rxtasks.lifecycle.events import ProgressEvent, StatusEvent, TaskEvent
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.lifecycle.task import TaskRecord
from rxtasks.stores.sqlite.store import SqliteStore

__all__ = ["Evidence", "Promise", "Verdict", "check", "read_evidence"]

_PAGE = 500
#: How far tokens jump at each registration of a service: one that was claimed before it is told by its millions.
_JUMP = 1_000_000
#: Of a promise, so many of what broke it are shown.
_SHOWN = 5


@attrs.frozen
class Promise:
    """A promise, and what was found against it; it is kept when that is nothing."""

    name: str
    broken: tuple[str, ...]
    #: How often it was put to the test.
    trials: int
    #: It says nothing unless it was put to the test.
    needs_trials: bool = False

    @property
    def kept(self) -> bool:
        """Whether it was kept."""
        return not self.broken and (self.trials > 0 or not self.needs_trials)

    @property
    def bound(self) -> float | None:
        """With nothing found in n trials, the rate that is exceeded with a chance of 5 % only: 3/n."""
        return 3 / self.trials if self.trials and not self.broken else None


@attrs.frozen
class Verdict:
    """What came of a run."""

    promises: tuple[Promise, ...]
    faults: dict[str, int]
    #: Seconds from the end of a task's worker or service to its next start.
    recoveries: tuple[float, ...]
    tasks: int
    #: Executions that began, or lived on, when others had their task, because their service was frozen for longer than its
    #: lease: allowed, and what ctx.fence is for.
    frozen: int
    #: Processes that the kernel has ended for want of memory.
    starved: int

    @property
    def kept(self) -> bool:
        """Whether all promises were kept."""
        return all(promise.kept for promise in self.promises)

    def recovery(self, percent: float) -> float | None:
        """Return a percentile of the recovery times."""
        return percentile(self.recoveries, percent) if self.recoveries else None


@attrs.frozen
class Execution:
    """A handler's run, by its lines."""

    task_id: str
    service: str
    pid: int
    fence: int
    begun: int
    last: int
    ended: bool


@attrs.frozen
class Evidence:
    """What the files and the store say."""

    driver: list[dict[str, Any]]
    pushed: list[dict[str, Any]]
    services: list[dict[str, Any]]
    #: By file: rows of events that were seen.
    seen: dict[str, list[dict[str, Any]]]
    #: By task, in the order in which they began.
    executions: dict[str, list[Execution]]
    records: dict[str, TaskRecord]
    events: dict[str, list[TaskEvent]]
    #: Files that should not be there any more.
    litter: list[str]

    def faults(self) -> list[dict[str, Any]]:
        """Return the faults that were done."""
        return [row for row in self.driver if row["what"] == "fault"]


def read_evidence(folder: Path) -> Evidence:
    """Read it, from a copy of the store: looking must not change what is looked at."""
    litter = [str(path.relative_to(folder)) for path in sorted((folder / "tmp").rglob("*"))]
    litter += [str(path.relative_to(folder)) for path in sorted((folder / STORE).parent.rglob("*.lock"))]
    copy = folder / "copy"
    shutil.copytree((folder / STORE).parent, copy)
    records: dict[str, TaskRecord] = {}
    events: dict[str, list[TaskEvent]] = {}
    store = SqliteStore(str(copy / Path(STORE).name))
    try:
        after: str | None = None
        while page := store.list(limit=_PAGE, after=after):
            for record in page:
                records[record.task_id] = record
                events[record.task_id] = _events(store, record.task_id)
            after = page[-1].task_id
    finally:
        store.release()
    return Evidence(
        driver=read_lines(folder / "driver.jsonl"),
        pushed=read_lines(*sorted(folder.glob("pushed-*.jsonl"))),
        services=read_lines(*sorted(folder.glob("service-*.jsonl"))),
        seen={path.stem: read_lines(path) for path in sorted(folder.glob("seen-*.jsonl"))},
        executions=_executions(folder),
        records=records,
        events=events,
        litter=litter,
    )


def _events(store: SqliteStore, task_id: str) -> list[TaskEvent]:
    found: list[TaskEvent] = []
    while page := store.events(task_id, found[-1].seq + 1 if found else 1):
        found += page
    return found


def _executions(folder: Path) -> dict[str, list[Execution]]:
    made: dict[tuple[str, str, int, int, int], list[dict[str, Any]]] = defaultdict(list)
    for path in sorted(folder.glob("handlers-*.jsonl")):
        service = path.stem.removeprefix("handlers-")
        for row in read_lines(path):
            made[row["id"], service, row["pid"], row["fence"], row["attempt"]].append(row)
    found: dict[str, list[Execution]] = defaultdict(list)
    for (task_id, service, pid, fence, _), rows in made.items():
        ended = any(row["what"] == "end" for row in rows)
        begun, last = min(row["at"] for row in rows), max(row["at"] for row in rows)
        found[task_id].append(Execution(task_id, service, pid, fence, begun, last, ended))
    for executions in found.values():
        executions.sort(key=lambda execution: execution.begun)
    return found


@attrs.frozen
class _Freeze:
    """A service, or one of its workers, stood still for longer than its lease."""

    service: str
    begun: int
    #: The greatest fence of the executions that had begun when it ended.
    fence: int


class _Frozen:
    """Which executions belong to a service that had been frozen for longer than its lease when they were last seen."""

    def __init__(self, evidence: Evidence) -> None:
        begun = sorted((run.begun, run.fence) for runs in evidence.executions.values() for run in runs)
        self._freezes = []
        for row in evidence.faults():
            if row.get("seconds", 0.0) > LEASE:
                end = row["at"] + row["seconds"] * 1e6
                fence = max((fence for at, fence in begun if at <= end), default=0)
                self._freezes.append(_Freeze(row["name"], row["at"], fence))
        self.found: set[Execution] = set()

    def excuses(self, run: Execution) -> bool:
        """Say whether it lived when its service had been frozen, under a claim from before: that is no claim any more.

        What the service claims when it has been continued has a token behind the jump of its new registration.
        """
        for freeze in self._freezes:
            early = run.fence // _JUMP <= freeze.fence // _JUMP
            if freeze.service == run.service and freeze.begun < run.last and early:
                self.found.add(run)
                return True
        return False


def check(evidence: Evidence) -> Verdict:
    """Put every promise to the test."""
    frozen = _Frozen(evidence)
    promises = tuple(rule(evidence, frozen) for rule in _RULES)
    return Verdict(
        promises,
        dict(Counter(row["kind"] for row in evidence.faults())),
        tuple(_recoveries(evidence)),
        len(evidence.records),
        len(frozen.found),
        sum(row["killed"] for row in evidence.driver if row["what"] == "starved"),
    )


# -- promises ----------------------------------------------------------------------------------------------------------


def _acknowledged(evidence: Evidence, _: _Frozen) -> Promise:
    ids = [row["id"] for row in evidence.pushed if row["what"] == "pushed"]
    return Promise("acknowledged but lost", tuple(i for i in ids if i not in evidence.records), len(ids), True)


def _tried(evidence: Evidence, _: _Frozen) -> Promise:
    never = [
        task_id
        for task_id, record in evidence.records.items()
        if not record.status.terminal and task_id not in evidence.executions
    ]
    return Promise("in store but never tried", tuple(never), len(evidence.records))


def _finished(evidence: Evidence, _: _Frozen) -> Promise:
    open_ones = [f"{i} {r.status}" for i, r in evidence.records.items() if not r.status.terminal]
    return Promise("tried but without an end", tuple(open_ones), len(evidence.records))


def _one_end(evidence: Evidence, _: _Frozen) -> Promise:
    broken = []
    for task_id, events in evidence.events.items():
        ends = [event for event in events if isinstance(event, StatusEvent) and event.status.terminal]
        if len(ends) != 1 or ends[0] is not events[-1] or ends[0].status != evidence.records[task_id].status:
            broken.append(f"{task_id}: {[str(end.status) for end in ends]}, record {evidence.records[task_id].status}")
    return Promise("terminal events != 1", tuple(broken), len(evidence.events))


def _contiguous(evidence: Evidence, _: _Frozen) -> Promise:
    broken = [
        f"{task_id}: {[event.seq for event in events]}"
        for task_id, events in evidence.events.items()
        if [event.seq for event in events] != list(range(1, len(events) + 1))
    ]
    return Promise("seq gaps", tuple(broken), sum(len(events) for events in evidence.events.values()))


def _unchanged(evidence: Evidence, _: _Frozen) -> Promise:
    stored = {(event.task_id, event.seq): event for events in evidence.events.values() for event in events}
    broken, trials = [], 0
    for name, rows in evidence.seen.items():
        for row in rows:
            if "event" not in row:
                continue
            trials += 1
            known = stored.get((row["id"], row["seq"]))
            if known is None or TaskEvent.from_json(row["event"]) != known:
                broken.append(f"{name} saw {row['id']} {row['seq']}: {'changed' if known else 'lost'}")
    return Promise("observed, then lost or changed", tuple(broken), trials, True)


def _complete(evidence: Evidence, _: _Frozen) -> Promise:
    """Each observer that lived to the end saw every event of each task that it saw at all; progress may be conflated."""
    broken, trials = [], 0
    for name, rows in evidence.seen.items():
        if not name.startswith("seen-observer-"):
            continue
        seqs: dict[str, list[int]] = defaultdict(list)
        for row in rows:
            if "event" in row:
                seqs[row["id"]].append(row["seq"])
        alive = _lived(evidence, int(name.rpartition("-")[2]))
        for task_id, found in seqs.items():
            trials += 1
            events = evidence.events.get(task_id, [])
            wanted = [e.seq for e in events if not isinstance(e, ProgressEvent) and (alive or e.seq <= found[-1])]
            told = [e.seq for e in events if e.seq in set(found)]
            if found != told or not set(wanted) <= set(found):
                broken.append(f"{name} saw of {task_id}: {found}, not {wanted}")
    return Promise("observer's gaps, repeats, ends missed", tuple(broken), trials, True)


def _lived(evidence: Evidence, pid: int) -> bool:
    return not any(pid in row.get("killed", ()) for row in evidence.faults())


def _cancelled(evidence: Evidence, frozen: _Frozen) -> Promise:
    """When anybody has seen its end as cancelled, a task never starts; nor, after an acknowledged cancel, under a new claim."""
    broken, trials = [], 0
    asked = {row["id"]: row["at"] for row in evidence.pushed if row["what"] == "cancelled" and row["said"]}
    ended = _ends_seen(evidence)
    for task_id, record in evidence.records.items():
        runs = evidence.executions.get(task_id, [])
        if record.status is TaskStatus.CANCELLED and task_id in ended:
            trials += 1
            late = [run for run in runs if run.begun > ended[task_id] and not frozen.excuses(run)]
            broken += [f"{task_id} began at {run.begun}, ended before {ended[task_id]}" for run in late]
        if task_id in asked:
            after = {run.fence for run in runs if run.begun > asked[task_id] and not frozen.excuses(run)}
            if len(after) > 1:
                broken.append(f"{task_id} began under {sorted(after)} after its cancel was acknowledged")
    return Promise("cancelled, then started", tuple(broken), trials)


def _ends_seen(evidence: Evidence) -> dict[str, int]:
    """Return when the last event of each task that has ended was first seen: it had ended before."""
    last = {task_id: events[-1].seq for task_id, events in evidence.events.items() if events}
    found: dict[str, int] = {}
    for rows in evidence.seen.values():
        for row in rows:
            if "event" in row and row["seq"] == last.get(row["id"]):
                found[row["id"]] = min(row["at"], found.get(row["id"], row["at"]))
    return found


def _fences(evidence: Evidence, frozen: _Frozen) -> Promise:
    """A later start has a greater fence, or the same claim's."""
    broken, trials = [], 0
    for task_id, runs in evidence.executions.items():
        for one, other in pairwise(runs):
            trials += 1
            wrong = other.fence < one.fence or (other.fence == one.fence and other.service != one.service)
            if wrong and not (other.fence < one.fence and frozen.excuses(other)):
                broken.append(f"{task_id}: {other.fence} after {one.fence}")
    return Promise("fence that does not grow", tuple(broken), trials)


def _zombies(evidence: Evidence, _: _Frozen) -> Promise:
    """A result that counts is that of the last claim; a zombie's was refused."""
    broken = []
    for task_id, record in evidence.records.items():
        if record.status is TaskStatus.SUCCEEDED:
            later = [run.fence for run in evidence.executions.get(task_id, []) if run.fence > record.result[1]]
            if later:
                broken.append(f"{task_id}: the result of {record.result[1]} counts, it ran under {later} too")
    tried = [row for row in evidence.services if row["what"] == "refused"]
    beyond = any("beyond" in row["kind"] for row in evidence.faults())
    return Promise("zombie writes accepted", tuple(broken), len(tried), beyond)


def _blamed(evidence: Evidence, _: _Frozen) -> Promise:
    """A crash counts only for a task whose worker was killed, and not together with its service."""
    kinds = ("kill worker", "out of memory")
    killed = {pid for row in evidence.faults() if row["kind"] in kinds for pid in row["killed"]}
    broken = []
    for task_id, record in evidence.records.items():
        hit = sum(run.pid in killed for run in evidence.executions.get(task_id, []))
        if record.crashes > hit:
            broken.append(f"{task_id}: {record.crashes} crashes, {hit} of its workers were killed")
    return Promise("WorkerCrashed where only services were killed", tuple(broken), len(evidence.records))


def _tidy(evidence: Evidence, _: _Frozen) -> Promise:
    left = [name for row in evidence.driver if row["what"] == "left" for name in row["processes"]]
    hung = [f"{row['name']} did not stop" for row in evidence.driver if row["what"] == "hung"]
    return Promise("processes, files left; stops that hung", (*left, *hung, *evidence.litter), len(evidence.faults()))


def _closed(evidence: Evidence, _: _Frozen) -> Promise:
    """Whoever was stopped in peace has no more open than before it was made."""
    seen = [row for rows in evidence.seen.values() for row in rows]
    stops = [row for row in (*evidence.services, *evidence.pushed, *seen) if row.get("what") == "stopped"]
    left = [f"{row.get('pid', '')} {name}" for row in stops for name in row["open"]]
    return Promise("descriptors left", tuple(left), len(stops))


def _overlapping(evidence: Evidence, frozen: _Frozen) -> Promise:
    """No execution gives a sign of life after a later one has begun, unless it stood still for longer than its lease."""
    broken, trials = [], 0
    for runs in evidence.executions.values():
        for at, run in enumerate(runs):
            for later in runs[at + 1 :]:
                trials += 1
                if run.last > later.begun and not (frozen.excuses(run) or frozen.excuses(later)):
                    broken.append(f"{run.task_id}: {run.fence} by {run.pid} lived when {later.fence} began")
    return Promise("overlapping executions", tuple(broken), trials)


_RULES: tuple[Callable[[Evidence, _Frozen], Promise], ...] = (
    _acknowledged,
    _tried,
    _finished,
    _one_end,
    _contiguous,
    _unchanged,
    _complete,
    _cancelled,
    _overlapping,
    _fences,
    _zombies,
    _blamed,
    _tidy,
    _closed,
)


def _recoveries(evidence: Evidence) -> list[float]:
    killed = [(row["at"], set(row["killed"])) for row in evidence.faults() if row.get("killed")]
    services = {row["pid"]: row["name"] for row in evidence.faults() if row["kind"].startswith("kill service")}
    found = []
    for runs in evidence.executions.values():
        for run, later in pairwise(runs):
            if run.ended:
                continue
            for at, pids in killed:
                hit = run.pid in pids or any(services.get(pid) == run.service for pid in pids)
                if hit and run.begun <= at <= later.begun:
                    found.append((later.begun - at) / 1e6)
                    break
    return found


def shown(promise: Promise) -> list[str]:
    """Return the first things that broke a promise."""
    return list(promise.broken[:_SHOWN])
