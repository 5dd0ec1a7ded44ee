"""What code written for the executors of the standard library does with one, beside test_executor (N-03)."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, as_completed, wait
from typing import Any

import pytest

from rxtasks import TaskExecutor
from tests.acceptance import jobs
from tests.acceptance.support import SOON

ISOLATIONS = ["process", "thread", "inline"]


@pytest.fixture(params=ISOLATIONS)
def executor(request: pytest.FixtureRequest) -> Iterator[TaskExecutor]:
    with TaskExecutor(2, isolation=request.param, echo=None) as made:
        yield made


def fail_richly() -> None:
    error = ExceptionGroup("both", [ValueError(1), KeyError(2)])
    error.add_note("a note")
    raise error


def stop() -> None:
    raise StopIteration(3)


def names(**given: int) -> dict[str, int]:
    return given


def test_its_futures_are_waited_for_beside_others(executor: TaskExecutor) -> None:
    """N-03: wait and as_completed take futures of several executors, and one twice."""
    with ThreadPoolExecutor(1) as threads:
        futures = [executor.submit(jobs.double, 1), threads.submit(jobs.double, 2)]
        futures.append(futures[0])
        assert [2, 4] == sorted(future.result() for future in as_completed(futures, timeout=SOON))
        assert 2 == len(wait(futures, timeout=SOON).done)


def test_a_failure_that_is_there_already_ends_a_wait_for_the_first(executor: TaskExecutor) -> None:
    """N-03: with FIRST_EXCEPTION nothing else is waited for."""
    failed, other = executor.submit(jobs.fail, "here"), Future[None]()
    assert isinstance(failed.exception(timeout=SOON), ValueError)
    assert ({failed}, {other}) == tuple(wait([failed, other], timeout=SOON, return_when=FIRST_EXCEPTION))


def test_errors_come_with_their_parts(executor: TaskExecutor) -> None:
    """N-03: groups and notes, and StopIteration as what it is."""
    error = executor.submit(fail_richly).exception(timeout=SOON)
    assert isinstance(error, ExceptionGroup)
    assert (["a note"], ["ValueError(1)", "KeyError(2)"]) == (error.__notes__, [repr(e) for e in error.exceptions])
    stopped = executor.submit(stop).exception(timeout=SOON)
    assert isinstance(stopped, StopIteration) and 3 == stopped.value


def test_any_keyword_is_the_function_s(executor: TaskExecutor) -> None:
    """N-03: also those that submit has names of its own for."""
    given = dict.fromkeys(("self", "fn", "function", "args", "kwargs", "options", "timeout"), 1)
    assert given == executor.submit(names, **given).result(timeout=SOON)


def test_an_error_of_the_items_comes_where_they_are_read(executor: TaskExecutor) -> None:
    """N-03: at the call of map; with a buffer, from the iterator, which ends with it."""

    def items() -> Iterator[int]:
        yield from range(3)
        raise LookupError("no more")

    with pytest.raises(LookupError):
        executor.map(jobs.double, items())
    results = executor.map(jobs.double, items(), buffersize=2)
    with pytest.raises(LookupError):
        list(results)
    assert [] == list(results)
    assert 2 == executor.submit(jobs.double, 1).result(timeout=SOON)


def test_a_map_with_a_buffer_takes_items_without_end(executor: TaskExecutor) -> None:
    """N-03: also beside others that end, and in chunks."""
    results = executor.map(jobs.double, itertools.count(), buffersize=3, chunksize=2)
    assert list(range(0, 20, 2)) == list(itertools.islice(results, 10))
    results.close()  # type: ignore[attr-defined]
    assert [0, 1, 4] == list(executor.map(pow, itertools.count(), [2, 2, 2], buffersize=1))


def test_a_map_that_nobody_reads_is_done_all_the_same() -> None:
    """N-03: `executor.map(print, items)` is how a standard executor is told to do something to each."""
    done: list[int] = []
    with TaskExecutor(2, isolation="thread", echo=None) as made:
        made.map(done.append, range(50))
    assert list(range(50)) == sorted(done)


def test_a_call_may_wait_for_another_where_a_worker_is_free() -> None:
    """N-03: threads submit to their own executor."""
    with TaskExecutor(2, isolation="thread", echo=None) as made:
        outer = made.submit(lambda: made.submit(jobs.double, 2).result(timeout=SOON) + 1)
        assert 5 == outer.result(timeout=SOON)


def test_a_callback_may_wait_for_another_call(executor: TaskExecutor) -> None:
    """N-03: it holds nothing up that ends calls."""
    seen: list[Any] = []
    told = threading.Event()

    def then(future: Future[int]) -> None:
        seen.append(executor.submit(jobs.double, future.result()).result(timeout=SOON))
        told.set()

    executor.submit(jobs.double, 2).add_done_callback(then)
    assert told.wait(SOON) and [8] == seen


def test_a_loop_wraps_its_futures(executor: TaskExecutor) -> None:
    """N-03: asyncio.wrap_future, and many calls at once."""

    async def main() -> list[int]:
        return await asyncio.gather(*(asyncio.wrap_future(executor.submit(jobs.double, n)) for n in range(20)))

    assert [2 * number for number in range(20)] == asyncio.run(main())


def test_dask_takes_it_as_the_pool_of_a_configuration(executor: TaskExecutor) -> None:
    """N-03: dask.config.set(scheduler=...), and pool= for its threads."""
    dask = pytest.importorskip("dask")
    total = dask.delayed(sum)([dask.delayed(jobs.double)(number) for number in range(5)])
    with dask.config.set(scheduler=executor):
        assert 20 == total.compute()
    with dask.config.set(pool=executor):
        assert 20 == total.compute(scheduler="threads")
