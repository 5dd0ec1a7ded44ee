"""The streams of a running service are hot: a subscriber gets what is published from then on."""

from __future__ import annotations

from pathlib import Path

import pytest

from rxtasks import StatusEvent, TaskEvent, TaskService, task
from rxtasks import operators as rxo
from tests.acceptance.support import SOON, Recorder, recorded, service


@task("tests.hot.say")
def say(count: int) -> int:
    for number in range(count):
        print(number)
    return count


def of_tasks(recorder: Recorder) -> set[str]:
    return {event.task_id for event in recorder.values}


@pytest.mark.parametrize("isolation", ["inline", "thread", "process"])
@pytest.mark.parametrize("durable", [False, True], ids=["memory", "sqlite"])
def test_who_subscribes_when_a_result_is_there_gets_no_event_of_that_task(
    isolation: str, durable: bool, tmp_path: Path
) -> None:
    """R12: neither from the bus nor from the engine, however much waits to be handed out to others."""
    store = f"sqlite:///{tmp_path / 'tasks.db'}" if durable else "memory"
    with service(1, isolation=isolation, store=store) as made:
        first = recorded(made.events)
        expected = []
        for _ in range(30):
            tracker = made.submit(say, 40)
            assert tracker.result(SOON) == 40
            late, engine = Recorder(), Recorder()
            subscriptions = [
                made.events.subscribe(late.on_next, late.on_error),
                made.engine.subscribe(engine.on_next, engine.on_error),
            ]
            next_one = made.submit(say, 2)
            assert next_one.result(SOON) == 2
            assert made.flush(SOON)
            for subscription in subscriptions:
                subscription.dispose()
            assert of_tasks(late) == of_tasks(engine) == {next_one.task_id}
            assert [event.seq for event in late.values] == [1, 2, 3, 4]
            expected += [tracker.task_id, next_one.task_id]
        assert of_tasks(first) == set(expected)


def test_who_subscribes_to_the_pool_sees_what_happens_from_then_on() -> None:
    """W-02: `busy` and `idle` of tasks that have ended are not shown to who comes later."""
    with service(1) as made:
        recorded(made.pool)
        for _ in range(30):
            made.submit(say, 1).result(SOON)
            late = Recorder()
            subscription = made.pool.subscribe(late.on_next)
            assert made.flush(SOON)
            subscription.dispose()
            # The core may settle a task before it shows that its worker is idle.
            assert [event.kind for event in late.values] in ([], ["idle"])


@pytest.mark.parametrize("isolation", ["inline", "thread", "process"])
def test_the_events_of_a_worker_are_those_of_its_tasks(isolation: str) -> None:
    """W-02: pool.worker(id).events, in each isolation the same; it completes when the worker has stopped."""
    with TaskService(1, isolation=isolation, echo=None) as made:
        made.start()
        (info,) = made.workers()
        made.submit(say, 3).result(SOON)
        seen = recorded(made.pool.worker(info.worker_id).events)
        slow = recorded(made.pool.worker(info.worker_id).events.pipe(rxo.buffer_bounded(2), rxo.statuses()))
        tracker = made.submit(say, 3)
        tracker.result(SOON)
    seen.over()
    slow.over()
    assert [event.kind for event in seen.values] == ["status", "log", "log", "log", "status"]
    assert [event.task_id for event in seen.values] == [tracker.task_id] * 5
    assert [event.status for event in slow.values] == ["running", "succeeded"]
    assert seen.completed and slow.completed


def test_the_loss_of_a_worker_is_the_error_of_its_stream() -> None:
    """R20: after the events of its task."""
    import os
    import signal

    with TaskService(1, echo=None) as made:
        made.start()
        (info,) = made.workers()
        seen = Recorder()

        def kill(event: TaskEvent) -> None:
            if isinstance(event, StatusEvent) and info.pid is not None:
                os.kill(info.pid, signal.SIGKILL)

        stream = made.pool.worker(info.worker_id).events
        stream.subscribe(seen.on_next, seen.on_error, seen.on_completed)
        stream.subscribe(kill, lambda _: None)
        tracker = made.with_options(max_crashes=1).submit(forever)
        seen.over()
        assert type(seen.error).__name__ == "WorkerCrashed"
        assert seen.values[0].status == "running"
        assert tracker.future.exception(SOON) is not None


def forever() -> None:
    import threading

    threading.Event().wait()
