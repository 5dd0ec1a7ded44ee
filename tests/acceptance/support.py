"""What the acceptance tests share: services, gates, recorders."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rxtasks import TaskEvent, TaskRequest, TaskService, TaskTracker

#: Seconds that anything may take at most.
SOON = 20.0


def service(workers: Any = 1, **more: Any) -> TaskService:
    return TaskService(workers, **{"isolation": "thread", "echo": None, "on_exit": "force", **more})


class Gate:
    """A FIFO that handlers wait at."""

    def __init__(self, directory: Path, name: str = "gate") -> None:
        self.path = str(directory / name)
        os.mkfifo(self.path)

    def open(self) -> None:
        """Let those through that wait, waiting for one to come."""
        with open(self.path, "w", encoding="utf-8"):
            pass


class Recorder:
    """An observer that keeps what it gets; `wait` waits for it."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self.error: Exception | None = None
        self.completed = False
        self.threads: set[str] = set()
        self._changed = threading.Condition()

    def on_next(self, value: Any) -> None:
        with self._changed:
            self.values.append(value)
            self.threads.add(threading.current_thread().name)
            self._changed.notify_all()

    def on_error(self, error: Exception) -> None:
        with self._changed:
            self.error = error
            self._changed.notify_all()

    def on_completed(self) -> None:
        with self._changed:
            self.completed = True
            self._changed.notify_all()

    def wait(self, until: Callable[[Recorder], bool], seconds: float = SOON) -> Recorder:
        with self._changed:
            assert self._changed.wait_for(lambda: until(self), seconds), (self.values[-5:], self.error, self.completed)
        return self

    def over(self) -> Recorder:
        """Wait for the end of the stream."""
        return self.wait(lambda recorder: recorder.completed or recorder.error is not None)


def recorded(observable: Any) -> Recorder:
    recorder = Recorder()
    observable.subscribe(recorder.on_next, recorder.on_error, recorder.on_completed)
    return recorder


def started(made: TaskService, fn: Callable[..., Any], *args: Any) -> TaskTracker:
    """Submit and wait until the task runs."""
    request = TaskRequest(fn, args)
    recorder = Recorder()

    def look(event: TaskEvent) -> None:
        if event.task_id == request.task_id:
            recorder.on_next(event)

    subscription = made.events.subscribe(look)
    tracker = made.push(request)
    recorder.wait(lambda r: bool(r.values))
    subscription.dispose()
    return tracker
