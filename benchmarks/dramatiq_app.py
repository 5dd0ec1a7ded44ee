"""The module that dramatiq's workers import (queues.py)."""

from __future__ import annotations

import os

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends.redis import RedisBackend

from benchmarks.queues import REDIS_SOCKET

_SOCKET = os.environ[REDIS_SOCKET]
#: Results have a database of their own, so that they can be counted at once.
_RESULTS = redis.Redis(unix_socket_path=_SOCKET, db=1)

_broker = RedisBroker(url=f"unix://{_SOCKET}")
_broker.add_middleware(Results(backend=RedisBackend(client=_RESULTS)))
dramatiq.set_broker(_broker)


@dramatiq.actor(store_results=True)
def noop_task(value: int) -> int:
    """Return `value`."""
    return value


def finished() -> int:
    """Return how many results are stored."""
    return int(_RESULTS.dbsize())


def forget() -> None:
    """Remove the results."""
    _RESULTS.flushdb()
