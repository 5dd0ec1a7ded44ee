"""What every isolation must show: subclass IsolationSuite, name the isolation, and pytest runs it.

::

    class TestThread(IsolationSuite):
        isolation = "thread"
"""

# Tests say expected == actual.
# ruff: noqa: SIM300

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import pytest

from rxtasks.errors import PayloadError, TaskCancelled, TaskFailed
from rxtasks.lifecycle.events import OutputEvent, ProgressEvent, StatusEvent, TaskEvent
from rxtasks.lifecycle.options import TaskOptions
from rxtasks.lifecycle.retry import RetryPolicy
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.lifecycle.task import TaskRequest
from rxtasks.observe.tracker import TaskTracker
from rxtasks.pool.info import WorkerSpec
from rxtasks.service import TaskService
from rxtasks.testing import handlers

__all__ = ["IsolationSuite", "all_events", "words"]

#: Seconds that anything here may take at most.
SOON = 3.0
AT_ONCE = RetryPolicy(max_attempts=3, base=0, jitter="none")


def all_events(tracker: TaskTracker) -> list[TaskEvent]:
    """Return all events of a task, once it has ended and its stream has completed."""
    events: list[TaskEvent] = []
    over = threading.Event()
    tracker.subscribe(events.append, lambda error: over.set(), over.set)
    assert over.wait(SOON), f"the stream of {tracker!r} has not completed; so far {events}"
    return events


def words(events: list[TaskEvent]) -> list[str]:
    """Return the statuses among the events."""
    return [event.status.value for event in events if isinstance(event, StatusEvent)]


class IsolationSuite:
    """The same tests for every isolation."""

    isolation: ClassVar[str]
    #: Async handlers of one worker can run at once (inline: each on its caller's thread).
    concurrent: ClassVar[bool] = True
    #: Values travel to another process.
    travels: ClassVar[bool] = False
    #: Settings of the service.
    settings: ClassVar[Mapping[str, Any]] = {}

    @pytest.fixture(scope="class")
    @classmethod
    def service(cls) -> Iterator[TaskService]:
        """Yield a service with one worker of the isolation."""
        with TaskService(1, isolation=cls.isolation, echo=None, on_exit="force", **cls.settings) as service:
            yield service

    @staticmethod
    def running(
        service: TaskService, function: Callable[..., Any], *args: Any, kind: str = "status", **options: Any
    ) -> TaskTracker:
        """Submit from a thread of its own and return the tracker once the task has an event of the kind."""
        request = TaskRequest(function, args, options=TaskOptions(**options))
        runs = threading.Event()

        def look(event: TaskEvent) -> None:
            if event.task_id == request.task_id and event.kind == kind:
                runs.set()

        subscription = service.events.subscribe(look)
        threading.Thread(target=service.push, args=(request,), daemon=True).start()
        try:
            assert runs.wait(SOON), "the task has not started"
        finally:
            subscription.dispose()
        return service.track(request.task_id)

    # -- results and errors --------------------------------------------------------------------------------------------

    def test_a_result_comes_back(self, service: TaskService) -> None:
        """E-01: arguments go in, the result comes out, with the events that belong to it."""
        tracker = service.submit(handlers.add, [1], right=["zwei"])
        assert [1, "zwei"] == tracker.result(timeout=SOON)
        events = all_events(tracker)
        assert ["running", "succeeded"] == words(events)
        assert [1, 2] == [event.seq for event in events]
        assert isinstance(events[-1], StatusEvent) and [1, "zwei"] == events[-1].result
        assert all(event.worker_id is not None and event.time.tzinfo is not None for event in events)

    def test_objects_come_back_whole(self, service: TaskService) -> None:
        """R7: what is no JSON comes back as it was."""
        expected = {"a": (1, {2}), "when": datetime(2020, 1, 1, tzinfo=UTC)}
        assert expected == service.submit(handlers.return_object).result(timeout=SOON)

    def test_a_large_array_goes_and_comes_whole(self, service: TaskService) -> None:
        """E-20: the same values whatever the isolation, and an array that its receiver can write to."""
        numpy = pytest.importorskip("numpy")
        given = numpy.arange(300_000.0).reshape(300, 1000)
        result = service.submit(handlers.add, given.T, right=1).result(timeout=SOON)
        assert (1000, 300) == result.shape and numpy.array_equal(given.T + 1, result)
        result[0, 0] = 7
        assert 0 == given[0, 0]

    def test_an_object_that_was_put_stands_where_its_handle_was(self, service: TaskService) -> None:
        """E-20: at any depth, by position and by name, for as many tasks as want it."""
        with service.put([1, 2]) as handle:
            for _ in range(2):
                assert [1, 2, 3] == service.submit(handlers.add, handle, [3]).result(timeout=SOON)
                assert [3, 1, 2] == service.submit(handlers.add, [3], right=handle).result(timeout=SOON)
            nested = service.submit(handlers.add, {"a": [(0, handle)]}["a"], [{"b": handle}])
            assert [(0, [1, 2]), {"b": [1, 2]}] == nested.result(timeout=SOON)

    def test_an_object_is_the_same_for_the_tasks_of_a_worker(self, service: TaskService) -> None:
        """E-20: not a copy for each task."""
        with service.put([1, 2]) as handle:
            assert 1 == len({service.submit(id, handle).result(timeout=SOON) for _ in range(3)})

    def test_a_handle_that_is_not_good_here_is_refused(self, service: TaskService) -> None:
        """E-20: released, or of another service: submit says so and where it stands; nothing is queued."""
        with service.put([1]) as released, TaskService(0).put([2]) as foreign:
            released.release()
            for handle, reason in ((released, "was released"), (foreign, "service that gave it|of another service")):
                for keep in (False, True):
                    other = service.put([3]) if keep else None
                    with pytest.raises(PayloadError, match=reason) as caught:
                        service.submit(handlers.add, [1, {"x": handle}])
                    assert "args[0][1]['x']" == caught.value.path
                    del other
            assert 3 == service.submit(handlers.add, 1, 2).result(timeout=SOON)

    def test_tasks_that_were_given_a_handle_outlive_it(self, service: TaskService) -> None:
        """E-20: what was submitted before the release finds the object."""
        with service.put([1]) as handle:
            later = service.with_options(delay=0.05).submit(handlers.add, handle, [2])
        assert [1, 2] == later.result(timeout=SOON)

    def test_an_error_is_raised_again_with_where_it_came_from(self, service: TaskService) -> None:
        """E-13: class, arguments, code, details, cause and traceback survive."""
        tracker = service.submit(handlers.refuse, 12)
        with pytest.raises(handlers.Refused) as caught:
            tracker.result(timeout=SOON)
        assert (12,) == caught.value.args
        info = tracker.error
        assert info is not None
        assert ("rxtasks.testing.handlers.Refused", "12") == (info.type, info.message)
        assert ("E_REFUSED", {"amount": 12, "limits": [1, 2]}) == (info.code, info.details)
        assert "in refuse" in info.traceback and "raise Refused(amount)" in info.traceback
        assert info.cause is not None and "KeyError" == info.cause.type
        if self.travels:
            assert "in refuse" in str(caught.value.__cause__)
        assert ["running", "failed"] == words(all_events(tracker))

    def test_an_error_that_cannot_be_rebuilt_is_shown(self, service: TaskService) -> None:
        """E-13: TaskFailed shows what cannot travel; in one process it is the exception itself."""
        tracker = service.submit(handlers.raise_unbuildable)
        with pytest.raises(Exception, match="cannot be rebuilt") as caught:
            tracker.result(timeout=SOON)
        assert self.travels == isinstance(caught.value, TaskFailed)
        assert tracker.error is not None and 7 == tracker.error.code
        assert tracker.error.type.endswith("Local")

    def test_a_result_that_cannot_travel_fails_its_task_only(self, service: TaskService) -> None:
        """R26: PayloadError names the culprit; in one process objects are handed over."""
        tracker = service.submit(handlers.return_lock)
        if self.travels:
            with pytest.raises(PayloadError, match="lock"):
                tracker.result(timeout=SOON)
            assert ["running", "failed"] == words(all_events(tracker))
        else:
            assert "lock" in type(tracker.result(timeout=SOON)).__name__
        assert 3 == service.submit(handlers.add, 1, 2).result(timeout=SOON)

    # -- what a handler says -------------------------------------------------------------------------------------------

    def test_everything_said_is_logged_in_order(self, service: TaskService) -> None:
        """E-10: print, stderr, logging, warnings, loguru and the context's log become events, in order."""
        tracker = service.submit(handlers.say)
        assert "said" == tracker.result(timeout=SOON)
        all_events(tracker)
        said = [(log.level, log.stream, log.message.split("\n")[0]) for log in tracker.log_tail]
        assert [(level, stream) for level, stream, _ in said] == [
            ("INFO", "stdout"),
            ("INFO", "log"),
            ("WARNING", "stderr"),
            ("WARNING", "logging"),
            ("WARNING", "warnings"),
            ("ERROR", "loguru"),
            ("DEBUG", "log"),
            ("INFO", "stdout"),
        ]
        for word, (_, _, message) in zip(
            ("one", "two 2", "three", "four 4", "five", "six", "seven", "eight"), said, strict=True
        ):
            assert word in message
        assert {"colour": "red", "size": 3}.items() <= tracker.log_tail[6].fields.items()

    def test_outputs_come_one_by_one(self, service: TaskService) -> None:
        """E-03: each value emitted is an output event, before the status that ends the attempt."""
        values = [1, "zwei", {"drei": [3]}, None, 0.5]
        tracker = service.submit(handlers.emit_each, values)
        assert 5 == tracker.result(timeout=SOON)
        events = all_events(tracker)
        assert values == [event.value for event in events if isinstance(event, OutputEvent)]
        assert list(range(1, 8)) == [event.seq for event in events]

    def test_progress_is_a_subsequence_with_the_last_value(self, service: TaskService) -> None:
        """R8, R10: progress may be conflated; the last one comes, before the end."""
        tracker = service.submit(handlers.count_up, 200)
        assert 200 == tracker.result(timeout=SOON)
        steps = [event for event in all_events(tracker) if isinstance(event, ProgressEvent)]
        assert steps and [s.current for s in steps] == sorted({s.current for s in steps})
        last = steps[-1]
        assert (200, 200, "counting", {"half": 99.5}) == (last.current, last.total, last.message, last.data)
        assert 1.0 == last.fraction
        assert tracker.last_progress == last

    def test_iterating_says_progress(self, service: TaskService) -> None:
        """E-09: ctx.track says how far it is, with len() as total."""
        tracker = service.submit(handlers.track_some)
        assert ["A", "B", "C"] == tracker.result(timeout=SOON)
        all_events(tracker)
        assert tracker.last_progress is not None
        assert (3, 3, "letters") == (
            tracker.last_progress.current,
            tracker.last_progress.total,
            tracker.last_progress.message,
        )

    @pytest.mark.parametrize("handler", [handlers.generate, handlers.generate_async])
    def test_what_a_generator_yields_is_emitted(self, service: TaskService, handler: Any) -> None:
        """E-11: generators, async ones too, emit what they yield."""
        tracker = service.submit(handler, 4)
        assert ("end" if handler is handlers.generate else None) == tracker.result(timeout=SOON)
        assert [0, 1, 2, 3] == [e.value for e in all_events(tracker) if isinstance(e, OutputEvent)]

    # -- async ---------------------------------------------------------------------------------------------------------

    def test_an_async_handler_runs(self, service: TaskService) -> None:
        """E-11: result, logs and current_task of a coroutine function."""
        tracker = service.submit(handlers.add_async, 1, 2)
        assert 3 == tracker.result(timeout=SOON)
        all_events(tracker)
        assert ["before", "after"] == [log.message for log in tracker.log_tail]

    def test_async_handlers_run_at_once_in_one_worker(self) -> None:
        """E-11: three that wait for each other end, each with its own logs."""
        if not self.concurrent:
            pytest.skip("each runs on its caller's thread")
        spec = WorkerSpec(1, self.isolation, concurrency=3)
        with TaskService([spec], echo=None, on_exit="force", **self.settings) as service:
            met = [service.submit(handlers.meet, "three", 3) for _ in range(3)]
            assert [0, 1, 2] == sorted(tracker.result(timeout=SOON) for tracker in met)
            said = [service.submit(handlers.add_async, n, n) for n in range(6)]
            for tracker in said:
                tracker.result(timeout=SOON)
                all_events(tracker)
                assert ["before", "after"] == [log.message for log in tracker.log_tail]

    def test_an_async_handler_is_cancelled_where_it_waits(self, service: TaskService) -> None:
        """W-09: cancel arrives as asyncio's; cleaning up may still log."""
        tracker = self.running(service, handlers.sleep_long, kind="log")
        assert tracker.cancel("no need")
        with pytest.raises(TaskCancelled, match="no need"):
            tracker.result(timeout=SOON)
        all_events(tracker)
        assert ["begun", "cleaned up"] == [log.message for log in tracker.log_tail]

    # -- attempts ------------------------------------------------------------------------------------------------------

    def test_a_failed_attempt_is_tried_again(self, service: TaskService) -> None:
        """E-12, E-19: attempts, a log line for each retry, contiguous seq."""
        tracker = service.with_options(retry=AT_ONCE).submit(handlers.fail_before, 3)
        assert 3 == tracker.result(timeout=SOON)
        events = all_events(tracker)
        assert ["running", "retrying", "running", "retrying", "running", "succeeded"] == words(events)
        assert list(range(1, len(events) + 1)) == [event.seq for event in events]
        assert [1, 2, 3] == sorted({event.attempt for event in events})
        said = [log.message for log in tracker.log_tail]
        assert [
            "attempt 1",
            "retry 1/2: attempt 1 of this",
            "attempt 2",
            "retry 2/2: attempt 2 of this",
            "attempt 3",
        ] == said
        retrying = [e for e in events if isinstance(e, StatusEvent) and e.status is TaskStatus.RETRYING]
        assert all(e.error is not None and "OSError" == e.error.type for e in retrying)

    def test_the_last_attempt_fails_the_task(self, service: TaskService) -> None:
        """E-12: max_attempts counts attempts; what is in give_up_on is not tried again."""
        tracker = service.with_options(retry=AT_ONCE).submit(handlers.fail_before, 9)
        with pytest.raises(OSError, match="attempt 3 of this"):
            tracker.result(timeout=SOON)
        assert 3 == service.get(tracker.task_id).attempt
        never = RetryPolicy(max_attempts=3, base=0, give_up_on=(OSError,))
        tracker = service.with_options(retry=never).submit(handlers.fail_before, 9)
        with pytest.raises(OSError, match="attempt 1 of this"):
            tracker.result(timeout=SOON)

    def test_a_handler_asks_for_another_attempt(self, service: TaskService) -> None:
        """E-12: Retry needs no policy; with one it counts as an attempt, and with none left the task fails."""
        for view in (service, service.with_options(retry=AT_ONCE)):
            tracker = view.submit(handlers.ask_retry)
            assert 2 == tracker.result(timeout=SOON)
            assert ["running", "retrying", "running", "succeeded"] == words(all_events(tracker))
        tracker = service.with_options(retry=AT_ONCE).submit(handlers.ask_retry, 99)
        with pytest.raises(Exception, match="no attempt is left"):
            tracker.result(timeout=SOON)
        assert TaskStatus.FAILED == tracker.status and AT_ONCE.max_attempts == service.get(tracker.task_id).attempt

    def test_a_handler_asks_for_a_later_time(self, service: TaskService) -> None:
        """E-12: Reschedule runs it again, and costs no attempt of the policy."""
        tracker = service.submit(handlers.ask_later)
        assert 2 == tracker.result(timeout=SOON)
        assert ["running", "scheduled", "running", "succeeded"] == words(all_events(tracker))

    def test_a_handler_cancels_itself(self, service: TaskService) -> None:
        """E-12: Cancelled is not swallowed by `except Exception`."""
        tracker = service.submit(handlers.cancel_self)
        with pytest.raises(TaskCancelled, match="enough") as caught:
            tracker.result(timeout=SOON)
        assert "enough" == caught.value.reason
        assert ["running", "cancelled"] == words(all_events(tracker))

    def test_a_running_handler_is_cancelled_at_its_next_call(self, service: TaskService) -> None:
        """W-09: cooperative first: the context raises; a second cancel changes nothing."""
        tracker = self.running(service, handlers.until_cancelled)
        assert TaskStatus.RUNNING == tracker.status
        assert tracker.cancel("changed my mind")
        with pytest.raises(TaskCancelled, match="changed my mind"):
            tracker.result(timeout=SOON)
        assert not tracker.cancel()
        assert ["running", "cancelled"] == words(all_events(tracker))

    def test_a_handler_that_finishes_after_a_cancel_has_succeeded(self, service: TaskService) -> None:
        """W-09: the handler's own end counts; it can look at `cancelled`."""
        tracker = self.running(service, handlers.finish_when_cancelled)
        assert tracker.cancel()
        assert "finished" == tracker.result(timeout=SOON)
        all_events(tracker)
        assert ["finishing"] == [log.message for log in tracker.log_tail]

    # -- the context ---------------------------------------------------------------------------------------------------

    def test_the_context_is_found_in_the_call_stack(self, service: TaskService) -> None:
        """E-09: as a parameter, deep in the stack, and in threads that copied the context."""
        tracker = service.submit(handlers.find_context)
        found = tracker.result(timeout=SOON)
        assert found.pop("worker_id") in [info.worker_id for info in service.workers()]
        assert {
            "same": True,
            "task_id": tracker.task_id,
            "attempt": 1,
            "fence": True,
            "cancelled": False,
            "deadline": False,
        } == found

    def test_a_temp_dir_is_gone_after_the_attempt(self, service: TaskService) -> None:
        """W-17: temp_dir exists for the attempt and no longer."""
        first = service.submit(handlers.use_temp_dir).result(timeout=SOON)
        second = service.submit(handlers.use_temp_dir).result(timeout=SOON)
        assert first != second
        assert not Path(first).exists() and not Path(second).exists()

    def test_a_checkpoint_is_restored_in_the_next_attempt(self, service: TaskService) -> None:
        """E-09: the last state saved by an earlier attempt is `restored`."""
        tracker = service.with_options(retry=AT_ONCE).submit(handlers.resume)
        assert {"at": (2, b"x")} == tracker.result(timeout=SOON)

    # -- accounts ------------------------------------------------------------------------------------------------------

    def test_every_event_is_accounted_for(self, service: TaskService) -> None:
        """L-05: produced = delivered + conflated + dropped, per lane."""
        trackers = [service.submit(handlers.count_up, 50) for _ in range(20)]
        for tracker in trackers:
            assert 50 == tracker.result(timeout=SOON)
        assert service.flush(SOON)
        ledger = service.ledger()
        assert ledger.exact
        assert ledger.progress.produced >= 20 * 50
