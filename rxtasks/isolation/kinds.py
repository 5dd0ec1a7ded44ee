"""The table of isolations: one place that knows them all."""

from __future__ import annotations

from rxtasks.isolation.base import Host, Worker
from rxtasks.isolation.quickio import Receiver
from rxtasks.pool.info import WorkerSpec

__all__ = ["make_worker"]


def make_worker(worker_id: str, spec: WorkerSpec, host: Host, receiver: Receiver) -> Worker:
    """Return a new worker of the spec's isolation, not started yet; `receiver` is the core thread's to read with."""
    if spec.isolation == "process":
        from rxtasks.isolation.process import ProcessWorker

        return ProcessWorker(worker_id, spec, host, receiver)
    if spec.isolation == "thread":
        from rxtasks.isolation.thread import ThreadWorker

        return ThreadWorker(worker_id, spec, host)
    from rxtasks.isolation.inline import InlineWorker

    return InlineWorker(worker_id, spec, host)
