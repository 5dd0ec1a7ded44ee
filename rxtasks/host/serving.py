"""From the start of a pool's process to its end: signals, systemd, and what is said of it.

::

    start ──> ready ──────────────> asked to end ──> drain ──────────> close ──> exit code
      │         announce, READY=1      a signal, the control     │ a second signal, or one asked
      └ error: one sentence            API, --burst, a failure   └ with force: ends at once; a third: leaves

The main thread waits and nothing else: what takes long (start, drain) is done on threads of their own, so that a signal is
never left waiting. SIGHUP means that the terminal has gone, where there is one: then it drains as SIGTERM does; without a
terminal (--detach, systemd, a container) it is ignored, as there is nothing to read anew.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from rxtasks.host.ending import Ending
from rxtasks.host.keeper import Keeper
from rxtasks.host.narrator import Narrator
from rxtasks.host.notify import Notifier
from rxtasks.host.pool_host import PoolHost
from rxtasks.host.report import Outcome, outcome_of
from rxtasks.host.wake import Ask, Wake
from rxtasks.text import counted, shown

if TYPE_CHECKING:
    from rxtasks.configuration import Configuration
    from rxtasks.engine.report import StopReport
    from rxtasks.logs import LogLine

__all__ = ["serve"]

#: Seconds beyond the drain that a stop may take in all, as systemd is told.
_BEYOND = 30.0
#: Seconds between two looks at what runs while it drains.
_LOOK = 0.25


def serve(
    configuration: Configuration,
    *,
    burst: bool = False,
    announce: Callable[[Mapping[str, Any]], None] = lambda facts: None,
    narrate: bool = True,
) -> int:
    """Run the pool until it is asked to end, and return the exit code (see `rxtasks.host.report`). In the main thread.

    Args:
        burst: end when nothing is left to run.
        announce: told once what the pool is, when it is ready.
        narrate: write what happens to stderr, a line each.

    Raises:
        RxTasksError: the pool could not be started; nothing is left behind.
    """
    notifier = Notifier.from_environment()
    with Wake(hang_up=_has_terminal()) as wake:
        serving = _Serving(configuration, notifier, wake, burst, narrate)
        try:
            return serving.run(announce)
        finally:
            serving.narrator.close()


class _Serving:
    def __init__(
        self, configuration: Configuration, notifier: Notifier, wake: Wake, burst: bool, narrate: bool
    ) -> None:
        self._configuration = configuration
        self._notifier = notifier
        self._wake = wake
        self._burst = burst
        self._narrate = narrate
        self._asks: list[Ask] = []
        #: Tasks that ran since it was asked to end.
        self._ran: set[str] = set()
        self.narrator = Narrator()
        self._render: Callable[[LogLine], str] = _renderer()
        self._host = PoolHost(
            configuration, on_line=self._line if narrate else None, on_shutdown=self._asked, on_problem=self._say
        )

    def run(self, announce: Callable[[Mapping[str, Any]], None]) -> int:
        host = self._host
        early = self._start()
        if early is not None:
            return early
        self._say(f"ready: {self._in_words()}, pid {os.getpid()}, control socket {host.socket}")
        self._notifier.ready(f"ready: {self._in_words()}")
        announce({"pid": os.getpid(), "socket": host.socket, "mode": host.mode, "store": host.store})
        keeper = Keeper(host, self._notifier, self._wake.ask, burst=self._burst)
        keeper.start()
        report: StopReport | None = None
        left: tuple[str, ...] = ()
        try:
            while not self._asks:
                self._take(self._wake.wait())
            report = self._drain()
            left = host.unfinished(self._ran.union(() if report is None else report.unfinished))
        finally:
            keeper.stop()
            outcome = outcome_of(report, left, self._asks, durable=self._configuration.values.store != "memory")
            self._say(outcome.sentence)
            host.close(lambda: self._ending(outcome))
        return outcome.exit_code

    # -- start ---------------------------------------------------------------------------------------------------------

    def _start(self) -> int | None:
        """Start the pool; return an exit code if it was asked to end before it was ready.

        Raises:
            RxTasksError: it could not be started.
        """
        failures: list[BaseException] = []
        done = self._aside(self._host.start, failures)
        while not done.is_set():
            self._take(self._wake.wait())
            if self._asks and not done.is_set():
                # Asked to end before it was ready: what was started so far is stopped, and the start fails of that.
                with contextlib.suppress(Exception):
                    self._host.service.stop(force=True)
        if self._asks:
            self._host.close()  # a start that is hurried to its end may well succeed, with nothing in it
            self._say(f"{self._asks[0].why}: ended before it was ready")
            return 0 if len(self._asks) == 1 else 128 + self._asks[-1].signal
        if failures:
            raise failures[0]
        return None

    def _aside(self, call: Callable[[], Any], failures: list[BaseException]) -> threading.Event:
        """Make `call` on another thread; the event is set, and the main thread told, when it has returned."""
        done = threading.Event()

        def work() -> None:
            try:
                call()
            except BaseException as error:
                failures.append(error)
            done.set()
            self._wake.ask(Ask("", news=True))

        threading.Thread(target=work, name="rxtasks-aside", daemon=True).start()
        return done

    # -- the end -------------------------------------------------------------------------------------------------------

    def _take(self, ask: Ask | None) -> None:
        if ask is not None and not ask.news:
            self._asks.append(ask)
            if len([one for one in self._asks if one.signal]) > 2:
                os._exit(128 + ask.signal)

    def _asked(self, force: bool, timeout: float | None) -> None:
        self._wake.ask(Ask("asked through the control socket", force=force, timeout=timeout))

    def _drain(self) -> StopReport | None:
        self._host.ends()
        first = self._asks[0]
        limit = self._configuration.values.workers.drain_timeout_seconds if first.timeout is None else first.timeout
        self._notifier.extend(limit + _BEYOND)
        reports: list[StopReport] = []
        failures: list[BaseException] = []
        forced = first.force or first.failed
        if first.failed:
            self._say(f"ends: {first.why}")
        else:
            running = self._host.service.status().running_tasks
            waits = f"{counted(running, 'running task')} may finish within {limit:g} s" if running else "nothing runs"
            self._say(f"{first.why}: {'ends at once' if forced else f'drains, {waits}'}")
        self._ran |= self._host.running()
        self._notifier.stopping(f"{first.why}: {'ends at once' if forced else 'drains'}")

        def stop(force: bool) -> Callable[[], None]:
            return lambda: reports.append(self._host.drain(force=force, timeout=None if force else first.timeout))

        done = self._aside(stop(forced), failures)
        seen = 1
        while not done.is_set():
            # Once more, when certainly nothing begins any more: tasks of other processes have no tracker here.
            self._ran |= self._host.running()
            self._take(self._wake.wait(_LOOK))
            for ask in self._asks[seen:]:
                seen += 1
                if not forced and (ask.signal or ask.force):
                    forced = True
                    self._say(f"{ask.why}: ends at once")
                    self._aside(lambda: self._host.drain(force=True), [])
        for error in failures:
            self._say(f"the workers could not be stopped in order: {error}")
        return reports[0] if reports else None

    def _ending(self, outcome: Outcome) -> Ending:
        return Ending.of(
            started_at=self._host.started_at,
            exit_code=outcome.exit_code,
            why=self._asks[0].why if self._asks else "an error",
            forced=outcome.forced,
            unfinished=outcome.unfinished,
            kept=outcome.kept,
        )

    # -- what is said --------------------------------------------------------------------------------------------------

    def _in_words(self) -> str:
        workers = self._host.service.status().workers
        return f"{counted(workers, f'{self._host.mode} worker')} on {self._host.store}"

    def _say(self, sentence: str) -> None:
        # Also where nothing is narrated: stderr is then a file beside the logs.
        self.narrator.say(f"rxtasks: {shown(sentence)}")

    def _line(self, line: LogLine) -> None:
        self.narrator.say(self._render(line))


def _renderer() -> Callable[[LogLine], str]:
    from rxtasks.logs import choose_format, render

    format = choose_format(sys.stderr, os.environ)
    return lambda line: render(line, format)


def _has_terminal() -> bool:
    """Say whether this process has a terminal that can hang up."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
