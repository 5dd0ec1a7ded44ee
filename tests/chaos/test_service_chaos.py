"""Services, their workers and a pusher are killed at random while tasks are pushed: what the guarantees say still holds.

The checker reads what the processes left behind: the pusher's own file of what was acknowledged, the journal of the handlers,
and the store.
"""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from rxtasks import StatusEvent, TaskEvent
from rxtasks.stores.sqlite.connection import Database
from tests.chaos import durable
from tests.chaos.durable import Journal, Other, below, here, look
from tests.chaos.support import LONG, Script, Witness, kill

#: Pushes, at most twenty tasks ahead of the results, until it is killed or told to stop; writes down each id that was
#: acknowledged.
PUSHER = """
import os, select, sys
from collections import deque
from rxtasks import TaskService
from rxtasks.stores.sqlite.connection import Database
from tests.chaos import durable
fd = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
service = TaskService(0, store=sys.argv[1], echo=None)
pushing = service.with_options(max_crashes=1000)
print("up", flush=True)
ahead = deque()
while not select.select([sys.stdin], [], [], 0)[0]:
    ahead.append(pushing.submit(durable.noted, sys.argv[3], 0.02))
    os.write(fd, ahead[-1].task_id.encode() + b"\\n")
    if len(ahead) > 20:
        assert ahead.popleft().result(60) >= 1
service.stop()
print("stopped", flush=True)
"""


class Scene:
    """Two services, a pusher, and what can happen to them.

    Who is killed is known to be dead by its lock: only where a service stands still is a short lease wanted.
    """

    def __init__(self, folder: Path, seed: int, lease: float = 15.0) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        self.journal = Journal(folder)
        self.acknowledged = folder / "acknowledged"
        self.settings = {"workers": 2, "lease": lease, "lease_renewal": 0.3, "max_interruptions": 1000}
        self.services = [self._service(), self._service()]
        self.pusher = self._pusher()
        self.faults: Counter[str] = Counter()

    def _service(self) -> Other:
        return Other(self.folder, **self.settings)

    def _pusher(self) -> Script:
        script = Script(PUSHER, durable.url(self.folder), str(self.acknowledged), self.journal.path)
        assert "up" == script.line()
        return script

    def progress(self, count: int = 10) -> None:
        """Wait until so many more lines stand in the journal."""
        before = sum(1 for _ in self.journal.lines())
        deadline = time.monotonic() + LONG
        while sum(1 for _ in self.journal.lines()) < before + count:
            assert time.monotonic() < deadline, "nothing goes on"

    def fault(self) -> None:
        acts: list[Callable[[], None]] = [self.service, self.workers, self.tree, self.push]
        act = self.random.choice(acts)
        self.faults[act.__name__] += 1
        act()

    def service(self) -> None:
        """Kill a service and start another one."""
        at = self.random.randrange(2)
        kill(self.services[at].process.pid)
        self._replace(at)

    def tree(self) -> None:
        """Kill a service and everything below it."""
        at = self.random.randrange(2)
        for pid in (self.services[at].process.pid, *below(self.services[at].process.pid)):
            kill(pid)
        self._replace(at)

    def workers(self) -> None:
        """Kill what a service has started, its fork server included."""
        for pid in below(self.services[self.random.randrange(2)].process.pid):
            kill(pid)

    def push(self) -> None:
        """Kill the pusher and start another one."""
        self.pusher.__exit__()
        self.pusher = self._pusher()

    def _replace(self, at: int) -> None:
        self.services[at].__exit__()
        self.services[at] = self._service()

    def close(self) -> None:
        for script in (*self.services, self.pusher):
            script.__exit__()


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_acknowledged_is_lost_and_nothing_completes_twice(tmp_path: Path, seed: int) -> None:
    """Q-02 Q-03 Q-04 Q-05: kill -9 of a service, its workers, both, and the pusher, at random moments, many times."""
    with here(tmp_path, 0, lease=60.0, lease_renewal=5.0) as watcher:
        witness = Witness(watcher)
        watcher.start()
        scene = Scene(tmp_path, seed)
        try:
            for _ in range(8):
                scene.progress(scene.random.randrange(30))
                scene.fault()
            scene.pusher.tell("stop")
            assert "stopped" == scene.pusher.line()
            acknowledged = scene.acknowledged.read_text().split()
            stored = [row[0] for row in look(tmp_path, "select id from tasks")]
            for task_id in stored:
                assert watcher.track(task_id).result(LONG) >= 1
        finally:
            scene.close()
        assert watcher.flush(LONG)
        logs = {task_id: whole_log(watcher, task_id) for task_id in stored}
        # Who was there before the first of them has seen each whole, in order and once.
        for task_id in stored:
            assert lasting(logs[task_id]) == lasting(witness.of(task_id))
        witness.close()
    print(f"seed {seed}: {len(stored)} tasks, faults {dict(scene.faults)}")
    assert set(acknowledged) <= set(stored)
    check_logs(logs)
    overlapping = overlaps(scene.journal)
    assert not overlapping, f"executed twice at once: {overlapping}"
    begun = {task_id for what, task_id, _, _ in scene.journal.lines() if what == "begin"}
    assert set(stored) == begun


def lasting(events: list[TaskEvent]) -> list[TaskEvent]:
    """Return the events without progress, of which one who lags sees the latest only."""
    return [event for event in events if event.kind != "progress"]


def whole_log(watcher: object, task_id: str) -> list[TaskEvent]:
    from rxtasks import iterate

    return list(iterate(watcher.track(task_id)))  # type: ignore[attr-defined]


def check_logs(logs: dict[str, list[TaskEvent]]) -> None:
    """Assert that each log is whole and ends once, and that each attempt in it has its end."""
    for task_id, events in logs.items():
        assert list(range(1, len(events) + 1)) == [event.seq for event in events], task_id
        ends = [event for event in events if isinstance(event, StatusEvent) and event.status.terminal]
        assert [events[-1]] == ends and "succeeded" == ends[0].status, task_id


def overlaps(journal: Journal) -> list[str]:
    """Return the tasks of which an attempt ended after a later one had begun."""
    latest: dict[str, int] = {}
    found: list[str] = []
    for what, task_id, _, pid in journal.lines():
        if what == "begin":
            latest[task_id] = pid
        elif latest[task_id] != pid:
            found.append(task_id)
    return found


def test_services_that_stand_still_lose_no_task_and_complete_none_twice(tmp_path: Path) -> None:
    """Q-02 Q-03: SIGSTOP of one of two services for longer than its lease, with and without its workers, again and again."""
    scene = Scene(tmp_path, 3, lease=3.0)
    try:
        for number in range(4):
            scene.progress()
            victim = scene.services[number % 2].process.pid
            tree = [victim, *(below(victim) if number >= 2 else [])]
            ((lease,),) = look(tmp_path, "select number from services where pid = ?", victim)
            for pid in tree:
                kill(pid, signal.SIGSTOP)
            # Standing still within a transaction it holds the file's lock, and nobody can take it for dead until it goes on.
            freed = not locked(tmp_path)
            if freed:
                durable.wait_until(
                    lambda lease=lease: not look(tmp_path, "select 1 from services where number = ?", lease)
                )
            for pid in reversed(tree):
                kill(pid, signal.SIGCONT)
            if freed:
                durable.wait_until(lambda victim=victim: look(tmp_path, "select 1 from services where pid = ?", victim))
            scene.faults["frozen" if freed else "frozen with the lock"] += 1
        scene.pusher.tell("stop")
        assert "stopped" == scene.pusher.line()
        acknowledged = scene.acknowledged.read_text().split()
        with here(tmp_path, 0) as watcher:
            stored = [row[0] for row in look(tmp_path, "select id from tasks")]
            for task_id in stored:
                assert watcher.track(task_id).result(LONG) >= 1
            check_logs({task_id: whole_log(watcher, task_id) for task_id in stored})
    finally:
        scene.close()
    print(f"{len(stored)} tasks, faults {dict(scene.faults)}")
    assert set(acknowledged) <= set(stored)


def locked(folder: Path) -> bool:
    """Say whether somebody holds the write lock of the file."""
    database = Database(str(folder / "tasks.db"), {}, wait=0.5)
    try:
        database.db.execute("begin immediate")
        database.db.execute("rollback")
    except apsw.BusyError:
        return True
    finally:
        database.close()
    return False
