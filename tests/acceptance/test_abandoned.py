"""What cannot be killed is fenced off, and how often that is done."""

from __future__ import annotations

import threading

import pytest

from rxtasks import ServiceStopped, TaskService, TaskTimeout, WorkerEvent, WorkerStartError

SOON = 30.0


def test_a_thread_that_cannot_be_ended_is_replaced_eight_times_and_then_no_more() -> None:
    """W-18: a hard time-out fails the task, abandons the thread and replaces the worker, at most 8 times."""
    released = threading.Event()
    seen: list[WorkerEvent] = []
    with TaskService(workers=1, isolation="thread", echo=None, on_exit="force") as service:
        service.pool.subscribe(seen.append)
        hasty = service.with_options(timeout=0.01, grace=0.01)
        try:
            for _ in range(8):
                with pytest.raises(TaskTimeout):
                    hasty.submit(released.wait, SOON).result(SOON)
                assert 7 == service.submit(abs, -7).result(SOON)
            service.pause()  # both are there before the first can end
            last = hasty.submit(released.wait, SOON)
            after = service.submit(abs, -7)
            service.resume()
            with pytest.raises(TaskTimeout):
                last.result(SOON)
            with pytest.raises(WorkerStartError, match=r'9 threads could not be ended.*isolation="process"'):
                after.result(SOON)
            with pytest.raises(ServiceStopped, match=r"by itself: no worker is left: 9 threads"):
                service.submit(abs, -7)
            ended = service.engine
            assert 7 == service.start().submit(abs, -7).result(SOON)
            assert service.engine is not ended and ended.is_stopped
        finally:
            released.set()
    assert 8 == sum(event.kind == "replaced" for event in seen)
    assert ["not replaced: 9 threads that could not be ended run on already"] == [
        event.message for event in seen if event.kind == "warning"
    ]
