"""Tasks submitted here and run elsewhere: seen, cancelled and settled across processes."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from rxtasks import TaskCancelled, TaskEvent, TaskRequest, TaskService, UnknownTask, WorkerStartError, iterate
from rxtasks.stores.base import Ending
from rxtasks.stores.sqlite.store import SqliteStore
from tests.chaos import durable
from tests.chaos.durable import Journal, Other, here, wait_output, wait_until
from tests.chaos.support import LONG, Witness, kill

Pair = tuple[TaskService, Other, Path]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A service without workers here, one with two elsewhere."""
    folder = tmp_path_factory.mktemp("store")
    with Other(folder, workers=2) as other, here(folder, 0) as made:
        yield made, other, folder


def test_a_task_that_runs_elsewhere_is_followed_from_its_first_event(pair: Pair) -> None:
    """E-06 Q-05 R19: every event in order, from seq 1, then the result; the same to a tracker made late or elsewhere."""
    made, _, folder = pair
    tracker = made.submit(durable.chat, 700)
    events = list(iterate(tracker))
    assert list(range(1, len(events) + 1)) == [event.seq for event in events]
    assert [f"line {number}" for number in range(700)] == [e.message for e in events if e.kind == "log"]
    assert 700 == tracker.result(LONG)
    assert events == list(iterate(made.track(tracker.task_id)))
    with here(folder, 0) as another:
        assert events == list(iterate(another.track(tracker.task_id)))
        assert 700 == another.track(tracker.task_id).result(0)


class _Between(SqliteStore):
    """Calls `between` before it first says how a task ended."""

    between: Callable[[], object] | None = None

    def ending(self, task_id: str) -> Ending | None:
        between, self.between = self.between, None
        if between is not None:
            between()
        return super().ending(task_id)


@pytest.mark.parametrize("started", [True, False])
def test_a_task_that_ends_while_its_tracker_is_filled_is_followed_to_its_end(tmp_path: Path, started: bool) -> None:
    """R19 Q-05: neither look sees the last event: not that at the log, which comes before, nor that at what comes live."""
    store = _Between(str(tmp_path / "tasks.db"))
    go = tmp_path / "go"
    with Other(tmp_path, workers=1), TaskService(0, store=store, echo=None) as made, here(tmp_path, 0) as watcher:
        runs = watcher.submit(durable.until, str(go))
        wait_output(runs)
        if started:
            made.start()
        store.between = lambda: (go.touch(), runs.result(LONG))
        seen: list[TaskEvent] = []
        ended = threading.Event()
        made.track(runs.task_id).subscribe(seen.append, on_completed=ended.set)
        assert ended.wait(LONG), seen
        assert list(iterate(runs)) == seen


def test_all_that_others_do_is_on_the_stream_of_events_once(pair: Pair) -> None:
    """E-06 R12: the events of tasks that nobody tracks here, each once and in order, from the moment of the subscription."""
    made, _, folder = pair
    witness = Witness(made)
    with here(folder, 0) as pusher:
        ids = [pusher.submit(durable.chat, 20).task_id for _ in range(30)]
        for task_id in ids:
            witness.wait(lambda task_id=task_id: "succeeded" in witness.statuses(task_id))  # type: ignore[misc]
    witness.check()
    assert all([22] == [len(witness.of(task_id))] for task_id in ids)
    witness.close()


def test_events_of_others_come_at_once(pair: Pair) -> None:
    """E-06: within 200 ms of their commit in the other process, without anybody asking again and again."""
    made, _, _ = pair
    took = []
    for number in range(20):
        began = time.perf_counter()
        assert number + 1 == made.submit(durable.add, number, 1).result(LONG)
        took.append(time.perf_counter() - began)
    # The renewal, which would find it too, comes every 5 s: twenty of them would take longer than this.
    assert sum(took) < 50.0


def test_a_cancel_reaches_the_worker_of_another_service(pair: Pair) -> None:
    """E-06: one that runs is asked to end, one that hears nothing is ended by force, one that waits never begins."""
    made, _, folder = pair
    obedient = made.submit(durable.obedient)
    wait_output(obedient)
    assert made.cancel(obedient.task_id, "enough")
    with pytest.raises(TaskCancelled, match="enough"):
        obedient.result(LONG)
    deaf = made.with_options(grace=0.1).submit(durable.stays, str(folder / "deaf"))
    wait_output(deaf)
    assert deaf.cancel("also")
    with pytest.raises(TaskCancelled, match="also"):
        deaf.result(LONG)
    waits = made.schedule(durable.add, 1, 2, at=datetime.now(UTC) + timedelta(hours=1))
    assert made.cancel(waits.task_id)
    with pytest.raises(TaskCancelled):
        waits.result(LONG)
    assert not made.cancel(waits.task_id)


def test_a_cancel_from_a_service_that_was_never_started(pair: Pair) -> None:
    """E-06: the wish is written down, and whoever has the task hears of it."""
    made, _, folder = pair
    runs = made.submit(durable.obedient)
    wait_output(runs)
    idle = here(folder, 1)
    assert idle.cancel(runs.task_id, "from afar")
    with pytest.raises(TaskCancelled, match="from afar"):
        runs.result(LONG)
    assert not idle.cancel(runs.task_id)


def test_requests_by_name_come_back_by_id(pair: Pair) -> None:
    """E-06: pushed by a name that only the other service's workers know; the same id is the same task."""
    made, _, _ = pair
    request = TaskRequest("tests.chaos.durable:add", (3, 4))
    assert 7 == made.push(request).result(LONG)
    assert 7 == made.push(request).result(0)
    assert "succeeded" == made.get(request.task_id).status
    assert request.task_id in [record.task_id for record in made.list(status="succeeded", limit=10_000)]


def test_an_observer_without_workers_follows_without_a_start(pair: Pair, tmp_path: Path) -> None:
    """E-06: track alone is enough to hear of what runs elsewhere."""
    made, _, folder = pair
    go = tmp_path / "go"
    runs = made.submit(durable.until, str(go))
    wait_output(runs)
    observer = here(folder, 0)
    tracker = observer.track(runs.task_id)
    go.touch()
    assert 1 == tracker.result(LONG)
    observer.stop()


def test_submits_of_an_event_loop_return_after_the_commit(pair: Pair) -> None:
    """E-06 E-18: asubmit and apush hand over trackers that can be awaited."""
    made, _, folder = pair

    async def both() -> tuple[int, int]:
        first = await made.asubmit(durable.add, 1, 2)
        assert durable.look(folder, "select 1 from tasks where id = ?", first.task_id)
        second = await made.apush(TaskRequest("tests.chaos.durable:add", (3, 4)))
        return await first, await second

    assert (3, 7) == asyncio.run(asyncio.wait_for(both(), LONG))


def test_a_map_gets_its_results_from_workers_elsewhere(pair: Pair) -> None:
    """E-06: outcomes without trackers."""
    made, _, _ = pair
    assert [number + 1 for number in range(200)] == list(iterate(made.map(durable.add, range(200), [1] * 200)))


def test_two_services_share_the_work_and_do_nothing_twice(tmp_path: Path) -> None:
    """Q-02: each task begins and ends once, whoever took it; and both took some."""
    journal = Journal(tmp_path)
    with Other(tmp_path, workers=1) as first, Other(tmp_path, workers=1) as second, here(tmp_path, 0) as made:
        witness = Witness(made)
        trackers = [made.submit(durable.noted, journal.path, 0.01) for _ in range(200)]
        assert [1] * 200 == [tracker.result(LONG) for tracker in trackers]
        assert made.flush(LONG)
        witness.check()
        witness.close()
        workers = [set(durable.below(other.process.pid)) for other in (first, second)]
    begun = [task_id for what, task_id, _, _ in journal.lines() if what == "begin"]
    assert 200 == len(begun) == len(set(begun))
    pids = {pid for _, _, _, pid in journal.lines()}
    assert all(pids & each for each in workers)


@pytest.mark.parametrize("workers", [0, 1])
def test_without_inotify_others_are_looked_for(tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """E-06 Q-03: where nothing can ring, events, ends and deaths of others are seen by looking."""
    monkeypatch.setattr("rxtasks.stores.sqlite.bell._libc", lambda: None)
    with here(tmp_path, workers) as made, Other(tmp_path, workers=1) as other:
        made.start()
        made.pause()
        assert made.engine.following is not None
        assert list(range(1, 23)) == [event.seq for event in iterate(made.submit(durable.chat, 20))]
        tracker = made.submit(durable.stays_once, str(tmp_path / "journal"))
        wait_output(tracker)
        other.process.kill()
        made.resume()
        if workers:
            assert 2 == tracker.result(LONG)
        else:
            wait_until(lambda: made.get(tracker.task_id).status == "pending")


def test_a_service_whose_workers_cannot_start_leaves_the_tasks_to_others(tmp_path: Path) -> None:
    """W-04 Q-04: it says why and ends; what is stored runs where workers do start."""
    with here(tmp_path, 0) as made:
        tracker = made.submit(durable.add, 1, 2)
        broken = TaskService(1, store=durable.url(tmp_path), modules=["no_such_module"], echo=None, max_respawns=1)
        with pytest.raises(WorkerStartError, match="No module named"):
            broken.start()
        assert "pending" == made.get(tracker.task_id).status
        with Other(tmp_path, workers=1):
            assert 3 == tracker.result(LONG)


def test_nothing_rings_for_a_service_that_is_alone(tmp_path: Path) -> None:
    """W-12: its own commits do not wake it: the lock file is not even written to."""
    with here(tmp_path, 1) as made:
        made.start()
        (file,) = durable.lock_files(tmp_path)
        before = file.stat().st_mtime_ns
        assert 3 == made.submit(durable.add, 1, 2).result(LONG)
        assert before == file.stat().st_mtime_ns
        with here(tmp_path, 0) as other:
            other.start()
            wait_until(lambda: file.stat().st_mtime_ns > before)


def test_tasks_of_others_run_when_their_service_stops(tmp_path: Path) -> None:
    """E-06: what a drain gave back is taken up by whoever is there, at once."""
    with here(tmp_path, 1) as made:
        made.start()
        made.pause()
        with Other(tmp_path, workers=1, drain_timeout=0.1) as other:
            tracker = made.submit(durable.stays_once, str(tmp_path / "journal"))
            wait_output(tracker)
            other.tell("stop")
            assert "stopped" == other.wait_line("stopped")
            made.resume()
            assert 2 == tracker.result(LONG)


def test_a_subscriber_sees_an_interrupted_task_from_both_sides(tmp_path: Path) -> None:
    """Q-05 R23: events of the attempt elsewhere, then of the one here, in one order and none twice."""
    seen: list[TaskEvent] = []
    with here(tmp_path, 1) as made:
        made.start()
        made.pause()
        over = threading.Event()
        made.events.subscribe(
            lambda event: (seen.append(event), over.set() if event.kind == "status" and event.status.terminal else None)
        )  # type: ignore[func-returns-value, attr-defined]
        with Other(tmp_path, workers=1) as other:
            tracker = made.submit(durable.stays_once, str(tmp_path / "journal"))
            wait_output(tracker)
            other.process.kill()
            made.resume()
            assert over.wait(LONG)
    assert list(range(1, len(seen) + 1)) == [event.seq for event in seen]
    assert ["running", "pending", "running", "succeeded"] == [str(e.status) for e in seen if e.kind == "status"]  # type: ignore[attr-defined]


def test_a_schedule_is_followed_across_processes_and_restarts(tmp_path: Path) -> None:
    """E-16 E-06 Q-05: occurrences run elsewhere; a tracker made here, or after a restart, goes from one to the next."""
    with Other(tmp_path, workers=1) as other:
        with here(tmp_path, 0) as made:
            tracker: Any = made.schedule(durable.chat, 3, cron="0 0 1 1 *")
            schedule_id = tracker.schedule_id
            events = iterate(tracker)
            seen = _runs(made, schedule_id, events, 2)
        with here(tmp_path, 0) as made:
            found: Any = made.track(schedule_id)
            events = iterate(found)
            seen += _runs(made, schedule_id, events, 1)
            kill(other.process.pid)
            made.update(schedule_id, run_at=datetime.now(UTC))
            with Other(tmp_path, workers=1):
                seen.append(_one_run(events))
                assert found.result(LONG) == 3
                assert found.cancel("enough")
                assert ["cancelled"] == [event.status for event in events]
            assert found.done
            with pytest.raises(UnknownTask):
                made.track(schedule_id)
    assert len(set(seen)) == 4


def _runs(made: TaskService, schedule_id: str, events: Iterator[Any], count: int) -> list[str]:
    """Let the schedule run so often; return the ids of the tasks."""
    found = []
    for _ in range(count):
        made.update(schedule_id, run_at=datetime.now(UTC))
        found.append(_one_run(events))
    return found


def _one_run(events: Iterator[Any]) -> str:
    """Take the events of one occurrence; return its id."""
    taken = [next(events) for _ in range(5)]
    (task_id,) = {event.task_id for event in taken}
    assert [1, 2, 3, 4, 5] == [event.seq for event in taken] and taken[-1].status == "succeeded"
    return str(task_id)
