"""Tasks that relate to others, while the services that run them are killed."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from rxtasks import StatusEvent, TaskEvent, TaskOptions, TaskRequest
from tests.chaos import durable
from tests.chaos.durable import Other, here, look
from tests.chaos.support import LONG, kill

LINKS = 30


class Ends:
    """Counts the tasks that end."""

    def __init__(self) -> None:
        self.count = 0
        self._changed = threading.Condition()

    def take(self, event: TaskEvent) -> None:
        if isinstance(event, StatusEvent) and event.status.terminal:
            with self._changed:
                self.count += 1
                self._changed.notify_all()

    def wait(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.count >= count, LONG), self.count


@pytest.mark.slow
def test_nothing_that_waits_for_others_is_lost_or_begun_too_early(tmp_path: Path) -> None:
    """E-15 E-16 Q-02 Q-04: a chain, a fan-in, a lock and a schedule outlive services that are killed again and again.

    Each task begins when all that it depends on has ended, two with one lock never run at once, and all complete.
    """
    journal = tmp_path / "journal"

    def request(name: str, *depends_on: str, lock: str | None = None) -> TaskRequest:
        options = TaskOptions(depends_on=depends_on, lock=lock)
        return TaskRequest(durable.noted, (str(journal), 0.01), options=options, task_id=name)

    chain = [request("c0"), *(request(f"c{number}", f"c{number - 1}") for number in range(1, LINKS))]
    locked = [request(f"l{number}", lock="l") for number in range(LINKS)]
    both = [each.task_id for each in (*chain, *locked)]
    ends = Ends()
    with here(tmp_path, 0) as watcher:
        watcher.events.subscribe(ends.take)
        trackers = watcher.push_all([request("last", *both), *locked, *chain])
        schedule = watcher.with_options(cron="* * * * *").submit(durable.add, 1, 2)
        schedule_id = watcher.get(schedule.task_id).schedule_id
        assert schedule_id is not None
        for count in range(10, 50, 10):
            made = Other(tmp_path, workers=2)
            ends.wait(count)
            kill(made.process.pid)
            made.process.wait(LONG)
        made = Other(tmp_path, workers=2)
        assert isinstance(trackers[0].result(timeout=LONG), int)
        made.tell("stop")
        made.wait_line("stopped")
        assert {watcher.get(task_id).status for task_id in both} == {"succeeded"}
        assert watcher.get(schedule_id).status in ("scheduled", "pending")
    said = list(durable.Journal(tmp_path).lines())
    begun = {task_id: at for at, (what, task_id, _, _) in reversed(list(enumerate(said))) if what == "begin"}
    ended = {task_id: at for at, (what, task_id, _, _) in reversed(list(enumerate(said))) if what == "end"}
    for number in range(1, LINKS):
        assert begun[f"c{number}"] > ended[f"c{number - 1}"]
    assert begun["last"] > max(ended[task_id] for task_id in both)
    holder: tuple[str, int, int] | None = None
    for what, *which in said:
        if which[0].startswith("l") and which[0] != "last":
            if what == "end":
                assert holder == tuple(which), "another one with the lock began before this one ended"
            holder = (which[0], which[1], which[2]) if what == "begin" else None
    assert look(tmp_path, "select (select count(*) from edges), (select count(*) from gated)") == [(0, 0)]
