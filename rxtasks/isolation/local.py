"""What workers in this process share: an executor and an outbox, without a channel between.

Rows go to the core thread as they come; the assembler there makes of them the same events as of a process worker's. At
most `_AHEAD` batches are under way: then rows wait in the outbox, where progress is overwritten and credit holds the rest.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from rxtasks.errors import ProtocolError, UnknownHandler
from rxtasks.isolation.assembler import EventAssembler
from rxtasks.isolation.base import Host, Worker
from rxtasks.pool.info import WorkerSpec
from rxtasks.pool.words import Broken, Exited, Happened, Reported, Stimulus
from rxtasks.wire.message import (
    Ack,
    Assignments,
    Cancel,
    Checkpoint,
    Command,
    Define,
    Events,
    Forget,
    Grant,
    Heartbeat,
    Hook,
    Ping,
    Ready,
    Reply,
    Report,
    Request,
)
from rxtasks.worker.equipment import Equipment
from rxtasks.worker.executor import Executor
from rxtasks.worker.functions import Functions
from rxtasks.worker.handler import Handler, holds_nothing, plan_handler
from rxtasks.worker.outbox import Outbox
from rxtasks.worker.stacks import Part
from rxtasks.worker.tempdirs import TempRoot

__all__ = ["LiveFunctions", "LocalWorker"]

_AHEAD = 64
_NONE: Mapping[str, Any] = MappingProxyType({})
_MOST_HANDLERS = 1000


class LiveFunctions(Functions):
    """The callables themselves, by key, held by whoever holds the task; hooks and factories by the service."""

    def __init__(self, live: weakref.WeakValueDictionary[str, Any], hooks: Mapping[str, Any] = _NONE) -> None:
        super().__init__()
        self._live = live
        self._hooks = hooks
        self._planned: dict[str, Handler] = {}

    def handler(self, key: str) -> Handler:
        """Return the handler of `key`.

        Raises:
            UnknownHandler: the function is gone.
        """
        function = self._live.get(key)
        if function is None:
            function = self._hooks.get(key)
        if function is None:
            if key in self.table or key.startswith("n:"):
                return super().handler(key)
            raise UnknownHandler(f"the function of this task ({key}) is gone")
        planned = self._planned.get(key)
        if planned is not None:
            if planned.source is function:
                return planned
            if planned.source is None and key.startswith("o:"):  # such a key never stands for two functions
                return planned.made_for(function)
        planned = plan_handler(function, function)
        if len(self._planned) >= _MOST_HANDLERS:
            self._planned.clear()
        self._planned[key] = planned if holds_nothing(function) else planned.bare()
        return planned


class LocalWorker(Worker):
    """The base of inline and thread workers."""

    _kind: ClassVar[type[Executor]] = Executor

    def __init__(self, worker_id: str, spec: WorkerSpec, host: Host) -> None:
        super().__init__(worker_id, spec, host)
        self.pid = os.getpid()
        self._assembler = EventAssembler(worker_id, self._worker_line)
        self._under_way = 0
        self._outbox = Outbox(self._rows, in_process=True, ask=self._request, ready=lambda: self._under_way < _AHEAD)
        self._functions = LiveFunctions(host.live, host.hooks)
        self._equipment = Equipment(worker_id)
        self._gone = False
        self._temp_dirs = TempRoot(None, keep=host.settings.keep_temp)

    def executor(self) -> Executor:
        """Return a new executor of this worker."""
        settings = self._host.settings
        return self._kind(
            self._outbox,
            self._functions,
            worker_id=self.worker_id,
            in_process=True,
            keep_temp=settings.keep_temp,
            problem=lambda text: self._host.log(self.worker_id, "WARNING", text, "log"),
            max_payload=settings.max_payload,
            durable=self._host.durable,
            kept=self._host.kept,
            objects=self._host.find_object,
            equipment=self._equipment,
            tell=self.tell,
            temp_dirs=self._temp_dirs,
        )

    def executors(self) -> list[Executor]:
        """Return those that run something."""
        raise NotImplementedError

    # -- up ------------------------------------------------------------------------------------------------------------

    def _rows(self, rows: list[list[Any]], blobs: list[bytes], conflated: int) -> None:
        self._under_way += 1
        message = Events(rows, blobs, conflated)
        self._host.call(lambda: self._take(message))

    def _take(self, message: Events) -> list[Stimulus]:
        self._under_way -= 1
        if self._outbox.pending and self._under_way < _AHEAD // 2:
            self._outbox.flush()
        if self._gone:
            return []
        try:
            return [Happened(self.worker_id, self._assembler.take(message), message.conflated)]
        except ProtocolError as error:
            return [Broken(self.worker_id, str(error))]

    def _worker_line(self, level: str, message: str, stream: str) -> None:
        self._host.log(self.worker_id, level, message, stream)

    def _request(self, request: Request) -> None:
        self.tell(request)

    def tell(self, report: Report) -> None:
        """Hand a report to the core, behind the rows that were put before it."""
        self._host.call(lambda: [Reported(self.worker_id, report)])

    def tell_exit(self, exited: Exited) -> None:
        """Tell that it has ended, behind all that its tasks have said: some of that may wait until there is room for it."""

        def end() -> list[Stimulus]:
            if (self._outbox.rows or self._under_way) and not self._gone:
                self._outbox.flush()
                self._host.call(end)
                return []
            return [exited]

        self._host.call(end)

    def begin_beats(self) -> None:
        """Give a sign of life every `heartbeat` seconds from now on (from the core thread only)."""
        self._host.later(self._host.settings.heartbeat, self._beat)

    def _beat(self) -> list[Stimulus]:
        if self._gone:
            return []
        self.begin_beats()
        return [Reported(self.worker_id, self._heartbeat())]

    def _heartbeat(self) -> Heartbeat:
        tokens = [token for executor in self.executors() for token in executor.tokens]
        return Heartbeat(tokens, self.cpu_seconds())

    def cpu_seconds(self) -> float:
        """Return the CPU time that its own thread has used, 0 where it has none."""
        return 0.0

    def prepare(self, executor: Executor, *, build: bool = True) -> None:
        """Import the modules, call the initializer, build the resources, and be ready. Raises what they raise.

        Args:
            executor: takes in the hooks and resources.
            build: here and now, on this thread.
        """
        import importlib

        for define in self.defines:
            executor.define(define)
        executor.hooks.around("before_worker_start", self.worker_id)
        setup = self._host.setup
        for module in setup.modules:
            importlib.import_module(module)
        if setup.initializer is not None:
            setup.initializer(*setup.initargs)
        if build:
            self._equipment.resources.build()
        executor.hooks.around("after_worker_start", self.worker_id)
        self.tell(Ready(os.getpid()))

    def unprepare(self, executor: Executor) -> None:
        """Call the hooks of the worker's end, and close its resources between them."""
        executor.hooks.around("before_worker_stop", self.worker_id)
        executor.put_away()
        executor.hooks.around("after_worker_stop", self.worker_id)

    # -- down ----------------------------------------------------------------------------------------------------------

    def assign(self, defines: list[Define], tasks: Assignments) -> None:
        """Take these; functions are found as they are, but for those that were pickled because a process might take them."""
        for define in defines:
            if type(define.blob) is bytes:
                self._functions.define(define)
        self._assembler.assigned(tasks)
        self.queue(tasks)

    def queue(self, tasks: Assignments) -> None:
        """Let somebody run these."""
        raise NotImplementedError

    def send(self, command: Command) -> None:
        """Take any other command."""
        executors = self.executors()
        match command:
            case Grant():
                for token, credit in command.rows:
                    self._outbox.grant(token, credit)
            case Cancel():
                for executor in executors:
                    executor.cancel(command.token, command.reason)
                self.tell(Ack(command.command_id))
            case Checkpoint():
                for executor in executors:
                    executor.checkpoint(command.token)
                self.tell(Ack(command.command_id))
            case Reply():
                self._outbox.reply(command.request_id, command.ok, command.error)
            case Ping():
                self.tell(self._heartbeat())
                self.tell(Ack(command.command_id))
            case Define():
                self._functions.define(command)
                for executor in executors:
                    executor.hooks.changed()
                if command.command_id:
                    self.tell(Ack(command.command_id))
            case Forget():
                self._functions.forget(command.key)
                for executor in executors:
                    executor.hooks.changed()
                if command.command_id:
                    self.tell(Ack(command.command_id))
            case Hook():
                self.tell(Ack(command.command_id, False, "an inline worker has no thread of its own to call it on"))
            case _:
                pass

    def show_stacks(self, token: int, told: Callable[[list[Part] | None], None]) -> None:
        """Answer at once; the program's other threads are not told of."""
        for executor in self.executors():
            if (parts := executor.stacks(token, others=False)) is not None:
                told(parts)
                return
        told([])

    def abandon_running(self) -> None:
        """Fence off what runs: it cannot be ended, but nothing that it still says counts."""
        for executor in self.executors():
            for token in executor.tokens:
                executor.abandon(token)

    def free(self) -> None:
        """Nothing of it is heard any more."""
        self._gone = True
        if not any(executor.tokens for executor in self.executors()):  # else its directory is still in use
            self._temp_dirs.close()


def in_thread(name: str, run: Any) -> threading.Thread:
    """Start a daemon thread and return it."""
    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread
