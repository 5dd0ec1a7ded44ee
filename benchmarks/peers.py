"""What a user would pick instead and has to install: six pools of two worker processes, behind one shape.

::

    with open_peer("loky") as peer:      started, and each worker has answered
        peer.each(noop, 1000)            tasks of their own
        peer.chunked(noop, 1000)         64 to a message, where the peer can
        peer.trip(noop, 7)               submit and result, one at a time

Each is used by the fastest of its own ways to do that. They keep quiet and to themselves: no dashboard, no usage
statistics, sockets on loopback, files in the temporary directory, which the harness removes.

Tasks of the slow ones are fewer, so that a measurement takes seconds; figures are per second, or of one task, anyway.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import Any

import attrs

from benchmarks.handlers import noop, process_id
from benchmarks.harness import Contender

__all__ = [
    "CHUNK",
    "PEERS",
    "PEER_LABELS",
    "WORKERS",
    "Function",
    "Peer",
    "open_peer",
    "peer_contenders",
]

WORKERS = 2
#: Tasks that are sent together, where a peer can send several.
CHUNK = 64

#: Tasks until a peer counts as warm, again and again until all its workers have answered, within so many seconds.
_WARM_UP = 100
_WARM_WITHIN = 60.0

Function = Callable[[int], int]


@attrs.frozen(kw_only=True)
class Peer:
    """A pool that runs a function of the numbers below a count."""

    #: Each number as a task of its own; results in order.
    each: Callable[[Function, int], list[int]]
    #: One number, until its result is there.
    trip: Callable[[Function, int], int]
    #: 64 numbers to a message, results in any order; None: it cannot send several as one.
    chunked: Callable[[Function, int], list[int]] | None = None
    #: It is measured with so many times fewer tasks than the others, sent at once ...
    fewer: int = 1
    #: ... and one at a time.
    fewer_trips: int = 1


@contextmanager
def open_peer(name: str) -> Iterator[Peer]:
    """Start the peer of that name, wait until all its workers have run tasks, and end it with the block.

    Raises:
        AssertionError: a worker has not answered within a minute.
    """
    with PEERS[name][1]() as peer:
        end = time.monotonic() + _WARM_WITHIN
        while len(set(peer.each(process_id, _WARM_UP))) < WORKERS:
            if time.monotonic() > end:
                raise AssertionError(f"fewer than {WORKERS} workers of {name} answered within {_WARM_WITHIN:g} s")
        peer.each(noop, _WARM_UP)
        yield peer


@contextmanager
def _loky() -> Iterator[Peer]:
    from loky import ProcessPoolExecutor

    with ProcessPoolExecutor(WORKERS) as pool:
        yield Peer(
            each=lambda function, count: [f.result() for f in [pool.submit(function, n) for n in range(count)]],
            trip=lambda function, number: pool.submit(function, number).result(),
            chunked=lambda function, count: list(pool.map(function, range(count), chunksize=CHUNK)),
            fewer=2,
        )


@contextmanager
def _pebble() -> Iterator[Peer]:
    from pebble import ProcessPool

    with ProcessPool(WORKERS) as pool:

        def start(function: Function, number: int) -> Any:
            return pool.schedule(function, args=(number,))

        yield Peer(
            each=lambda function, count: [f.result() for f in [start(function, n) for n in range(count)]],
            trip=lambda function, number: start(function, number).result(),
            chunked=lambda function, count: list(pool.map(function, range(count), chunksize=CHUNK).result()),
        )


@contextmanager
def _mpire() -> Iterator[Peer]:
    from mpire import WorkerPool

    with WorkerPool(WORKERS, keep_alive=True) as pool:

        def start(function: Function, number: int) -> Any:
            return pool.apply_async(function, (number,))

        yield Peer(
            each=lambda function, count: [result.get() for result in [start(function, n) for n in range(count)]],
            trip=lambda function, number: start(function, number).get(),
            chunked=lambda function, count: list(pool.imap_unordered(function, range(count), chunk_size=CHUNK)),
            fewer=2,
        )


@contextmanager
def _joblib() -> Iterator[Peer]:
    from joblib import Parallel, delayed
    from joblib.externals.loky import get_reusable_executor

    # Without its files for large arrays, which it would make in /dev/shm.
    shared: dict[str, Any] = {"n_jobs": WORKERS, "return_as": "generator", "pre_dispatch": "all", "max_nbytes": None}
    with Parallel(batch_size=1, **shared) as each, Parallel(batch_size=CHUNK, **shared) as chunked:

        def run(parallel: Any, function: Function, numbers: range) -> list[int]:
            return list(parallel(delayed(function)(number) for number in numbers))

        yield Peer(
            each=lambda function, count: run(each, function, range(count)),
            trip=lambda function, number: run(each, function, range(number, number + 1))[0],
            chunked=lambda function, count: run(chunked, function, range(count)),
            fewer=4,
            fewer_trips=50,
        )
    get_reusable_executor().shutdown(wait=True)


@contextmanager
def _ray() -> Iterator[Peer]:
    # Read when Ray is imported and by the processes that it starts. It asks for the metadata of a cloud in any case: by a
    # proxy that is not there. Without the last its sockets listen on all interfaces, whatever address it is given.
    os.environ.update(
        RAY_USAGE_STATS_ENABLED="0",
        RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
        http_proxy="http://127.0.0.1:9",
        no_proxy="127.0.0.1,localhost",
        RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",
    )
    import ray

    ray.init(
        num_cpus=WORKERS,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=80 * 2**20,
        _node_ip_address="127.0.0.1",
        _temp_dir=tempfile.mkdtemp(prefix="ray-"),
    )
    try:
        # A function is sent to the workers once.
        remote: Any = cache(ray.remote)
        yield Peer(
            each=lambda function, count: ray.get([remote(function).remote(number) for number in range(count)]),
            trip=lambda function, number: ray.get(remote(function).remote(number)),
            fewer=5,
            fewer_trips=10,
        )
    finally:
        ray.shutdown()


@contextmanager
def _dask() -> Iterator[Peer]:
    from distributed import Client, LocalCluster

    cluster = LocalCluster(
        n_workers=WORKERS,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address=None,
        silence_logs=logging.CRITICAL,
        local_directory=tempfile.mkdtemp(prefix="dask-"),
    )
    with cluster, Client(cluster) as client:

        def start(function: Function, number: int) -> Any:
            return client.submit(function, number, pure=False)

        yield Peer(
            each=lambda function, count: client.gather([start(function, n) for n in range(count)]),
            trip=lambda function, number: start(function, number).result(),
            fewer=20,
            fewer_trips=50,
        )


#: By the module that must be there: as the table names it, and how it is opened.
PEERS: Mapping[str, tuple[str, Callable[[], AbstractContextManager[Peer]]]] = {
    "loky": ("loky.submit", _loky),
    "pebble": ("Pebble.schedule", _pebble),
    "mpire": ("mpire.apply_async", _mpire),
    "joblib": ("joblib.Parallel", _joblib),
    "distributed": ("Dask.submit", _dask),
    "ray": ("Ray.remote", _ray),
}
PEER_LABELS = tuple(label for label, _ in PEERS.values())


def peer_contenders(target: str) -> tuple[Contender, ...]:
    """Return a contender for each peer; the function `target` gets its name."""
    return tuple(Contender(label, target, {"name": name}, needs=name) for name, (label, _) in PEERS.items())
