"""WorkerProxyObservable: a channel's messages as the TaskEvents that an in-process worker produces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from reactivex import Observable, abc

from rxtasks.isolation.assembler import EventAssembler
from rxtasks.lifecycle.events import TaskEvent
from rxtasks.pool.words import Occurrence, events_of
from rxtasks.reactive.notiterable import NotIterable
from rxtasks.reactive.subject import RxSubject
from rxtasks.wire.message import Assign, Command, Events, Report

__all__ = ["MessageChannel", "WorkerProxyObservable"]


class MessageChannel(Protocol):
    """What a proxy needs of a channel: it calls what `listen` was given, in the order of the messages."""

    worker_id: str

    def listen(
        self,
        sent: Callable[[Command], None],
        received: Callable[[Report], None],
        closed: Callable[[Exception | None], None],
    ) -> None:
        """Tell of every command sent and report received from now on, and of the end (None: orderly)."""


class WorkerProxyObservable(NotIterable, Observable[TaskEvent]):
    """The stream of a worker behind a channel: TaskEvents in order; a lost worker is its on_error.

    It listens to the commands too: an assignment tells the task's id and attempt, which its rows then need not repeat.
    With `occurrences` an engine takes the events, each with what it needs beside them, records them, and has them delivered
    to the subscribers of `subject` on its own thread; without, subscribers get them as the channel brings them.
    """

    def __init__(
        self,
        channel: MessageChannel,
        *,
        occurrences: Callable[[list[Occurrence], int], None] | None = None,
        log: Callable[[str, str, str], None] | None = None,
        subject: RxSubject[Any] | None = None,
    ) -> None:
        super().__init__()
        self._subject: RxSubject[Any] = RxSubject() if subject is None else subject
        self._occurrences = occurrences
        self.assembler = EventAssembler(channel.worker_id, log)
        channel.listen(self._sent, self._received, self._closed)

    @property
    def _flow(self) -> Any:
        return self._subject._flow

    def _subscribe_core(
        self, observer: abc.ObserverBase[TaskEvent], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        return self._subject.subscribe(observer, scheduler=scheduler)

    def _sent(self, command: Command) -> None:
        if isinstance(command, Assign):
            self.assembler.assigned(command.tasks)

    def _received(self, report: Report) -> None:
        if type(report) is not Events:
            return
        occurrences = self.assembler.take(report)
        if self._occurrences is not None:
            self._occurrences(occurrences, report.conflated)
            return
        for occurrence in occurrences:
            for event in events_of(occurrence):
                self._subject._emit_next(event)

    def _closed(self, error: Exception | None) -> None:
        if self._occurrences is not None:
            return
        if error is None:
            self._subject.on_completed()
        else:
            self._subject.on_error(error)
