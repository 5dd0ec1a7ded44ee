"""The merged log of a real pool: live, in files, over several starts."""

from __future__ import annotations

import gc
import os
import signal
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from rxtasks import TaskContext, TaskService, WorkerCrashed
from rxtasks.logs import LogFilter, LogLine, LogMerger, RotatedFiles, render
from tests.acceptance.support import Recorder

LONG = 30.0


def speak(name: str, count: int, ctx: TaskContext) -> str:
    for number in range(count):
        ctx.log.bind(number=number).info("{} {}", name, number)
    print("printed", flush=True)
    return name


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def service() -> Iterator[TaskService]:
    with TaskService(2, echo=None, on_exit="force") as made:
        yield made


def lines_of(found: Recorder) -> list[LogLine]:
    return [line for line in found.values if isinstance(line, LogLine)]


def test_all_workers_in_one_log_in_order_with_nothing_missing(service: TaskService, tmp_path: Path) -> None:
    """C-06: by time, with tag, level and stream; live, in memory and in files the same."""
    live, files = Recorder(), RotatedFiles(tmp_path, max_bytes=20_000)
    with LogMerger.of(service) as merger:
        merger.lines.subscribe(live)
        merger.lines.subscribe(files)
        names = [f"task{number}" for number in range(6)]
        trackers = [service.submit(speak, name, 40) for name in names]
        assert names == [tracker.result(LONG) for tracker in trackers]
        assert service.flush(LONG)
        kept = merger.query()
        counts = merger.counts
    live.wait(lambda found: found.completed, LONG)
    written = list(files.query())
    assert written == lines_of(live) and [line for line in written if line in kept] == kept
    ours = [line for line in written if line.task_id is not None]
    assert {f"{name} {number}" for name in names for number in range(40)} | {"printed"} == {
        line.message for line in ours
    }
    assert (6 * 41, 0, 0) == (len(ours), counts.lost, counts.evicted)
    for tracker in trackers:
        of_task = list(files.query(LogFilter(task=tracker.task_id)))
        assert 41 == len(of_task) and of_task[-1].message == "printed" and "stdout" == of_task[-1].stream
        assert list(range(40)) == [line.fields["number"] for line in of_task[:-1]]
    in_order = [line.time for line in written if not line.late]
    assert in_order == sorted(in_order)
    assert {"test_merged_logs:speak"} == {(line.task_name or "").rpartition(".")[2] for line in ours}
    assert 2 >= len({line.worker_id for line in ours}) >= 1
    assert f"{ours[0].worker_id[-6:]} " in render(ours[0])  # type: ignore[index]


def test_the_events_of_a_service_are_enough(service: TaskService) -> None:
    """C-06: LogMerger(service.events) knows the names of tasks, too."""
    with LogMerger(service.events) as merger:
        tracker = service.submit(speak, "x", 2)
        assert "x" == tracker.result(LONG) and service.flush(LONG)
        found = merger.query(LogFilter(task=tracker.task_id))
    assert ["x 0", "x 1", "printed"] == [line.message for line in found]
    assert all(line.source.endswith(":speak") for line in found)


def test_a_worker_that_is_killed_is_told_among_the_lines(service: TaskService) -> None:
    """C-06: an operator finds the loss in the log, of what it held."""
    with LogMerger.of(service) as merger:
        live = Recorder()
        merger.follow(LogFilter(worker="pool", level="error")).subscribe(live)
        with pytest.raises(WorkerCrashed):
            service.submit(die).result(LONG)
        live.wait(lambda found: len(found.values) >= 1, LONG)
    assert "worker lost" in lines_of(live)[0].message and "pool" == lines_of(live)[0].source


def test_the_log_asks_for_no_event_a_task(service: TaskService) -> None:
    """C-06: of the pool it gets the news, which are few: as busy and idle come with every task, nobody makes them for it."""
    news = Recorder()
    service.pool.news.subscribe(news)
    with LogMerger.of(service):
        assert not service.pool._targets
        assert [3] * 20 == [service.submit(len, "abc").result(LONG) for _ in range(20)]
        service.pause()
        service.resume()
        assert service.flush(LONG)
    assert ["pool_paused", "pool_resumed"] == [event.kind for event in news.values if "pool" in event.kind]
    assert not {"busy", "idle", "heartbeat"} & {event.kind for event in news.values}


def test_a_merger_goes_on_over_the_starts_of_a_service() -> None:
    """C-06: stop() and start() leave it attached, once."""
    service = TaskService(1, isolation="thread", echo=None)
    with LogMerger.of(service) as merger:
        live = Recorder()
        merger.follow(LogFilter(task="speak")).subscribe(live)
        for start in range(3):
            service.start()
            assert "x" == service.submit(speak, "x", 1).result(LONG)
            service.stop()
            live.wait(lambda found, start=start: len(found.values) >= 2 * (start + 1), LONG)  # type: ignore[misc]
            assert not live.completed
        assert 6 == len(live.values)
    live.wait(lambda found: found.completed, LONG)


def test_a_dropped_service_is_not_kept_and_ends_its_merger() -> None:
    """C-06: the log does not keep a service alive; its followers get all lines and the end."""
    gc.collect()
    gc.disable()
    try:
        service = TaskService(1, isolation="thread", echo=None)
        merger = LogMerger.of(service)
        live = Recorder()
        merger.lines.subscribe(live)
        tracker = service.submit(speak, "x", 3)
        reference = weakref.ref(service)
        del service
        assert reference() is None
    finally:
        gc.enable()
    assert "x" == tracker.result(LONG)
    live.wait(lambda found: found.completed, LONG)
    assert ["x 0", "x 1", "x 2", "printed"] == [line.message for line in lines_of(live) if line.task_id]
    assert merger.close(LONG)


def test_after_close_no_thread_of_it_is_left(tmp_path: Path) -> None:
    """C-06: close() disposes all."""
    service = TaskService(1, isolation="thread", echo=None)
    merger, files = LogMerger.of(service), RotatedFiles(tmp_path)
    merger.lines.subscribe(files)
    merger.lines.subscribe(Recorder())
    service.submit(speak, "x", 3).result(LONG)
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("rxtasks-logs")]
    assert threads
    assert merger.close(LONG)
    files.close()
    for thread in threads:
        thread.join(LONG)
        assert not thread.is_alive(), thread
    service.stop()
