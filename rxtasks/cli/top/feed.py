"""What `rxtasks top` knows of the pool, and how it gets to know it: threads that ask, follow, and carry out orders."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final

import attrs

from rxtasks.control.client import ControlClient
from rxtasks.control.errors import ControlError
from rxtasks.control.place import Dead, Place, Running
from rxtasks.errors import RxTasksError
from rxtasks.logs import LogLine

if TYPE_CHECKING:
    from rxtasks.configuration import Configuration

__all__ = ["Feed", "Seen"]

#: Seconds between two looks.
_EVERY: Final = 1.0
#: Lines that wait to be shown, and those shown at first.
_LINES: Final = 2000
_FIRST: Final = 200
#: Tasks that are shown of those that wait.
_TASKS: Final = 100


@attrs.frozen
class Seen:
    """The pool as it was seen last."""

    #: The answer of /v1/status, None: none has come yet.
    status: dict[str, Any] | None = None
    #: Tasks that run, then those that wait.
    tasks: tuple[dict[str, Any], ...] = ()
    #: Why there is no connection, None: there is one.
    trouble: str | None = None
    #: What became of the last order.
    told: str = ""


class Feed:
    """Looks at the pool of a store until it is stopped. What is seen is read from any thread."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._lines: deque[LogLine] = deque(maxlen=_LINES)
        self._orders: SimpleQueue[Callable[[ControlClient], str] | None] = SimpleQueue()
        self._over = threading.Event()
        self._soon = threading.Event()
        self._lock = threading.Lock()
        self._waiting: list[dict[str, Any]] = []
        self._list_after = 0.0
        self._seen = Seen(trouble="looking for the pool")

    def start(self) -> None:
        """Begin to look."""
        for name, run in (("look", self._look), ("follow", self._follow), ("order", self._order)):
            threading.Thread(target=run, name=f"rxtasks-top-{name}", daemon=True).start()

    def stop(self) -> None:
        """Look no more; waits for nothing."""
        self._over.set()
        self._soon.set()
        self._orders.put(None)

    @property
    def seen(self) -> Seen:
        """The pool as it was seen last."""
        return self._seen

    def take_lines(self) -> list[LogLine]:
        """Return the log lines that have come since the last call."""
        lines = self._lines
        return [lines.popleft() for _ in range(len(lines))]

    # -- orders --------------------------------------------------------------------------------------------------------

    def order(self, what: Callable[[ControlClient], str]) -> None:
        """Have `what` done with a client, on another thread; it returns what to tell."""
        self._orders.put(what)

    def _order(self) -> None:
        while (what := self._orders.get()) is not None and not self._over.is_set():
            try:
                told = what(self._client())
            except RxTasksError as error:
                told = str(error)
            self._note(told=told)
            self._soon.set()  # what it has changed is to be seen at once

    # -- looking -------------------------------------------------------------------------------------------------------

    def _client(self) -> ControlClient:
        """Return a client of the pool that runs now.

        Raises:
            RxTasksError: none does; says what is known.
        """
        store = self._configuration.values.store
        if store == "memory":
            from rxtasks.cli.place import running_pool
            from rxtasks.cli.usage import CommandFailed

            try:
                return ControlClient(running_pool(self._configuration).socket, 5.0)
            except CommandFailed as error:
                raise RxTasksError(str(error)) from error
        found = Place.of(store).find()
        if isinstance(found, Running):
            return ControlClient(found.socket, 5.0)
        if isinstance(found, Dead):
            raise RxTasksError(f"the pool (pid {found.info.pid}) was killed; waiting for another one")
        raise RxTasksError("the pool has ended; waiting for another one")

    def _look(self) -> None:
        while not self._over.is_set():
            self._soon.clear()
            try:
                client = self._client()
                status = client.get("/v1/status")
                self._note(status=status, tasks=(*_running(status), *self._waiting_now(client, status)), trouble=None)
            except ControlError as error:
                self._note(trouble=error.message)
            except RxTasksError as error:
                self._note(trouble=str(error))
            except Exception as error:  # an answer that is none of ours
                self._note(trouble=f"the pool's answer cannot be understood: {error}")
            self._soon.wait(_EVERY)

    def _waiting_now(self, client: ControlClient, status: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the first tasks that wait. To find them the store may have to look at all its tasks: a twentieth of the time
        at most is spent on that.
        """
        now = time.monotonic()
        if not status["pool"]["pending"]:
            self._waiting = []
        elif now >= self._list_after:
            self._waiting = client.get("/v1/tasks", status="pending", limit=_TASKS)["tasks"]
            done = time.monotonic()
            self._list_after = done + 20 * (done - now)
        return self._waiting

    def _note(self, **changes: Any) -> None:
        with self._lock:
            self._seen = attrs.evolve(self._seen, **changes)

    def _follow(self) -> None:
        first, level = _FIRST, self._configuration.values.logs.level.upper()
        while not self._over.is_set():
            with contextlib.suppress(RxTasksError, ValueError):
                client = self._client()
                stream = client.stream("/v1/logs/follow", level=level)
                with contextlib.closing(stream):  # type: ignore[type-var]
                    if first:
                        for line in client.get("/v1/logs", limit=first, level=level)["lines"]:
                            self._lines.append(LogLine.from_json(json.dumps(line)))
                        first = 0
                    for event in stream:
                        if self._over.is_set():
                            return
                        if event.event == "line":
                            self._lines.append(LogLine.from_json(json.dumps(event.data)))
            self._over.wait(_EVERY)


def _running(status: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the tasks that run here, as the list of tasks would show them."""
    return [
        {**task, "status": "running", "created_at": task["started_at"]}
        for worker in status["workers"]
        if worker["status"] == "busy"
        for task in worker["running"]
    ]
