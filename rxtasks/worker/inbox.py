"""What the engine has told a worker: tasks to run, hooks to call, and all that is done at once."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

from rxtasks.wire.message import (
    Ack,
    Assign,
    Assignment,
    Cancel,
    Checkpoint,
    Define,
    Dropped,
    Forget,
    Grant,
    Heartbeat,
    Hook,
    Message,
    Ping,
    Reply,
    ShowStacks,
    StackParts,
    Stop,
)
from rxtasks.wire.payload import load_args
from rxtasks.worker.executor import Executor

__all__ = ["Inbox"]

#: Cancels of tasks not begun that are remembered; more than a worker has queued.
_EARLY: Final = 10_000


class Inbox:
    """Commands, taken by whichever thread reads the channel; tasks and hooks wait here for the main thread.

    Args:
        send: sends a report.
        memory_bytes: the resident bytes that heartbeats tell.
    """

    def __init__(self, executor: Executor, send: Callable[[Message], None], memory_bytes: Callable[[], int]) -> None:
        self._executor = executor
        self._send = send
        self._memory_bytes = memory_bytes
        #: Tasks to run, in order.
        self.tasks: deque[Assignment] = deque()
        #: Hooks to call between tasks.
        self.hooks: deque[Hook] = deque()
        #: Nothing more is to be begun.
        self.stopping = False
        #: Called when there is something new for a loop that runs on the main thread.
        self.news: Callable[[], None] | None = None

    @property
    def waiting(self) -> bool:
        """True while the main thread has something to do."""
        return bool(self.tasks or self.hooks or self.stopping)

    def take(self, message: Message) -> None:
        """Do what a command says, or note it for the main thread."""
        if type(message) is Assign:
            self.tasks.extend(message.tasks)
            self._tell()
        elif type(message) is Grant:
            for token, credit in message.rows:
                self._executor.grant(token, credit)
        else:
            self._take_rare(message)

    def _take_rare(self, message: Message) -> None:
        executor, send = self._executor, self._send
        match message:
            case Define():
                executor.define(message)
                if message.command_id:
                    send(Ack(message.command_id))
            case Forget():
                executor.forget(message.key)
                if message.command_id:
                    send(Ack(message.command_id))
            case Reply():
                executor.reply(message.request_id, message.ok, message.error)
            case Cancel():
                self._cancel(message.token, message.reason)
                send(Ack(message.command_id))
            case Checkpoint():
                executor.checkpoint(message.token)
                send(Ack(message.command_id))
            case Ping():
                self.heartbeat()
                send(Ack(message.command_id))
            case ShowStacks():
                send(StackParts(message.request_id, executor.stacks(message.token, others=True) or []))
            case Hook():
                self.hooks.append(message)
                self._tell()
            case Stop():
                self.stopping = True
                send(Ack(message.command_id))
                self._tell()
            case _:
                pass  # a repeated greeting, or a report: nothing to do

    def _tell(self) -> None:
        if self.news is not None:
            self.news()

    def _cancel(self, token: int, reason: str | None) -> None:
        """Cancel what runs, or is queued, or is just being begun: noted first, so that either side sees it."""
        early = self._executor.early_cancels
        early[token] = reason
        if self._executor.cancel(token, reason):
            early.pop(token, None)
        while len(early) > _EARLY:  # of tasks that had ended
            early.pop(next(iter(early)), None)

    def heartbeat(self, ended: int = 0) -> None:
        """Send a sign of life; from any thread. `ended`: so many attempts have, the last one above the limit of memory."""
        spent = round(time.process_time(), 6)
        self._send(Heartbeat(self._executor.tokens, spent, self._memory_bytes(), ended))

    def drop(self) -> None:
        """Forget the tasks that wait here: they have been taken back, or will not be begun."""
        early, count = self._executor.early_cancels, 0
        while self.tasks:
            early.pop(self.tasks.popleft().token, None)
            count += 1
        if count:
            self._send(Dropped(count))

    def call_hooks(self) -> None:
        """Call the hooks that wait, and acknowledge each."""
        while self.hooks:
            hook = self.hooks.popleft()
            try:
                args, kwargs = ((), {}) if hook.blob is None else load_args(hook.blob)
                trouble = self._executor.hooks.call(hook.name, args, kwargs)
            except Exception as error:
                trouble = f"hook {hook.name}: {error}"
            self._send(Ack(hook.command_id, trouble is None, trouble))
