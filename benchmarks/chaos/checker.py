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
    #: Executions that overlapped because one was frozen for longer than its lease, which is allowed.
    frozen: int

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


def check(evidence: Evidence) -> Verdict:
    """Put every promise to the test."""
    frozen: list[Execution] = []
    promises = [rule(evidence) for rule in _RULES]
    promises.insert(_OVERLAP_AT, _overlapping(evidence, frozen))
    return Verdict(
        tuple(promises),
        dict(Counter(row["kind"] for row in evidence.faults())),
        tuple(_recoveries(evidence)),
        len(evidence.records),
        len(frozen),
    )


# -- promises ----------------------------------------------------------------------------------------------------------


def _acknowledged(evidence: Evidence) -> Promise:
    ids = [row["id"] for row in evidence.pushed if row["what"] == "pushed"]
    return Promise("acknowledged but lost", tuple(i for i in ids if i not in evidence.records), len(ids), True)


def _tried(evidence: Evidence) -> Promise:
    never = [
        task_id
        for task_id, record in evidence.records.items()
        if not record.status.terminal and task_id not in evidence.executions
    ]
    return Promise("in store but never tried", tuple(never), len(evidence.records))


def _finished(evidence: Evidence) -> Promise:
    open_ones = [f"{i} {r.status}" for i, r in evidence.records.items() if not r.status.terminal]
    return Promise("tried but without an end", tuple(open_ones), len(evidence.records))


def _one_end(evidence: Evidence) -> Promise:
    broken = []
    for task_id, events in evidence.events.items():
        ends = [event for event in events if isinstance(event, StatusEvent) and event.status.terminal]
        if len(ends) != 1 or ends[0] is not events[-1] or ends[0].status != evidence.records[task_id].status:
            broken.append(f"{task_id}: {[str(end.status) for end in ends]}, record {evidence.records[task_id].status}")
    return Promise("terminal events != 1", tuple(broken), len(evidence.events))


def _contiguous(evidence: Evidence) -> Promise:
    broken = [
        f"{task_id}: {[event.seq for event in events]}"
        for task_id, events in evidence.events.items()
        if [event.seq for event in events] != list(range(1, len(events) + 1))
    ]
    return Promise("seq gaps", tuple(broken), sum(len(events) for events in evidence.events.values()))


def _unchanged(evidence: Evidence) -> Promise:
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


def _complete(evidence: Evidence) -> Promise:
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


def _cancelled(evidence: Evidence) -> Promise:
    """After its end as cancelled a task never starts; after an acknowledged cancel no claim but the one that was held does."""
    broken, trials = [], 0
    asked = {row["id"]: row["at"] for row in evidence.pushed if row["what"] == "cancelled" and row["said"]}
    for task_id, record in evidence.records.items():
        runs = evidence.executions.get(task_id, [])
        if record.status is TaskStatus.CANCELLED:
            trials += 1
            end = evidence.events[task_id][-1].time.timestamp() * 1e6 if evidence.events[task_id] else 0
            broken += [f"{task_id} began at {run.begun}, ended at {end:.0f}" for run in runs if run.begun > end]
        if task_id in asked:
            after = {run.fence for run in runs if run.begun > asked[task_id]}
            if len(after) > 1:
                broken.append(f"{task_id} began under {sorted(after)} after its cancel was acknowledged")
    return Promise("cancelled, then started", tuple(broken), trials)


def _fences(evidence: Evidence) -> Promise:
    """A later start has a greater fence, or the same claim's."""
    broken, trials = [], 0
    for task_id, runs in evidence.executions.items():
        for one, other in pairwise(runs):
            trials += 1
            if other.fence < one.fence or (other.fence == one.fence and other.service != one.service):
                broken.append(f"{task_id}: {other.fence} after {one.fence}")
    return Promise("fence that does not grow", tuple(broken), trials)


def _zombies(evidence: Evidence) -> Promise:
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


def _blamed(evidence: Evidence) -> Promise:
    """A crash counts only for a task whose worker was killed, and not together with its service."""
    killed = {pid for row in evidence.faults() if row["kind"] == "kill worker" for pid in row["killed"]}
    broken = []
    for task_id, record in evidence.records.items():
        hit = sum(run.pid in killed for run in evidence.executions.get(task_id, []))
        if record.crashes > hit:
            broken.append(f"{task_id}: {record.crashes} crashes, {hit} of its workers were killed")
    return Promise("WorkerCrashed where only services were killed", tuple(broken), len(evidence.records))


def _tidy(evidence: Evidence) -> Promise:
    left = [name for row in evidence.driver if row["what"] == "left" for name in row["processes"]]
    hung = [f"{row['name']} did not stop" for row in evidence.driver if row["what"] == "hung"]
    return Promise("processes, files left; stops that hung", (*left, *hung, *evidence.litter), len(evidence.faults()))


_RULES: tuple[Callable[[Evidence], Promise], ...] = (
    _acknowledged,
    _tried,
    _finished,
    _one_end,
    _contiguous,
    _unchanged,
    _complete,
    _cancelled,
    _fences,
    _zombies,
    _blamed,
    _tidy,
)
_OVERLAP_AT = 8


def _overlapping(evidence: Evidence, frozen: list[Execution]) -> Promise:
    """No execution gives a sign of life after a later one has begun, unless it stood still for longer than its lease."""
    stopped = [(r["pid"], r["name"], r["at"]) for r in evidence.faults() if r.get("seconds", 0.0) > LEASE]
    broken, trials = [], 0
    for runs in evidence.executions.values():
        for at, run in enumerate(runs):
            for later in runs[at + 1 :]:
                trials += 1
                if run.last <= later.begun:
                    continue
                if any((pid == run.pid or name == run.service) and when < run.last for pid, name, when in stopped):
                    frozen.append(run)
                else:
                    broken.append(f"{run.task_id}: {run.fence} by {run.pid} lived when {later.fence} began")
    return Promise("overlapping executions", tuple(broken), trials)


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
