"""TaskExecutor as a concurrent.futures.Executor (N-03); its end is in test_executor_end."""

from __future__ import annotations

import asyncio
import gc
import logging
import multiprocessing
import os
import signal
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    InvalidStateError,
    as_completed,
    wait,
)
from itertools import accumulate, repeat
from pathlib import Path
from typing import Any

import pytest

from rxtasks import (
    PayloadError,
    SettingsError,
    StatusEvent,
    TaskExecutor,
    TaskFailed,
    TaskService,
    WorkerCrashed,
    WorkerStartError,
)
from rxtasks.testing import handlers
from tests.acceptance import jobs
from tests.acceptance.support import SOON, Gate, Recorder, recorded

ISOLATIONS = ["process", "thread", "inline"]
#: Where a call can wait while the test goes on.
APART = ["process", "thread"]


def executor(isolation: str = "thread", workers: int = 1, **more: Any) -> TaskExecutor:
    return TaskExecutor(workers, isolation=isolation, **{"echo": None, **more})


@pytest.fixture(params=ISOLATIONS)
def any_executor(request: pytest.FixtureRequest) -> Iterator[TaskExecutor]:
    with executor(request.param, 2) as made:
        yield made


class Value:
    """Something that can be referred to weakly."""


def make_value(_: int) -> Value:
    return Value()


def ends(events: Recorder) -> list[str]:
    """Return how the tasks of a stream that is over ended, sorted."""
    return sorted(e.status for e in events.over().values if isinstance(e, StatusEvent) and e.status.terminal)


# -- submit ----------------------------------------------------------------------------------------------------------------


def test_it_is_an_executor_and_gives_futures(any_executor: TaskExecutor) -> None:
    """N-03: a call's future has its result, its exception and its state, as documented."""
    assert isinstance(any_executor, Executor)
    future = any_executor.submit(jobs.double, number=4)
    assert isinstance(future, Future)
    assert 8 == future.result(timeout=SOON)
    assert future.done() and not future.running() and not future.cancelled() and not future.cancel()
    assert future.exception() is None
    failed = any_executor.submit(jobs.fail, "no")
    with pytest.raises(ValueError, match="no"):
        failed.result(timeout=SOON)
    assert isinstance(failed.exception(), ValueError) and failed.done()


def test_a_future_is_done_as_soon_as_its_result_is_there(any_executor: TaskExecutor) -> None:
    """N-03: whoever has the result finds the future done, in the eyes of wait(), too."""
    for number in range(200):
        future = any_executor.submit(jobs.double, number)
        assert 2 * number == future.result(timeout=SOON)
        assert future.done() and {future} == wait([future], timeout=0).done


def test_the_worker_s_traceback_is_the_cause() -> None:
    """N-03: as with ProcessPoolExecutor, the traceback shows the line that raised in the worker."""
    with executor("process") as made:
        error = made.submit(jobs.fail, "no").exception(timeout=SOON)
    assert error is not None and "raise ValueError(message)" in str(error.__cause__)


def test_what_leaves_the_interpreter_fails_its_call_only(any_executor: TaskExecutor) -> None:
    """N-03: sys.exit in a call ends no process and no wait."""
    error = any_executor.submit(exec, "raise SystemExit(3)").exception(timeout=SOON)
    assert isinstance(error, TaskFailed | SystemExit)
    assert 2 == any_executor.submit(jobs.double, 1).result(timeout=SOON)


@pytest.mark.parametrize("isolation", APART)
def test_a_call_that_runs_is_not_cancelled_and_one_that_waits_is(isolation: str, tmp_path: Path) -> None:
    """N-03: cancel() is true only before a call runs; then cancelled() is true at once and callbacks were called here."""
    gate = Gate(tmp_path)
    with executor(isolation) as made:
        first = made.submit(jobs.wait_at, gate.path, "first")
        statuses = recorded(first.tracker.statuses)
        with open(gate.path, "w", encoding="utf-8"):
            statuses.wait(lambda r: bool(r.values))
            assert first.running() and not first.cancel() and not first.done()
            second, third = made.submit(jobs.double, 2), made.submit(jobs.double, 3)
            called: list[tuple[Future[Any], bool]] = []
            me = threading.get_ident()
            second.add_done_callback(lambda future: called.append((future, threading.get_ident() == me)))
            assert not second.running()
            assert second.cancel() and second.cancelled() and second.done() and second.cancel()
            assert [(second, True)] == called
            assert {second} == wait([first, second], timeout=0).done
            with pytest.raises(CancelledError):
                second.result()
            with pytest.raises(CancelledError):
                second.exception()
        assert "first" == first.result(timeout=SOON) and 6 == third.result(timeout=SOON)
        assert not first.cancelled()


def test_each_of_many_cancels_gets_its_own_answer(tmp_path: Path) -> None:
    """N-03: those that end earlier, wait in the service, or wait in a worker are answered at different times."""
    gate, said = Gate(tmp_path), str(tmp_path / "said")
    with executor() as made:
        assert [None] * 50 == [made.submit(jobs.wait_or_note, None, said).result(timeout=SOON) for _ in range(50)]
        slow = made.submit(jobs.wait_or_note, gate.path, said)
        others = [made.submit(jobs.wait_or_note, None, said) for _ in range(20)]
        with open(gate.path, "w", encoding="utf-8"):
            engine = made.service.engine
            late = [made.service.submit(jobs.wait_or_note, None, said) for _ in range(3)]
            asked = [late[0], others[0].tracker, slow.tracker, others[1].tracker, late[1]]
            assert [True, True, False, True, True] == engine.withdraw([tracker.task_id for tracker in asked])
        assert slow.result(timeout=SOON) is None and not slow.cancelled()
        assert others[0].cancelled() and others[1].cancelled() and others[2].result(timeout=SOON) is None


@pytest.mark.parametrize("isolation", APART)
def test_a_call_that_was_sent_to_a_busy_worker_is_cancelled(isolation: str, tmp_path: Path) -> None:
    """N-03: calls of a function that was quick so far wait in the worker itself; they have not begun there."""
    gate, said = Gate(tmp_path), str(tmp_path / "said")
    with executor(isolation) as made:
        assert [None] * 50 == [made.submit(jobs.wait_or_note, None, said).result(timeout=SOON) for _ in range(50)]
        slow = made.submit(jobs.wait_or_note, gate.path, said)
        others = [made.submit(jobs.wait_or_note, None, said) for _ in range(20)]
        with open(gate.path, "w", encoding="utf-8"):
            assert [True] * 10 == [future.cancel() for future in others[::2]]
            assert not slow.cancel()
        assert slow.result(timeout=SOON) is None
        assert [None] * 10 == [future.result(timeout=SOON) for future in others[1::2]]
    assert "quick\n" * 60 + "slow\n" == "".join(sorted(Path(said).read_text("utf-8").splitlines(keepends=True)))


def test_a_result_is_set_by_the_worker_only() -> None:
    """N-03: what only an executor may do to a future is refused to others."""
    with executor() as made:
        future = made.submit(jobs.double, 1)
        with pytest.raises(InvalidStateError, match="set by its worker"):
            future.set_result(5)
        with pytest.raises(InvalidStateError, match="set by its worker"):
            future.set_exception(ValueError())
        assert 2 == future.result(timeout=SOON)


@pytest.mark.parametrize("isolation", APART)
def test_wait_and_as_completed_see_calls_as_they_end(isolation: str, tmp_path: Path) -> None:
    """N-03: the module's functions work on the futures."""
    gate = Gate(tmp_path)
    with executor(isolation, 2) as made:
        slow, quick = made.submit(jobs.wait_at, gate.path, 1), made.submit(jobs.double, 1)
        with open(gate.path, "w", encoding="utf-8"):
            done, waiting = wait([slow, quick], timeout=SOON, return_when=FIRST_COMPLETED)
            assert ({quick}, {slow}) == (done, waiting)
        assert {slow, quick} == set(as_completed([slow, quick], timeout=SOON))


def test_callbacks_are_called_once_each_and_one_that_raises_harms_nobody(
    any_executor: TaskExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    """N-03: in the order in which they were added; an exception is logged; after the end they are called at once."""
    called: list[str] = []
    ended = threading.Event()
    future = any_executor.submit(jobs.double, 1)
    future.add_done_callback(lambda _: called.append("first"))
    with caplog.at_level(logging.ERROR):
        future.add_done_callback(lambda _: 1 // 0)  # type: ignore[arg-type, return-value]
        future.add_done_callback(lambda _: called.append("last"))
        future.add_done_callback(lambda _: ended.set())
        assert ended.wait(SOON)
    assert ["first", "last"] == called
    assert any("ZeroDivisionError" in str(record.exc_info) for record in caplog.records)
    assert 2 == future.result(timeout=SOON)
    me = threading.get_ident()
    where: list[int] = []
    future.add_done_callback(lambda _: where.append(threading.get_ident()))
    assert [me] == where


def test_looking_at_calls_as_they_end_misses_none(any_executor: TaskExecutor) -> None:
    """N-03: what waits and calls back is made when somebody looks, be it in the moment in which the call ends."""
    number = 500
    called: list[int] = []
    futures = [any_executor.submit(jobs.double, each) for each in range(number)]
    waiting = threading.Thread(target=lambda: wait(futures, SOON))
    waiting.start()
    for each, future in enumerate(futures):
        future.add_done_callback(lambda _, each=each: called.append(each))  # type: ignore[misc]
    assert {*futures} == {*as_completed(futures, SOON)}
    waiting.join(SOON)
    assert not waiting.is_alive()
    any_executor.shutdown()  # callbacks have been called then
    assert sorted(called) == list(range(number))
    assert [2 * each for each in range(number)] == [future.result() for future in futures]


def test_a_call_that_nobody_looks_at_costs_no_condition() -> None:
    """N-03: what concurrent.futures keeps for those who wait is not made for each of a million calls."""
    with executor() as made:
        future = made.submit(jobs.double, 1)
    assert future.result() == 2
    assert not {"_condition", "_waiters", "_done_callbacks"} & set(vars(future))
    assert future.done()
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = future.nothing


def test_a_callback_may_submit_the_next_call(any_executor: TaskExecutor) -> None:
    """N-03: code that dispatches from callbacks, as joblib does, goes on to its end."""
    left, results, over = list(range(100)), [], threading.Event()

    def dispatch(before: Future[int] | None) -> None:
        if before is not None:
            results.append(before.result())
        if left:
            any_executor.submit(jobs.double, left.pop(0)).add_done_callback(dispatch)
        else:
            over.set()

    dispatch(None)
    assert over.wait(SOON)
    assert [2 * number for number in range(100)] == results


@pytest.mark.parametrize("isolation", ["process", "thread"])
def test_nothing_of_an_ended_call_is_kept(isolation: str) -> None:
    """N-03: neither the function with what it holds, nor arguments, nor a result that was taken."""
    with executor(isolation) as made:
        held = Value()
        reference = weakref.ref(held)
        gone = threading.Event()
        weakref.finalize(held, gone.set)
        made.submit(lambda value=held: type(value).__name__).result(timeout=SOON)
        del held
        assert gone.wait(SOON) and reference() is None
        for value in made.map(make_value, range(20)):
            reference = weakref.ref(value)
            gone = threading.Event()
            weakref.finalize(value, gone.set)
            del value
            gc.collect()
            assert gone.wait(SOON), "the executor holds on to a result"


def test_an_idle_thread_keeps_nothing_of_its_last_call() -> None:
    """N-03: what a call was given and what it returned live as long as somebody else holds them."""
    with executor("thread") as made:
        for called in (str, lambda value: value):
            held, gone = Value(), threading.Event()
            weakref.finalize(held, gone.set)
            made.submit(called, held).result(timeout=SOON)
            del held
            assert gone.wait(SOON), "the worker holds on to its last call"


# -- what cannot travel ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fn", "args", "path"),
    [
        (jobs.double, (threading.Lock(),), "args[0]"),
        (threading.Lock().acquire, (), "function"),
        (threading.Lock, (), "result"),
    ],
    ids=["argument", "function", "result"],
)
def test_what_cannot_travel_is_told_by_the_future(fn: Callable[..., Any], args: tuple[Any, ...], path: str) -> None:
    """N-03: submit does not raise; the event stream shows the failed call; all others go on."""
    with executor("process") as made:
        events = recorded(made.service.events)
        future = made.submit(fn, *args)
        error = future.exception(timeout=SOON)
        assert isinstance(error, PayloadError) and error.path.startswith(path)
        assert 2 == made.submit(jobs.double, 1).result(timeout=SOON)
    failed = [e for e in events.values if isinstance(e, StatusEvent) and e.status.terminal]
    assert [(future.tracker.task_id, "failed"), "succeeded"] == [
        (failed[0].task_id, failed[0].status),
        failed[1].status,
    ]


class Leaves:
    """Ends the process that rebuilds it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exit, (3,)


def make_leaves() -> Leaves:
    return Leaves()


def test_a_result_that_would_end_the_caller_is_an_error_of_its_call() -> None:
    """N-03: rebuilding a result never exits the process that asks for it."""
    with executor("process") as made:
        future = made.submit(make_leaves)
        with pytest.raises(PayloadError, match="SystemExit"):
            future.result(timeout=SOON)


def test_lambdas_closures_and_partials_travel() -> None:
    """N-03: more than ProcessPoolExecutor takes."""
    offset = 5
    with executor("process") as made:
        assert 12 == made.submit(lambda number: number + offset, 7).result(timeout=SOON)
        assert [5, 6, 7, 8] == list(made.map(lambda number: number + offset, range(4), chunksize=3))


# -- map -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunksize", [1, 3, 10, 100])
@pytest.mark.parametrize("buffersize", [None, 1, 4])
def test_map_gives_results_in_order(any_executor: TaskExecutor, chunksize: int, buffersize: int | None) -> None:
    """N-03: whatever the chunks and the buffer, as the built-in map does."""
    found = any_executor.map(pow, range(10), range(2, 12), chunksize=chunksize, buffersize=buffersize)
    assert list(map(pow, range(10), range(2, 12))) == list(found)
    assert [] == list(any_executor.map(pow, [], range(2), chunksize=chunksize, buffersize=buffersize))


@pytest.mark.parametrize("chunksize", [1, 4, 100])
def test_a_failure_of_a_map_comes_in_its_place(any_executor: TaskExecutor, chunksize: int) -> None:
    """N-03: all results before it are yielded, in its own chunk, too; the error is the call's own, with its traceback."""
    results = any_executor.map(jobs.fail_on, [6] * 10, range(10), chunksize=chunksize)
    assert list(range(6)) == [next(results) for _ in range(6)]
    with pytest.raises(ValueError, match="bad 6") as raised:
        next(results)
    cause = raised.value.__cause__
    assert cause is None or "bad {number}" in str(cause)
    assert [] == list(results)


def test_an_error_of_a_chunk_that_cannot_be_rebuilt_is_shown() -> None:
    """N-03: as for a call of its own."""
    with executor("process") as made, pytest.raises(TaskFailed, match="cannot be rebuilt"):
        list(made.map(lambda _: handlers.raise_unbuildable(), range(2), chunksize=2))


def test_the_time_of_a_map_counts_from_the_call(tmp_path: Path) -> None:
    """N-03: then TimeoutError, and what waits is cancelled."""
    gate = Gate(tmp_path)
    with executor() as made:
        events = recorded(made.service.events)
        results = made.map(jobs.wait_at, [gate.path] * 3, timeout=0.05)
        with open(gate.path, "w", encoding="utf-8"), pytest.raises(TimeoutError):  # the first one runs
            next(results)
        assert [] == list(results)
    assert ["cancelled", "cancelled", "succeeded"] == ends(events)


def test_closing_a_map_cancels_what_waits(tmp_path: Path) -> None:
    """N-03: the iterator's close is the end of its calls; the one that runs goes on."""
    gate = Gate(tmp_path)
    with executor() as made:
        events = recorded(made.service.events)
        results = made.map(lambda number: number or jobs.wait_at(gate.path), [7, 0, 1, 2])
        assert 7 == next(results)
        with open(gate.path, "w", encoding="utf-8"):
            results.close()  # type: ignore[attr-defined]
    assert ["cancelled", "cancelled", "succeeded", "succeeded"] == ends(events)


def test_ten_thousand_calls_in_bounded_memory() -> None:
    """N-03: with a buffer the items are read as results are taken; the engine holds no more tasks than that."""
    read, most = 0, 0

    def items() -> Iterator[int]:
        nonlocal read
        for number in range(10_000):
            read += 1
            yield number

    with executor("process", 2, retain=100) as made:
        for taken, result in enumerate(made.map(jobs.double, items(), buffersize=50)):
            assert 2 * taken == result
            assert read <= taken + 51
            most = max(most, len(made.service.engine.outlet.trackers))
    assert 10_000 == read and most <= 51


def test_a_map_reads_all_items_at_once_without_a_buffer() -> None:
    """N-03: as documented; nothing has been taken from it yet."""
    items = iter(range(30))
    with executor() as made:
        results = made.map(jobs.double, items)
        assert [] == list(items)
        assert [2 * number for number in range(30)] == list(results)


@pytest.mark.parametrize("fn", [jobs.double_later, jobs.double_and_tell])
def test_async_functions_and_those_with_a_context_are_mapped(
    any_executor: TaskExecutor, fn: Callable[..., Any]
) -> None:
    """N-03: in chunks, too."""
    assert [0, 2, 4, 6] == list(any_executor.map(fn, range(4), chunksize=3))


@pytest.mark.parametrize(
    ("more", "error", "match"),
    [
        ({"chunksize": 0}, ValueError, "chunksize must be >= 1"),
        ({"chunksize": 1.5}, TypeError, "chunksize must be an integer"),
        ({"buffersize": 0}, ValueError, "buffersize must be None or > 0"),
        ({"buffersize": "1"}, TypeError, "buffersize must be an integer or None"),
    ],
)
def test_map_refuses_sizes_that_are_none(more: dict[str, Any], error: type[Exception], match: str) -> None:
    """N-03: at the call, as the standard library does."""
    with executor() as made, pytest.raises(error, match=match):
        made.map(jobs.double, [1], **more)


# -- workers ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["exit", "kill"])
def test_a_dead_worker_fails_the_call_that_ran_in_it_and_no_other(how: str, tmp_path: Path) -> None:
    """N-03: the call ran once; what waited behind it, and what comes later, is run. No BrokenExecutor."""
    said = tmp_path / "said"
    with executor("process") as made:
        dying = made.submit(jobs.leave, 7) if how == "exit" else made.submit(jobs.note_and_die, str(said))
        others = [made.submit(jobs.double, number) for number in range(20)]
        error = dying.exception(timeout=SOON)
        assert isinstance(error, WorkerCrashed) and not isinstance(error, BrokenExecutor)
        assert (7, None) == (error.exit_code, error.signal) or signal.SIGKILL == error.signal
        assert [2 * number for number in range(20)] == [future.result(timeout=SOON) for future in others]
        assert 4 == made.submit(jobs.double, 2).result(timeout=SOON)
    if how == "kill":
        assert "begun\n" == said.read_text("utf-8")


def test_a_call_whose_worker_died_is_run_again_where_that_is_asked_for(tmp_path: Path) -> None:
    """N-03: max_crashes is how many workers one call may cost."""
    said = tmp_path / "said"
    with executor("process", max_crashes=2) as made:
        assert isinstance(made.submit(jobs.note_and_die, str(said)).exception(timeout=SOON), WorkerCrashed)
    assert "begun\n" * 2 == said.read_text("utf-8")


def test_the_initializer_is_called_in_each_worker_and_in_its_replacement(tmp_path: Path) -> None:
    """N-03: once, before the worker's first call."""
    said = tmp_path / "said"
    with executor("process", initializer=jobs.set_up, initargs=(str(said), "ready")) as made:
        first = made.submit(jobs.as_set_up).result(timeout=SOON)
        assert first == made.submit(jobs.as_set_up).result(timeout=SOON)
        assert isinstance(made.submit(jobs.leave, 1).exception(timeout=SOON), WorkerCrashed)
        second = made.submit(jobs.as_set_up).result(timeout=SOON)
    assert ["ready"] == first[1] == second[1] and first[0] != second[0]
    assert "ready\n" * 2 == said.read_text("utf-8")


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_an_initializer_that_raises_fails_each_call_and_hangs_none(isolation: str) -> None:
    """N-03: the error names what the initializer raised; so do calls that are submitted later."""
    with executor(isolation, 2, initializer=jobs.fail_to_set_up) as made:
        for _ in range(3):
            error = made.submit(jobs.double, 1).exception(timeout=SOON)
            assert isinstance(error, WorkerStartError) and "no licence" in str(error)
            assert not isinstance(error, BrokenExecutor)
        with pytest.raises(WorkerStartError, match="no licence"):
            list(made.map(jobs.double, range(3), chunksize=2))


@pytest.mark.parametrize(
    ("more", "error", "match"),
    [
        ({"max_workers": 0}, ValueError, "max_workers must be greater than 0"),
        ({"max_workers": -1}, ValueError, "max_workers must be greater than 0"),
        ({"max_workers": "2"}, TypeError, "max_workers must be an integer"),
        ({"max_workers": 1.5}, TypeError, "max_workers must be an integer"),
        ({"initializer": 5}, TypeError, "initializer must be a callable"),
        ({"max_tasks_per_child": 0}, ValueError, "max_tasks_per_child must be >= 1"),
        ({"max_tasks_per_child": "3"}, TypeError, "max_tasks_per_child must be an integer"),
        ({"max_tasks_per_child": 3, "isolation": "thread"}, SettingsError, "leave it out"),
        ({"max_tasks_per_child": 3, "max_tasks": 4}, SettingsError, "say the same"),
        ({"mp_context": multiprocessing.get_context("fork")}, SettingsError, "started afresh"),
        ({"mp_context": "spawn"}, TypeError, "mp_context is a context"),
        ({"thread_name_prefix": "mine"}, SettingsError, "leave it out"),
        ({"isolation": "thread", "mp_context": multiprocessing.get_context("spawn")}, SettingsError, "leave it out"),
        ({"isolation": "ray"}, SettingsError, "isolation is one of"),
        ({"max_crashes": 0}, SettingsError, "max_crashes"),
        ({"max_wokers": 3}, SettingsError, "there is no setting"),
    ],
)
def test_arguments_that_cannot_be_met_are_refused(more: dict[str, Any], error: type[Exception], match: str) -> None:
    """N-03: with the type of error of the standard library, and a sentence that says what to do."""
    with pytest.raises(error, match=match):
        TaskExecutor(**more)


def test_arguments_of_process_pools_that_change_nothing_are_taken() -> None:
    """N-03: worker processes are always started afresh."""
    for method in ("spawn", "forkserver"):
        TaskExecutor(1, mp_context=multiprocessing.get_context(method), max_tasks_per_child=None)
    assert len(os.sched_getaffinity(0)) == TaskExecutor()._max_workers
    assert min(32, len(os.sched_getaffinity(0)) + 4) == TaskExecutor(isolation="thread")._max_workers


@pytest.mark.parametrize(("most", "count", "seconds"), [(1, 12, 0.1), (3, 60, 0.0), (50, 1000, 0.0)])
def test_a_worker_process_runs_no_more_than_max_tasks_per_child(most: int, count: int, seconds: float) -> None:
    """N-03 W-11: then it is replaced; no call is lost, their order is kept, and no more run at once than there are workers."""
    with executor("process", 2, max_tasks_per_child=most) as made:
        calls = list(made.map(jobs.where_and_when, range(count), repeat(seconds)))
        again = [made.submit(os.getpid) for _ in range(count)]
        pids = [future.result(timeout=SOON) for future in again]
    assert list(range(count)) == [number for number, *_ in calls]
    runs = Counter([pid for _, pid, *_ in calls] + pids)
    assert (2 * count, most) == (runs.total(), max(runs.values()))
    moments = sorted([(began, 1) for *_, began, _ in calls] + [(ended, -1) for *_, ended in calls])
    assert max(accumulate(step for _, step in moments)) <= 2


def test_a_worker_is_replaced_by_the_bound_of_a_chunked_map_too() -> None:
    """N-03: a chunk counts as one call, as with ProcessPoolExecutor."""
    with executor("process", 1, max_tasks_per_child=2) as made:
        pids = [pid for _, pid, *_ in made.map(jobs.where_and_when, range(30), chunksize=5)]
    assert [10, 10, 10] == list(Counter(pids).values())


def test_threads_are_named_as_asked() -> None:
    """N-03: as by ThreadPoolExecutor, and the initializer is called all the same."""
    seen: list[str] = []
    named = executor("thread", 2, thread_name_prefix="mine", initializer=seen.append, initargs=["begun"])
    with named as made:
        name = made.submit(lambda: threading.current_thread().name).result(timeout=SOON)
        assert name in ("mine_0", "mine_1")
    assert ["begun", "begun"] == seen


def test_only_functions_are_submitted() -> None:
    """N-03: a name, which a service would look up, is none."""
    with executor() as made, pytest.raises(TypeError, match="an executor calls functions"):
        made.submit("acceptance.named", 1)  # type: ignore[arg-type]


# -- beside other libraries ------------------------------------------------------------------------------------------------


def test_an_event_loop_runs_calls_in_it(any_executor: TaskExecutor) -> None:
    """N-03: loop.run_in_executor and asyncio.wrap_future."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        calls = [loop.run_in_executor(any_executor, jobs.double, number) for number in range(50)]
        assert [2 * number for number in range(50)] == await asyncio.wait_for(asyncio.gather(*calls), SOON)
        assert 6 == await asyncio.wrap_future(any_executor.submit(jobs.double, 3))
        with pytest.raises(ValueError, match="no"):
            await loop.run_in_executor(any_executor, jobs.fail, "no")

    asyncio.run(main())


def test_cancelling_what_a_loop_awaits_cancels_a_call_that_waits(tmp_path: Path) -> None:
    """N-03: as with the executors of the standard library."""
    gate = Gate(tmp_path)

    async def main(made: TaskExecutor) -> Future[int]:
        waiting = made.submit(jobs.double, 3)
        awaited = asyncio.wrap_future(waiting)
        awaited.cancel()
        with pytest.raises(asyncio.CancelledError):
            await awaited
        return waiting

    with executor() as made:
        made.submit(jobs.wait_at, gate.path)
        with open(gate.path, "w", encoding="utf-8"):
            assert asyncio.run(main(made)).cancelled()


def test_dask_computes_in_it(any_executor: TaskExecutor) -> None:
    """N-03: dask.compute(scheduler=executor)."""
    dask = pytest.importorskip("dask")
    total = dask.delayed(sum)([dask.delayed(jobs.double)(number) for number in range(20)])
    assert (380,) == dask.compute(total, scheduler=any_executor)
    with pytest.raises(ValueError, match="no"):
        dask.compute(dask.delayed(jobs.fail)("no"), scheduler=any_executor)


def test_its_calls_are_tasks_on_the_stream_of_its_service() -> None:
    """N-03: service.events shows what each future tells."""
    with executor("process") as made:
        events = recorded(made.service.events)
        good, bad = made.submit(jobs.chat, 2), made.submit(jobs.fail, "no")
        good.result(timeout=SOON)
        bad.exception(timeout=SOON)
        assert 2 == good.tracker.last_progress.current  # type: ignore[union-attr]
    seen = [(e.task_id, e.kind, getattr(e, "status", None)) for e in events.over().values]
    assert [("status", "running"), ("status", "succeeded")] == [
        e[1:] for e in seen if e[0] == good.tracker.task_id and e[1] == "status"
    ]
    assert {"log", "output", "progress"} <= {kind for task_id, kind, _ in seen if task_id == good.tracker.task_id}
    assert (bad.tracker.task_id, "status", "failed") in seen


# -- an executor over a service --------------------------------------------------------------------------------------------


def test_a_service_gives_executors_that_end_without_it(tmp_path: Path) -> None:
    """N-03: shutdown waits for what the executor submitted, callbacks too, and for nothing else."""
    gate, called = Gate(tmp_path), Recorder()
    with TaskService(2, isolation="thread", echo=None) as service:
        other = service.submit(jobs.wait_at, gate.path, "other")
        with open(gate.path, "w", encoding="utf-8"):
            with service.executor() as made:
                futures = [made.submit(jobs.double, number) for number in range(10)]
                futures[-1].add_done_callback(called.on_next)
            assert all(future.done() for future in futures) and [futures[-1]] == called.values
            with pytest.raises(RuntimeError, match="after shutdown"):
                made.submit(jobs.double, 1)
            assert not other.done
            assert 2 == service.submit(jobs.double, 1).result(timeout=SOON)
            with service.executor() as second:
                assert [0, 2] == list(second.map(jobs.double, range(2)))
        assert "other" == other.result(timeout=SOON)


def test_an_executor_of_a_view_carries_its_options() -> None:
    """N-03: with_options(...).executor()."""
    with TaskService(1, isolation="thread", echo=None) as service:
        future = service.with_options(name="mine", tags=("nightly",)).executor().submit(jobs.double, 1)
        assert 2 == future.result(timeout=SOON)
        record = service.get(future.tracker.task_id)
        assert ("mine", ("nightly",)) == (record.name, record.options.tags)
