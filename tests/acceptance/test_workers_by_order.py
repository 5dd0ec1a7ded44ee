"""Workers restarted, killed, scaled, paused and asked, by hand and in races with everything else (W-02, W-03, W-05, W-14)."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rxtasks import RxTasksError, SettingsError, TaskContext, TaskService, TaskStatus, WorkerEvent, WorkerSpec
from rxtasks.testing.workerevents import check_worker_events

WAIT = 30.0
STORES = pytest.mark.parametrize("durable", [False, True], ids=["memory", "sqlite"])


class Stream:
    """What the pool tells, and a way to wait for it."""

    def __init__(self, service: TaskService) -> None:
        self.events: list[WorkerEvent] = []
        self._more = threading.Condition()
        service.pool.subscribe(self._take)

    def _take(self, event: WorkerEvent) -> None:
        with self._more:
            self.events.append(event)
            self._more.notify_all()

    def wait(self, found: Callable[[WorkerEvent], object]) -> WorkerEvent:
        """Return the first event of which `found` is true, when it has come."""
        with self._more:
            assert self._more.wait_for(lambda: any(map(found, self.events)), WAIT), self.events
            return next(filter(found, self.events))

    def of(self, worker_id: str | None) -> list[str]:
        return [
            e.kind for e in self.events if e.worker_id == worker_id and e.kind not in ("heartbeat", "log", "warning")
        ]


def store_of(durable: bool, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'tasks.db'}" if durable else "memory"


def until(path: str, ctx: TaskContext) -> int:
    """Run until the file is there."""
    waited = threading.Event()
    while not os.path.exists(path):
        ctx.raise_if_cancelled()
        waited.wait(0.005)
    return os.getpid()


def running(service: TaskService, path: Path, **options: Any) -> Any:
    """Submit a task that runs until `path` is there; return its tracker when it runs."""
    begun = threading.Event()
    tracker = service.with_options(**options).submit(until, str(path))
    tracker.statuses.subscribe(lambda event: begun.set() if event.status is TaskStatus.RUNNING else None)
    assert begun.wait(WAIT)
    return tracker


@STORES
def test_kill_of_a_busy_worker_is_an_interruption(durable: bool, tmp_path: Path) -> None:
    """W-05 W-07: its task runs again elsewhere, though one crash would be its end; the worker is replaced."""
    with TaskService(1, store=store_of(durable, tmp_path)) as service:
        stream = Stream(service)
        service.start()
        (info,) = service.workers()
        tracker = running(service, tmp_path / "go", max_crashes=1)
        assert service.pool.kill(info.worker_id) is True
        failed = stream.wait(lambda event: event.kind == "failed")
        assert (info.worker_id, "killed on request") == (failed.worker_id, failed.message)
        (tmp_path / "go").touch()
        assert tracker.result(WAIT) != info.pid
        record = service.get(tracker.task_id)
        assert (0, 1) == (record.crashes, record.interruptions)
        assert service.pool.kill(info.worker_id) is False
        assert service.pool.restart(info.worker_id) is None
        with pytest.raises(RxTasksError, match="no worker 'nobody' in this pool; its workers: "):
            service.pool.kill("nobody")
        with pytest.raises(RxTasksError, match="no worker 'nobody'"):
            service.pool.restart("nobody")
    check_worker_events(stream.events)


@STORES
@pytest.mark.parametrize("isolation", ["process", "thread"])
def test_restart_lets_the_task_end(isolation: str, durable: bool, tmp_path: Path) -> None:
    """W-05: another worker takes its place at once; of what it had, nothing is lost, counted or run twice."""
    with TaskService(1, isolation=isolation, store=store_of(durable, tmp_path)) as service:
        stream = Stream(service)
        service.start()
        (info,) = service.workers()
        tracker = running(service, tmp_path / "go")
        queued = [service.submit(until, str(tmp_path)) for _ in range(3)]
        by = service.pool.restart(info.worker_id)
        assert by is not None and by != info.worker_id
        assert service.pool.restart(info.worker_id) == by
        ran = [(other.result(WAIT), service.get(other.task_id)) for other in queued]  # while the first one still runs
        assert {record.worker_id for _, record in ran} == {by}
        assert not tracker.done
        (tmp_path / "go").touch()
        tracker.result(WAIT)
        record = service.get(tracker.task_id)
        assert (1, 0, 0, info.worker_id) == (record.attempt, record.crashes, record.interruptions, record.worker_id)
        stream.wait(lambda event: event.kind == "stopped" and event.worker_id == info.worker_id)
        assert service.pool.restart(info.worker_id) == by
        replaced = stream.wait(lambda event: event.kind == "replaced")
        assert (info.worker_id, by) == (replaced.worker_id, replaced.data["by"])
    check_worker_events(stream.events)


def test_a_thread_that_runs_a_task_is_not_killed(tmp_path: Path) -> None:
    """W-18: it is said why and what to do instead; idle, it is replaced."""
    with TaskService([WorkerSpec(1, "thread"), WorkerSpec(1)]) as service:
        service.start()
        info = next(info for info in service.workers() if info.isolation == "thread")
        tracker = running(service, tmp_path / "go", isolation="thread")
        with pytest.raises(RxTasksError, match="is a thread of this process and runs a task: it cannot be killed"):
            service.pool.kill(info.worker_id)
        (tmp_path / "go").touch()
        assert tracker.result(WAIT) == os.getpid()
        stream = Stream(service)
        assert service.pool.kill(info.worker_id) is True
        stream.wait(lambda event: event.kind == "ready" and event.worker_id != info.worker_id)
        assert service.with_options(isolation="thread").submit(os.getpid).result(WAIT) == os.getpid()


def test_restart_of_a_stuck_worker_then_kill(tmp_path: Path) -> None:
    """W-05: one that was told to leave and does not end its task can still be killed."""
    with TaskService(1) as service:
        stream = Stream(service)
        service.start()
        (info,) = service.workers()
        tracker = running(service, tmp_path / "go")
        service.pool.restart(info.worker_id)
        assert service.pool.kill(info.worker_id) is True
        stream.wait(lambda event: event.kind == "failed" and event.worker_id == info.worker_id)
        (tmp_path / "go").touch()
        assert tracker.result(WAIT) != info.pid
    assert stream.of(info.worker_id)[-3:] == ["stopping", "replaced", "failed"]
    check_worker_events(stream.events)


def test_scale_clamps_and_says_so(tmp_path: Path) -> None:
    """W-03: by what it returns and by event; idle workers go first, a busy one ends what it runs."""
    with TaskService(3) as service:
        stream = Stream(service)
        service.start()
        tracker = running(service, tmp_path / "go")
        (busy,) = (info.worker_id for info in service.workers() if info.status == "busy")
        assert service.pool.scale(0) == 1
        said = stream.wait(lambda event: event.kind == "pool_scaled")
        assert (said.message, said.data) == ("3 -> 1 (asked for 0)", {"count": 1, "asked": 0})
        others = {event.worker_id for event in stream.events if event.kind == "started"} - {busy}
        for other in others:
            stream.wait(lambda event, other=other: event.kind == "stopped" and event.worker_id == other)
        assert [busy] == [info.worker_id for info in service.workers()]
        (tmp_path / "go").touch()
        tracker.result(WAIT)
        assert service.pool.scale(100_000) == 256 and service.pool.scale(1) == 1
        with pytest.raises(SettingsError):
            service.pool.scale(1.5)  # type: ignore[arg-type]
    check_worker_events(stream.events)


def test_orders_before_the_start_and_after_the_stop() -> None:
    """W-05: nothing to do is no error; of a worker that never was it is one, of one that was it is told."""
    service = TaskService(2, isolation="thread")
    assert (service.pool.ping(), service.pool.checkpoint(), service.pool.call(os.getpid)) == ({}, {}, {})
    for order in (service.pool.restart, service.pool.kill):
        with pytest.raises(RxTasksError, match="no worker 'x' in this pool; its workers: none"):
            order("x")
    service.start()
    pool, (first, second) = service.pool, (info.worker_id for info in service.workers())
    by = pool.restart(first)
    service.stop()
    for _ in range(2):
        assert (pool.kill(first), pool.kill(second), pool.restart(second)) == (False, False, None)
        pool.pause()
        pool.resume()
        assert (pool.ping(), pool.scale(3), pool.broadcast("stop")) == ({}, 0, {})
    assert by


def test_pause_and_resume_are_idempotent(tmp_path: Path) -> None:
    """W-02: one event for each change; from the pool and from the service."""
    with TaskService(1, isolation="thread") as service:
        stream = Stream(service)
        service.start()
        for _ in range(3):
            service.pool.pause()
            service.pause()
        tracker = service.submit(os.getpid)
        assert service.status().pending == 1 and not tracker.done
        for _ in range(3):
            service.resume()
            service.pool.resume()
        assert tracker.result(WAIT) == os.getpid()
    assert ["pool_started", "pool_paused", "pool_resumed", "pool_stopped"] == stream.of(None)


def test_broadcast_commands(tmp_path: Path) -> None:
    """W-14: start, heartbeat, checkpoint and graceful shutdown, each acknowledged by every worker."""
    service = TaskService(2)
    ready = service.pool.broadcast("start")
    ids = [info.worker_id for info in service.workers()]
    assert ready == service.pool.broadcast("heartbeat") == dict.fromkeys(ids)
    assert service.pool.broadcast("checkpoint") == {}
    with pytest.raises(SettingsError, match="one of start, stop, shutdown, heartbeat, checkpoint, not 'dance'"):
        service.pool.broadcast("dance")
    with pytest.raises(SettingsError, match="seconds"):
        service.pool.ping(timeout=-1)
    tracker = running(service, tmp_path / "go")
    threading.Timer(0.2, (tmp_path / "go").touch).start()
    assert service.pool.broadcast("shutdown") == dict.fromkeys(ids)
    assert tracker.result(WAIT)
    assert service.pool.broadcast("heartbeat") == {}
    service.stop()
    with TaskService(2) as other:
        ids = list(other.pool.broadcast("start"))
        tracker = running(other, tmp_path / "never")
        assert other.pool.broadcast("stop") == dict.fromkeys(ids)
        assert tracker.done


def test_a_call_in_a_dead_worker_names_it() -> None:
    """W-14: who died of it is told with how; the others' answers are there."""

    def die_in(pid: int) -> None:
        if os.getpid() == pid:
            os.kill(pid, signal.SIGKILL)

    with TaskService(3) as service:
        service.start()
        victim, *others = service.workers()
        answers = service.pool.call(die_in, victim.pid, timeout=WAIT)
        assert {info.worker_id for info in others} == {key for key, text in answers.items() if text is None}
        assert "gone" in (answers[victim.worker_id] or "") and "SIGKILL" in (answers[victim.worker_id] or "")


def test_a_busy_worker_is_named_by_a_call(tmp_path: Path) -> None:
    """W-14: a call waits for the end of the task; a ping is answered beside it."""
    with TaskService(1) as service:
        service.start()
        (info,) = service.workers()
        tracker = running(service, tmp_path / "go")
        assert service.pool.ping(WAIT) == {info.worker_id: None}
        (text,) = service.pool.call(os.getpid, timeout=0.2).values()
        assert "no answer within 0.2 s: it is busy" in (text or "")
        (tmp_path / "go").touch()
        assert tracker.result(WAIT) == info.pid
        assert service.pool.call(os.getpid, timeout=WAIT) == {info.worker_id: None}


def test_orders_from_a_subscriber_and_from_a_loop() -> None:
    """R18 E-18: no order waits for the delivery thread; none holds an event loop."""
    done = threading.Event()
    with TaskService(2) as service:
        service.start()
        first, second = (info.worker_id for info in service.workers())

        def on_event(event: Any) -> None:
            if not done.is_set():
                service.pool.pause()
                service.pool.resume()
                assert service.pool.scale(2) == 2
                assert service.pool.restart(first)
                assert service.pool.kill(second)
                done.set()

        service.events.subscribe(on_event)
        service.submit(os.getpid).future.exception(WAIT)
        assert done.wait(WAIT)

        async def main() -> None:
            ready = asyncio.Event()
            loop = asyncio.get_running_loop()
            service.pool.subscribe(
                lambda event: loop.call_soon_threadsafe(ready.set) if event.kind == "ready" else None
            )
            service.pause()
            for info in service.workers():
                service.pool.restart(info.worker_id)
            service.resume()
            await asyncio.wait_for(ready.wait(), WAIT)
            assert await service.submit(abs, -3) == 3

        asyncio.run(main())


def test_a_mixed_pool_runs_what_travels_by_value() -> None:
    """W-01: a function of no module goes to processes as a pickle, to threads as it is, and to whoever comes first."""
    seen: list[int] = []

    def by_value(number: int) -> tuple[int, int]:
        seen.append(number)
        return os.getpid(), number

    with TaskService([WorkerSpec(1), WorkerSpec(1, "thread"), WorkerSpec(1, "inline")]) as service:
        service.start()
        for isolation in ("process", "thread", "inline"):
            pid, _ = service.with_options(isolation=isolation).submit(by_value, 1).result(WAIT)
            assert (pid == os.getpid()) == (isolation != "process")
        assert seen == [1, 1]
        assert {service.submit(by_value, 2).result(WAIT)[1] for _ in range(30)} == {2}
        assert service.with_options(isolation="thread").map(by_value, range(10)).run() == (os.getpid(), 9)


@pytest.mark.parametrize("isolation", ["process", "thread", "inline"])
def test_every_worker_gives_signs_of_life(isolation: str, tmp_path: Path) -> None:
    """W-02 W-06: of each kind, while it runs something too, with what it runs."""
    with TaskService(1, isolation=isolation, heartbeat=0.05) as service:
        stream = Stream(service)
        service.start()
        stream.wait(lambda event: event.kind == "heartbeat" and not event.data["task_ids"])
        go = threading.Event()
        found: list[str] = []

        def look(event: WorkerEvent) -> None:
            if event.kind == "heartbeat" and event.data["task_ids"]:
                found.extend(event.data["task_ids"])
                go.set()

        service.pool.subscribe(look)
        if isolation == "inline":
            tracker = service.submit(go.wait, WAIT)
        else:
            tracker = running(service, tmp_path / "go")
            assert go.wait(WAIT)
            (tmp_path / "go").touch()
        assert found[0] == tracker.task_id
        assert service.workers()[0].last_heartbeat is not None
    check_worker_events(stream.events)


@STORES
def test_orders_in_races_lose_nothing(durable: bool, tmp_path: Path) -> None:
    """W-02 W-03 W-05: restart, kill, scale, pause, hooks and commands from three threads while tasks run: each task ends once
    and well, and the workers' events keep their order.
    """
    specs = [WorkerSpec(2), WorkerSpec(1, "thread")]
    with TaskService(specs, store=store_of(durable, tmp_path), max_interruptions=1000) as service:
        stream = Stream(service)
        service.start()
        over = threading.Event()
        wrong: list[BaseException] = []

        def disturb(seed: int) -> None:
            chance = random.Random(seed)
            try:
                while not over.wait(chance.random() * 0.05):
                    workers = service.workers()
                    one = chance.choice(workers) if workers else None
                    match chance.randrange(7):
                        case 0 if one is not None:
                            service.pool.restart(one.worker_id)
                        case 1 if one is not None and one.isolation == "process":
                            service.pool.kill(one.worker_id)
                        case 2:
                            service.pool.scale(chance.randrange(1, 4))
                        case 3:
                            service.pool.pause()
                            service.pool.resume()
                        case 4:
                            service.pool.ping(0.5)
                        case 5:
                            service.before("task").add(lambda: None).dispose()
                        case _:
                            service.submit(abs, 1).cancel()
            except BaseException as error:
                wrong.append(error)

        threads = [threading.Thread(target=disturb, args=(seed,)) for seed in range(3)]
        for thread in threads:
            thread.start()
        trackers = [service.submit(pow, number, 2) for number in range(300)]
        deadline = time.monotonic() + 3.0
        while time.monotonic() < deadline:  # how long they are disturbed, not how long is waited for anything
            trackers.append(service.submit(pow, 3, 2))
            trackers[-1].result(WAIT)
        over.set()
        for thread in threads:
            thread.join(WAIT)
            assert not thread.is_alive()
        assert not wrong, wrong
        assert [tracker.result(WAIT) for tracker in trackers[:300]] == [number**2 for number in range(300)]
        records = [service.get(tracker.task_id) for tracker in trackers]
        crashed = [event for event in stream.events if event.kind == "failed" and event.message != "killed on request"]
        assert {(record.status, record.crashes) for record in records} == {(TaskStatus.SUCCEEDED, 0)}, crashed
    check_worker_events(stream.events)
