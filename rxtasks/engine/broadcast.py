"""Commands to all workers, each acknowledged by everyone who gets it (W-14, pure).

A worker that is gone, or has not acknowledged in time, is named in the answer with what is known of it; the others' answers are
not lost for that.
"""

from __future__ import annotations

import attrs

from rxtasks.config import Settings
from rxtasks.engine.winding import Winding
from rxtasks.lifecycle.status import TaskStatus, WorkerStatus
from rxtasks.pool.info import WorkerSpec
from rxtasks.pool.state import WorkerState
from rxtasks.pool.words import Answer, CommandAsked, HookAsked, SendCommand
from rxtasks.wire.message import Ack, Checkpoint, Define, Forget, Hook, Ping, Trouble

__all__ = ["NO_ANSWER", "Broadcast"]

#: What is said of a worker that has not acknowledged in time.
NO_ANSWER = "no answer in time"


@attrs.define(eq=False, repr=False)
class _Asked:
    """A command to all workers that waits for their acknowledgements."""

    ticket: int
    #: Command id -> worker.
    open: dict[int, str]
    errors: dict[str, str]
    said: list[str]
    #: The first of the commands.
    first: int = 0


class Broadcast(Winding):
    """The part of the core that asks all workers for something."""

    def __init__(self, specs: list[WorkerSpec], settings: Settings) -> None:
        super().__init__(specs, settings)
        self._asked: dict[int, _Asked] = {}
        #: Functions to be forgotten when the command has been acknowledged.
        self._once: dict[int, str] = {}

    def _command_asked(self, stimulus: CommandAsked) -> None:
        asked = _Asked(stimulus.ticket, {}, {}, [])
        for worker in self.pool.workers.values():
            if not worker.was_ready or worker.status is WorkerStatus.STOPPING:
                continue
            if stimulus.name == "checkpoint":
                self._ask_checkpoints(worker, asked)
                continue
            command_id = self._ask(worker, asked)
            if stimulus.name == "ping":
                self._out.append(SendCommand(worker.worker_id, Ping(command_id)))
                continue
            if stimulus.define is not None:
                self._out.append(SendCommand(worker.worker_id, stimulus.define))
            self._out.append(SendCommand(worker.worker_id, Hook(command_id, stimulus.hook, stimulus.blob)))
            if stimulus.define is not None:
                self._once[command_id] = stimulus.define.key
        self._await(asked, stimulus.within_ns)

    def _hook_asked(self, stimulus: HookAsked) -> None:
        """Add a hook in every worker that there is and will be, or take it out."""
        asked = _Asked(stimulus.ticket, {}, {}, [])
        key, define = stimulus.key, stimulus.define
        if define is not None:
            self.pool.defines[key] = define
        else:
            self.pool.defines.pop(key, None)
        for worker in self.pool.workers.values():
            command_id = self._ask(worker, asked)
            command = Forget(key, command_id) if define is None else Define(key, define.ref, define.blob, command_id)
            self._out.append(SendCommand(worker.worker_id, command))
        self._await(asked, stimulus.within_ns)

    def _ask_checkpoints(self, worker: WorkerState, asked: _Asked) -> None:
        """Ask each task that runs there for a checkpoint."""
        for claim in worker.assigned.values():
            if claim.status is TaskStatus.RUNNING:
                command = Checkpoint(self._ask(worker, asked), claim.token)
                self._out.append(SendCommand(worker.worker_id, command))

    def _ask(self, worker: WorkerState, asked: _Asked) -> int:
        command_id = self.ender.command()
        asked.open[command_id] = worker.worker_id
        self._asked[command_id] = asked
        return command_id

    def _await(self, asked: _Asked, within_ns: int | None) -> None:
        """Answer when all have acknowledged, or the time is over."""
        self._settle_asked(asked)
        if asked.ticket and within_ns is not None:
            asked.first = next(iter(asked.open))
            self.timers.at(self._now.mono_ns + within_ns, "asked", asked.first)

    def _asked_long_enough(self, command_id: int) -> None:
        """Name those that have not acknowledged. `command_id` is the first of the commands, which itself may have been."""
        late = next((asked for asked in self._asked.values() if asked.first == command_id), None)
        if late is not None:
            late.errors.update(dict.fromkeys(late.open.values(), NO_ANSWER))
            late.open.clear()
            self._settle_asked(late)

    def _acknowledged(self, worker_id: str, ack: Ack) -> None:
        once = self._once.pop(ack.command_id, None)
        if once is not None:
            self._out.append(SendCommand(worker_id, Forget(once)))
        asked = self._asked.pop(ack.command_id, None)
        if asked is not None and asked.open.pop(ack.command_id, None) is not None:
            asked.said.append(worker_id)
            if not ack.ok:
                asked.errors[worker_id] = ack.error or "failed"
            self._settle_asked(asked)

    def _settle_asked(self, asked: _Asked) -> None:
        if not asked.open and asked.ticket:
            self._out.append(Answer(asked.ticket, dict.fromkeys(asked.said) | asked.errors))
            asked.ticket = 0
            self._asked = {key: value for key, value in self._asked.items() if value.ticket}

    def _not_answering(self, worker: WorkerState, how: str = "") -> None:
        """The worker is gone: it acknowledges nothing more."""
        for asked in list(self._asked.values()):
            for command_id, worker_id in list(asked.open.items()):
                if worker_id == worker.worker_id:
                    del asked.open[command_id]
                    self._once.pop(command_id, None)
                    asked.errors[worker_id] = f"the worker is gone: {how}" if how else "the worker is gone"
            self._settle_asked(asked)

    def _troubled(self, worker: WorkerState, trouble: Trouble) -> None:
        """A hook, or the closing of a resource, failed in a worker: it is told, and nothing else comes of it."""
        error = trouble.error
        where = f" ({trouble.function})" if trouble.function else ""
        more = f"; {trouble.untold} failures before it were not told" if trouble.untold else ""
        said = f"{trouble.what} {trouble.name}{where} failed: {error.get('type')}: {error.get('message')}{more}"
        data: dict[str, object] = {
            "name": trouble.name,
            "function": trouble.function,
            "error": error,
            "task_id": trouble.task_id,
        }
        self._out.append(self.pool.announce(f"{trouble.what}_failed", worker, self._now, said, data))
