"""`TaskExecutor.map`: results in the order of the items, pulled from futures."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from rxtasks.errors import TaskFailed
from rxtasks.futures.chunk import ChunkFailed
from rxtasks.futures.future import ExecutorFuture
from rxtasks.wire.outcome import RemoteTraceback
from rxtasks.wire.payload import load_exception, loads

__all__ = ["in_chunks", "mapped"]


def in_chunks(calls: Iterator[tuple[Any, ...]], size: int) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the calls in lists of `size`; the last may be shorter."""
    while chunk := list(islice(calls, size)):
        yield chunk


def mapped(
    futures: Iterator[ExecutorFuture[Any]],
    cancel: Callable[[deque[ExecutorFuture[Any]]], None],
    *,
    buffersize: int | None,
    deadline: float | None,
    chunked: bool,
) -> Iterator[Any]:
    """Return the results of the futures, in their order; each step of `futures` submits one.

    All are submitted now, or `buffersize` of them, and one more for each that is taken out. When the iterator ends
    early (closed, out of time, a failure) the futures not taken yet are cancelled.

    Args:
        futures: submits.
        cancel: cancels those that it is given.
        buffersize: futures submitted and not taken yet; None = no limit.
        deadline: when the time is over (time.monotonic, seconds); None = never.
        chunked: each future holds a list of results.
    """
    ahead = deque(futures if buffersize is None else islice(futures, buffersize))
    return _results(ahead, futures, cancel, buffersize is not None, deadline, chunked)


def _results(
    ahead: deque[ExecutorFuture[Any]],
    futures: Iterator[ExecutorFuture[Any]],
    cancel: Callable[[deque[ExecutorFuture[Any]]], None],
    more: bool,
    deadline: float | None,
    chunked: bool,
) -> Iterator[Any]:
    # No name refers to a result or a future while it is yielded: the caller's is the only one.
    try:
        while ahead:
            if more:
                ahead.extend(islice(futures, 1))
            if not chunked:
                yield _take(ahead, deadline)
                continue
            values, failure = _take_chunk(ahead, deadline)
            while values:
                yield values.popleft()
            if failure is not None:
                try:
                    raise failure
                finally:
                    del failure
    finally:
        cancel(ahead)


def _take(ahead: deque[ExecutorFuture[Any]], deadline: float | None) -> Any:
    """Take the first future out when it has ended; it stays, to be cancelled with the others, when the time is over."""
    future = ahead[0]
    try:
        try:
            return future.result(None if deadline is None else max(0.0, deadline - time.monotonic()))
        finally:
            if future.done():
                ahead.popleft()
    finally:
        del future


def _take_chunk(ahead: deque[ExecutorFuture[Any]], deadline: float | None) -> tuple[deque[Any], BaseException | None]:
    try:
        return deque(_take(ahead, deadline)), None
    except ChunkFailed as failed:
        return deque(loads(failed.done, what="results")), _error(failed)


def _error(failed: ChunkFailed) -> BaseException:
    """Return the error of the call that failed, as the result of a task of its own would raise it."""
    original = failed.__cause__
    if original is not None and not isinstance(original, RemoteTraceback):
        return original  # it was raised in this process
    error = None if failed.error is None else load_exception(failed.error, failed.info)
    if error is None:
        error = TaskFailed(failed.info)
    if failed.info.traceback:
        error.__cause__ = RemoteTraceback(failed.info.traceback)
    return error
