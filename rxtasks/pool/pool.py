"""WorkerPool: the Subject that shows the workers and takes orders about them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol

from rxtasks.displayed import Displayed
from rxtasks.errors import RxTasksError
from rxtasks.observe.published import Published
from rxtasks.pool.events import WorkerEvent
from rxtasks.pool.info import PoolStatus, WorkerInfo
from rxtasks.text import counted

__all__ = ["PoolControl", "WorkerPool"]


class PoolControl(Protocol):
    """What stands behind a pool."""

    def start(self, *, wait: bool = True) -> None:
        """Start the workers."""

    def stop(self, *, force: bool = False) -> Any:
        """Stop the workers."""

    def scale(self, count: int) -> int:
        """Want so many workers; return the number after clamping."""

    def infos(self) -> list[WorkerInfo]:
        """Describe every worker."""

    def pool_status(self) -> PoolStatus:
        """Describe the pool."""

    def worker(self, worker_id: str) -> Any:
        """Return the Worker of this id, or None."""

    def broadcast(
        self, name: str, timeout: float | None = None, call: Callable[[], Any] | None = None
    ) -> dict[str, str | None]:
        """Send a command ("ping", "checkpoint", "call") to every worker and wait for the acknowledgements."""


class WorkerPool(Displayed, Published[WorkerEvent]):
    """The workers of one start of a service: subscribe to see WorkerEvents, call to change them.

    It is shown by the service as `service.pool`; each start makes a new one.
    """

    def __init__(self, control: PoolControl) -> None:
        super().__init__()
        self._control = control

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.in_words()}>"

    def in_words(self) -> str:
        """Return one line on its state: "running: 2 workers, 1 busy, 5 tasks wait"."""
        status = self.status()
        if not status.running:
            return "stopped" if self.is_stopped else "not running"
        waiting = "task waits" if status.pending == 1 else "tasks wait"
        return f"running: {counted(status.workers, 'worker')}, {status.busy} busy, {status.pending:,} {waiting}"

    def start(self) -> None:
        """Start the workers and wait until each is ready; idempotent.

        Raises:
            WorkerStartError: a worker could not start; holds its own error text.
        """
        self._control.start()

    def stop(self, *, force: bool = False) -> None:
        """Stop the workers: running tasks finish, unless `force`; idempotent."""
        self._control.stop(force=force)

    def scale(self, n: int) -> int:
        """Want `n` workers and return the number after clamping to what is possible.

        Scaling down stops idle workers first; busy ones finish what they run.
        """
        return self._control.scale(n)

    def workers(self) -> list[WorkerInfo]:
        """Describe every worker."""
        return self._control.infos()

    def worker(self, worker_id: str) -> Any:
        """Return the Worker of this id; its `events` are its tasks' TaskEvents.

        Raises:
            RxTasksError: there is no such worker (any more).
        """
        worker = self._control.worker(worker_id)
        if worker is None:
            known = ", ".join(info.worker_id for info in self.workers()) or "none"
            raise RxTasksError(f"no worker {worker_id!r} in this pool; its workers: {known}")
        return worker

    def status(self) -> PoolStatus:
        """Describe the pool."""
        return self._control.pool_status()

    def ping(self, timeout: float | None = 10.0) -> dict[str, str | None]:
        """Ask every worker for a sign of life; return worker id -> None, or an error text, for those that answered.

        Raises:
            TimeoutError: not all have answered after `timeout` seconds.
        """
        return self._control.broadcast("ping", timeout)

    def checkpoint(self, timeout: float | None = 10.0) -> dict[str, str | None]:
        """Ask every task that runs for a checkpoint (`ctx.checkpoint_requested` is true from then on).

        Return the workers that were asked and have told their handlers: worker id -> None, or an error text. Workers
        that run nothing are not asked. A handler takes its checkpoint when it next looks.

        Raises:
            TimeoutError: not all have answered after `timeout` seconds.
        """
        return self._control.broadcast("checkpoint", timeout)

    def call(
        self, fn: Callable[..., Any], /, *args: Any, timeout: float | None = 10.0, **kwargs: Any
    ) -> dict[str, str | None]:
        """Call `fn(*args, **kwargs)` once in every worker that is there now, between two of its tasks.

        For what is to be changed in all of them: a log level, a cache to be dropped. Return worker id -> None, or an
        error text where it raised; what it returns is dropped. An inline worker has no thread of its own: it refuses.

        Raises:
            TimeoutError: not all have answered after `timeout` seconds; a busy worker answers after its task.
            PayloadError: the function or an argument cannot travel.
        """
        return self._control.broadcast("call", timeout, functools.partial(fn, *args, **kwargs))
