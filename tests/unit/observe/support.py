"""A core in miniature: folds events into trackers and publishes them, on a clock of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from rxtasks.lifecycle.events import LogEvent, OutputEvent, ProgressEvent, StatusEvent, TaskEvent
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.observe.bus import TaskEventBus
from rxtasks.observe.delivery import Delivery
from rxtasks.observe.tracker import TaskTracker
from rxtasks.observe.weight import weigh
from rxtasks.wire.outcome import Outcome

NOW = datetime(2026, 1, 1, tzinfo=UTC)
#: Seconds that a test waits for something that must happen.
SOON = 20.0


class ManualClock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 0

    def monotonic_ns(self) -> int:
        return self.now

    def wall_us(self) -> int:
        return 0


class Core:
    """What the engine does with events, on the calling thread."""

    def __init__(self, **settings: Any) -> None:
        self.clock = ManualClock()
        self.reports: list[tuple[str, BaseException | None]] = []
        self.relieved = threading.Event()
        self.cancelled: list[tuple[str, str | None]] = []
        settings = {"stall_timeout": 5.0, "clock": self.clock} | settings
        self.delivery: Delivery = Delivery(on_relief=self.relieved.set, report=self.report, **settings)
        self.bus = TaskEventBus(self.delivery)
        self.trackers: dict[str, TaskTracker] = {}
        self.seqs: dict[str, int] = {}

    def report(self, what: str, error: BaseException | None) -> None:
        self.reports.append((what, error))

    def cancel(self, task_id: str, reason: str | None) -> bool:
        self.cancelled.append((task_id, reason))
        return True

    def submit(self, task_id: str = "t", name: str = "job") -> TaskTracker:
        tracker = self.trackers[task_id] = TaskTracker(task_id, name=name, control=self)
        return tracker

    # -- events of a task ---------------------------------------------------------------------------------------------

    def make(self, kind: type[TaskEvent], task_id: str, *values: Any) -> TaskEvent:
        seq = self.seqs[task_id] = self.seqs.get(task_id, 0) + 1
        return kind(task_id, seq, 1, "w", NOW, *values)

    def status(self, task_id: str, status: TaskStatus, result: Any = None) -> TaskEvent:
        return self.make(StatusEvent, task_id, status, result)

    def run(self, task_id: str = "t") -> TaskEvent:
        return self.publish(self.status(task_id, TaskStatus.RUNNING))

    def log(self, message: str, task_id: str = "t") -> TaskEvent:
        return self.publish(self.make(LogEvent, task_id, "INFO", message))

    def make_log(self, message: str, task_id: str = "t") -> TaskEvent:
        return self.make(LogEvent, task_id, "INFO", message)

    def output(self, value: Any, task_id: str = "t") -> TaskEvent:
        return self.publish(self.make(OutputEvent, task_id, value))

    def progress(self, current: float, task_id: str = "t") -> TaskEvent:
        return self.publish(self.make(ProgressEvent, task_id, current))

    def succeed(self, result: Any = None, task_id: str = "t") -> TaskEvent:
        event = self.status(task_id, TaskStatus.SUCCEEDED, result)
        return self.publish(event, outcome=Outcome(TaskStatus.SUCCEEDED, ["j", result]))

    def end(self, outcome: Outcome, task_id: str = "t") -> TaskEvent:
        return self.publish(self.status(task_id, outcome.status), outcome=outcome)

    def fold(self, event: TaskEvent, outcome: Outcome | None = None) -> None:
        tracker = self.trackers.get(event.task_id)
        if tracker is not None:
            tracker.observe(event)
            if outcome is not None:
                tracker.settle(outcome)

    def publish(self, event: TaskEvent, outcome: Outcome | None = None) -> TaskEvent:
        self.fold(event, outcome)
        self.delivery.publish([event], weigh(event))
        return event

    def batch(self, events: list[TaskEvent]) -> None:
        for event in events:
            self.fold(event)
        self.delivery.publish(events, sum(map(weigh, events)))

    # -- waiting ------------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        assert self.delivery.flush(SOON)

    def pass_time(self, seconds: float) -> None:
        """Let the watchdog look as often as it asks to while `seconds` pass."""
        end = self.clock.now + int(seconds * 1e9)
        while True:
            due = self.delivery.check(self.clock.now)
            if due is None or due > end:
                break
            self.clock.now = due
        self.clock.now = end
        self.delivery.check(end)

    def close(self) -> None:
        self.delivery.close(SOON)


class Sink:
    """An observer that keeps what it gets and where."""

    def __init__(self) -> None:
        self.got: list[Any] = []
        self.threads: set[int] = set()
        self.ended = threading.Event()

    def on_next(self, value: Any) -> None:
        self.got.append(value)
        self.threads.add(threading.get_ident())

    def on_error(self, error: Exception) -> None:
        self.got.append(error)
        self.ended.set()

    def on_completed(self) -> None:
        self.got.append("done")
        self.ended.set()

    @property
    def seqs(self) -> list[int]:
        return [event.seq for event in self.got if isinstance(event, TaskEvent)]


class Blocker(Sink):
    """An observer that blocks in the first on_next that `when` picks, until `go_on` is set."""

    def __init__(self, when: Callable[[Any], bool] = lambda _: True) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.go_on = threading.Event()
        self._when = when

    def on_next(self, value: Any) -> None:
        super().on_next(value)
        if not self.entered.is_set() and self._when(value):
            self.entered.set()
            assert self.go_on.wait(SOON)
