"""WorkerPool: the Subject that shows the workers and takes orders about them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NoReturn, Protocol

from rxtasks.displayed import Displayed
from rxtasks.errors import RxTasksError, SettingsError
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

    def pause(self, paused: bool) -> None:
        """Start no new attempts, or start them again."""

    def restart_worker(self, worker_id: str) -> str | None:
        """Put another worker in the place of this one; return its id, "" = none, None = not known."""

    def kill_worker(self, worker_id: str) -> bool | str | None:
        """Kill the worker; return whether it is, "" = gone already, None = not known."""

    def ended_workers(self) -> dict[str, str | None]:
        """Return how workers ended, the latest ones: None = orderly."""


class WorkerPool(Displayed, Published[WorkerEvent]):
    """The workers of one start of a service: subscribe to see WorkerEvents, call to change them.

    It is shown by the service as `service.pool`; each start makes a new one.
    """

    def __init__(self, control: PoolControl) -> None:
        super().__init__()
        self._control = control
        #: The same stream without busy, idle and heartbeat: few events, however many tasks there are.
        self.news: Published[WorkerEvent] = Published()

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

    def pause(self) -> None:
        """Start no new attempts until resume(); idempotent."""
        self._control.pause(True)

    def resume(self) -> None:
        """Start new attempts again; idempotent."""
        self._control.pause(False)

    def restart(self, worker_id: str) -> str | None:
        """Put a new worker in the place of this one, and return the new one's id; does not wait for either.

        The old one gets nothing more, gives back what it has not begun, ends what it runs, and leaves; kill() ends it at once.
        Idempotent: of one that has been restarted the same id comes again. None: it is not replaced, because it has gone
        already, leaves with the pool, or is one too many.

        Raises:
            RxTasksError: there never was such a worker.
        """
        by = self._control.restart_worker(worker_id)
        if by is None:
            self._unknown(worker_id)
        return by or None

    def kill(self, worker_id: str) -> bool:
        """End the worker with all its child processes (SIGKILL) now; another one takes its place.

        What it runs is interrupted and runs again elsewhere: neither a crash of the task nor one of its attempts
        (max_interruptions bounds it). Idempotent; False: it was gone already.

        Raises:
            RxTasksError: there never was such a worker, or it is a thread that runs a task: that cannot be killed.
        """
        killed = self._control.kill_worker(worker_id)
        if killed is None:
            self._unknown(worker_id)
        if killed is False:
            raise RxTasksError(
                f"worker {worker_id} is a thread of this process and runs a task: it cannot be killed; cancel() the task, or"
                ' restart() the worker, which lets the task end; isolation="process" makes workers that can be killed'
            )
        return killed is True

    def broadcast(self, command: str, timeout: float | None = 10.0) -> dict[str, str | None]:
        """Give every worker a command, and wait until each has acknowledged it: return worker id -> None, or why it has not.

        "start": the workers are started, each acknowledges by being ready. "heartbeat": as ping(). "checkpoint": as
        checkpoint(). "shutdown": the pool stops, running tasks finish (`timeout` is not for that: drain_timeout bounds it).
        "stop": the pool stops at once. A hook is given to all workers by `service.before(name)` and `after(name)`, a
        function by call().

        Raises:
            SettingsError: there is no such command.
            WorkerStartError: "start", and a worker could not start.
        """
        match command:
            case "start":
                self.start()
                return self.ping(timeout)
            case "heartbeat" | "ping":
                return self.ping(timeout)
            case "checkpoint":
                return self.checkpoint(timeout)
            case "shutdown" | "stop":
                there = [info.worker_id for info in self.workers()]
                self.stop(force=command == "stop")
                left, ended = {info.worker_id for info in self.workers()}, self._control.ended_workers()
                asked = command == "stop"
                return {
                    worker_id: "it has not ended yet" if worker_id in left else None if asked else ended.get(worker_id)
                    for worker_id in there
                }
        words = ", ".join(("start", "stop", "shutdown", "heartbeat", "checkpoint"))
        raise SettingsError(f"broadcast takes one of {words}, not {command!r}; hooks: service.before(name)(hook)")

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
            self._unknown(worker_id)
        return worker

    def _unknown(self, worker_id: str) -> NoReturn:
        known = ", ".join(info.worker_id for info in self.workers()) or "none"
        raise RxTasksError(f"no worker {worker_id!r} in this pool; its workers: {known}")

    def status(self) -> PoolStatus:
        """Describe the pool."""
        return self._control.pool_status()

    def ping(self, timeout: float | None = 10.0) -> dict[str, str | None]:
        """Ask every worker for a sign of life, and wait for it `timeout` seconds at most.

        Return worker id -> None, or why it has not answered: it is gone and how, stopped (SIGSTOP), or busy in C code.
        """
        return self._control.broadcast("ping", timeout)

    def checkpoint(self, timeout: float | None = 10.0) -> dict[str, str | None]:
        """Ask every task that runs for a checkpoint (`ctx.checkpoint_requested` is true from then on).

        Return the workers that were asked: worker id -> None when it has told its handlers, or why it has not, as of ping().
        Workers that run nothing are not asked. A handler takes its checkpoint when it next looks.
        """
        return self._control.broadcast("checkpoint", timeout)

    def call(
        self, fn: Callable[..., Any], /, *args: Any, timeout: float | None = 10.0, **kwargs: Any
    ) -> dict[str, str | None]:
        """Call `fn(*args, **kwargs)` once in every worker that is there now, between two of its tasks.

        For what is to be changed in all of them: a log level, a cache to be dropped. Return worker id -> None, or an
        error text where it raised, or has not answered in `timeout` seconds: a busy worker answers after its task. What it
        returns is dropped. An inline worker has no thread of its own: it refuses.

        Raises:
            PayloadError: the function or an argument cannot travel.
        """
        return self._control.broadcast("call", timeout, functools.partial(fn, *args, **kwargs))
