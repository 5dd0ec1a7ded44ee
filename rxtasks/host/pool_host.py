"""`PoolHost`: the parts of a process that runs a pool, started in one order and stopped in the reverse one.

::

    place      held by one process: the second one is told who has it
    files      the directory of the logs, and the log files in it
    service    the store opened, modules checked (no workers yet)
    logs       lines of all workers merged, from the first one on: into memory, files and, in the foreground, stderr
    metrics    counted from the first event on
    workers    started, each ready
    control    the socket answers: whoever finds it finds a pool that works

The stop drains the workers first, while the socket still answers, so that everybody can see what is waited for; the place is
let go last, so that the next pool finds nothing half open. A part that fails to stop is told in a sentence and keeps none of
the others from being stopped.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from reactivex import Observable

from rxtasks.control.place import Held, Place
from rxtasks.errors import RxTasksError, ServiceStopped, SettingsError
from rxtasks.host.directories import log_name, logs_directory, make_logs_directory
from rxtasks.host.ending import Ending
from rxtasks.logs import LogFilter, LogLine, LogMerger, RotatedFiles
from rxtasks.observe.metrics import Metrics
from rxtasks.service import TaskService

if TYPE_CHECKING:
    from rxtasks.configuration import Configuration
    from rxtasks.control.server import ControlServer
    from rxtasks.engine.report import StopReport

__all__ = ["PoolHost"]


class PoolHost:
    """Runs the pool that a configuration describes. Any thread.

    Args:
        configuration: of the pool.
        on_line: is given each line of the merged logs, on a thread of its own.
        on_shutdown: called when somebody asks through the control API that the process end: force, and the seconds for what
            runs (None: as it is set). Returns at once.
        on_problem: is given a sentence for each part that failed without ending the pool.
    """

    def __init__(
        self,
        configuration: Configuration,
        *,
        on_line: Callable[[LogLine], None] | None = None,
        on_shutdown: Callable[[bool, float | None], None] = lambda force, timeout: None,
        on_problem: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        self._configuration = configuration
        self._directory = logs_directory(configuration)
        self._on_line = on_line
        self._on_shutdown = on_shutdown
        self._on_problem = on_problem
        #: Parts that run, with what stops each; in the order of their start.
        self._parts: list[tuple[str, Callable[[], object]]] = []
        self._telling = threading.Lock()
        self._switching = threading.Lock()
        self._stopping = False
        #: It is meant to process tasks.
        self.processing = False
        self._held: Held | None = None
        self._service: TaskService | None = None
        self._logs: LogMerger | None = None
        self._files: RotatedFiles | None = None
        self._metrics: Metrics | None = None
        self._started_at = datetime.now(UTC)

    # -- what it is ----------------------------------------------------------------------------------------------------

    @property
    def mode(self) -> str:
        """ "process", "thread" or "inline"."""
        return self._configuration.values.workers.mode

    @property
    def store(self) -> str:
        """The store as it may be shown."""
        return self._place.store

    @property
    def started_at(self) -> datetime:
        """When this process became the pool's, in UTC."""
        return self._started_at

    @property
    def stopping(self) -> bool:
        """Whether it is about to end."""
        return self._stopping

    @property
    def service(self) -> TaskService:
        """The service.

        Raises:
            ServiceStopped: it has not been started.
        """
        if self._service is None:
            raise ServiceStopped("the pool has not been started")
        return self._service

    @property
    def socket(self) -> str:
        """Path of the control socket."""
        return self._place.socket

    @property
    def name(self) -> str:
        """What the names of its files begin with."""
        return log_name(self._configuration)

    @property
    def queues(self) -> tuple[str, ...] | None:
        """The queues whose tasks it runs; None = every queue."""
        return self._configuration.values.workers.queues

    @property
    def _place(self) -> Place:
        return Place.of(self._configuration.values.store) if self._held is None else self._held.place

    @property
    def _durable(self) -> bool:
        return self._configuration.values.store != "memory"

    # -- start and stop ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start everything and return when the pool works. What was started before a failure is stopped again.

        Raises:
            PoolRuns: another process runs the pool of this store.
            RxTasksError: a part could not be started; says which and why in a sentence.
        """
        try:
            self._hold()
            self._open_files()
            service = self._service = TaskService(**{**self._configuration.service_arguments(), "echo": None})
            self._merge_logs(service)
            self._count(service)
            server = self._make_control(service)
            self._parts.append(("the workers", lambda: service.stop(force=True)))
            service.start()
            self.processing = True
            server.start()
            self._parts.append(("the control server", server.stop))
        except BaseException:
            self._unwind()
            raise

    def _hold(self) -> None:
        logs = self._directory
        held = Place.of(self._configuration.values.store).hold(mode=self.mode, logs=logs)
        self._held, self._started_at = held, held.info.started_at
        self._parts.append(("the place of the pool", held.release))

    def _open_files(self) -> None:
        settings = self._configuration.values.logs
        if make_logs_directory(self._configuration) is None or self._directory is None:
            return
        self._files = RotatedFiles(
            self._directory,
            max_bytes=settings.max_bytes,
            backups=settings.backups,
            days=36_500 if settings.days is None else settings.days,
            name=self.name,
            report=self._on_problem,
        )
        self._parts.append(("the log files", self._files.close))

    def _merge_logs(self, service: TaskService) -> None:
        settings = self._configuration.values.logs
        logs = self._logs = LogMerger.of(service, ring=settings.ring, duplicates=settings.duplicates)
        wanted = LogFilter(level=settings.level)
        if self._files is not None:
            logs.follow(wanted).subscribe(self._files)
        if self._on_line is not None:
            logs.follow(wanted).subscribe(self._on_line, on_error=lambda error: None)
        self._parts.append(("the merging of logs", logs.close))

    def _count(self, service: TaskService) -> None:
        self._metrics = Metrics(service, logs=self._logs)
        self._parts.append(("the metrics", self._metrics.close))

    def _make_control(self, service: TaskService) -> ControlServer:
        from rxtasks.control.server import ControlServer

        assert self._held is not None
        settings = self._configuration.values.control
        token = None if settings.listen is None else self._configuration.control_token()
        if settings.listen is not None and token is None:
            raise SettingsError(
                f"control.listen is {settings.listen}, where others can reach the pool, and there is no token: name the file"
                f" that holds it with --set control.token_file=FILE, or give it in the environment as {settings.token_env}"
            )
        return ControlServer(service, self._held, host=self, listen=settings.listen, token=token)

    def ends(self) -> None:
        """Let it be known that it is about to end."""
        self._stopping = True
        self.processing = False

    def drain(self, *, force: bool = False, timeout: float | None = None) -> StopReport:
        """Stop the workers: what runs has `timeout` seconds (None: as it is set) to finish, with `force` none. The control
        server still answers. A second call with `force` hurries the first.
        """
        self.ends()
        report = self.service.stop(force=force, timeout=timeout)
        self._parts = [part for part in self._parts if part[0] != "the workers"]
        return report

    def running(self) -> set[str]:
        """Return the ids of the tasks that run now."""
        return {task.task_id for worker in self.service.workers() for task in worker.running}

    def unfinished(self, task_ids: Iterable[str]) -> tuple[str, ...]:
        """Return those of the tasks that have not ended, or only of the stop; what cannot be read counts as not ended."""

        def ended(task_id: str) -> bool:
            try:
                record = self.service.get(task_id)
            except RxTasksError:
                return False
            return record.status.terminal and (record.error is None or record.error.code != ServiceStopped.code)

        return tuple(task_id for task_id in sorted(task_ids) if not ended(task_id))

    def close(self, ending: Callable[[], Ending] | None = None) -> None:
        """Stop everything else, in reverse order; `ending` says how it ended, for whoever asks later."""
        self._stopping = True
        if ending is not None and self._directory is not None:
            with contextlib.suppress(OSError):
                ending().write(self._directory, self.name)
        self._unwind()

    def _unwind(self) -> None:
        while self._parts:
            what, stop = self._parts.pop()
            try:
                stop()
            except Exception as error:
                self._on_problem(f"{what} could not be stopped in order: {type(error).__name__}: {error}")

    # -- while it runs -------------------------------------------------------------------------------------------------

    def seen(self) -> None:
        """Leave a sign of life in the pool's place: what is known later of a pool that was killed."""
        with self._telling, contextlib.suppress(RxTasksError):
            if self._held is not None and not self._stopping:
                self._held.tell(seen_at=datetime.now(UTC).isoformat())

    def failure(self) -> str:
        """Return why the engine could not go on, as far as that is known."""
        engine = self.service.engine
        error = engine.driver.failed or engine.core.ender.stop_error
        if error is None:
            return "the engine has ended; see the log"
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return f"the engine could not go on: {lines[-1] if lines else type(error).__name__}; see the log"

    def start_processing(self) -> None:
        """Start the workers, and wait until they are ready; nothing if they run."""
        with self._switching:
            self._refuse_at_end()
            if not self.service.status().running:
                self.service.start()
                self.processing = True

    def stop_processing(self, force: bool) -> None:
        """Stop the workers, and wait until they have; the process goes on, and answers."""
        self.processing = False
        if force:  # hurries one that waits for what runs
            self.service.stop(force=True)
        with self._switching:
            self.service.stop(force=force)

    def _refuse_at_end(self) -> None:
        if self._stopping:
            raise ServiceStopped("the pool is about to end; start another one when it has: rxtasks worker start")

    def shutdown(self, force: bool, timeout: float | None) -> None:
        """Begin to end the process; returns at once."""
        self._on_shutdown(force, timeout)

    def query_logs(self, filter: LogFilter) -> Iterable[LogLine]:
        """Return the lines that pass, in order: of the files where there are some, else of those in memory."""
        if self._files is not None:
            return self._files.query(filter)
        return () if self._logs is None else self._logs.query(filter)

    def follow_logs(self, filter: LogFilter) -> Observable[Any]:
        """Return the stream of the lines to come that pass."""
        if self._logs is None:
            raise ServiceStopped("the pool has not been started")
        return self._logs.follow(filter)

    def metrics_text(self) -> bytes | None:
        """Return the metrics in Prometheus' text format; None without its library."""
        return None if self._metrics is None else self._metrics.text()
