"""The contract of a worker, whatever it lives in.

A worker is an Rx Subject: commands in, its tasks' events out. Inside, the driver of the engine talks to it through the
`Worker` methods below, all on the core thread unless said otherwise; the worker answers with stimuli through `post`, or
as what its `readers` return. Nothing here decides anything.

Commands that come in through on_next go the same way as the engine's own; a worker that is dead or closing ignores
them (R3).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, TypeAlias

import attrs
from reactivex import Observable, abc

from rxtasks.config import Settings
from rxtasks.isolation.cgroups import Cgroups
from rxtasks.isolation.guardian import Guardian
from rxtasks.isolation.limiting import Limiter
from rxtasks.isolation.usage import Tree
from rxtasks.lifecycle.options import ResourceLimits
from rxtasks.observe.published import Published
from rxtasks.pool.info import WorkerSpec
from rxtasks.pool.words import Stimulus
from rxtasks.reactive.subject import Target
from rxtasks.wire.message import Assignments, Command, Configure, Define
from rxtasks.worker.stacks import Part

__all__ = ["Host", "Reader", "Setup", "Worker"]

#: Called when its descriptor is ready (bits of selectors.EVENT_READ / EVENT_WRITE).
Reader: TypeAlias = Callable[[int], list[Stimulus]]


@attrs.define
class Setup:
    """What every worker of a service is told before its first task."""

    modules: list[str] = attrs.field(factory=list)
    #: (function, args) called in each worker before it is ready.
    initializer: Callable[..., Any] | None = None
    initargs: tuple[Any, ...] = ()
    #: The same as a pickle, made once for process workers.
    initializer_blob: bytes | None = None
    #: Factories of the workers' resources, by name.
    resources: dict[str, Callable[[], Any]] = attrs.field(factory=dict)
    #: How process workers are told of them.
    resource_defines: list[Define] = attrs.field(factory=list)


class Host:
    """What a worker may use of its driver."""

    settings: Settings
    setup: Setup
    #: Subscribers are behind by more than the buffer: take in nothing that can wait.
    full: bool = False
    #: The store outlives this process.
    durable: bool = False
    #: Directory for results that such a store cannot hold, '' = there is none.
    kept: str = ""
    #: Functions of tasks that have not ended, by key, for workers in this process.
    live: weakref.WeakValueDictionary[str, Any]
    #: Hooks and factories of resources, by key, likewise.
    hooks: Mapping[str, Any] = MappingProxyType({})
    #: Gives the object that was put under a key, to workers in this process.
    find_object: Callable[[str], Any] | None = None
    #: A descriptor that every worker process inherits and that is closed in its handlers' children, -1 = none.
    lock: int = -1
    #: Starts process workers, and ends what they leave behind.
    guardian: Guardian
    #: Groups for workers that have limits.
    cgroups: Cgroups = Cgroups("off")
    #: Where inline tasks meet their submitters (isolation.inline.InlineDesk).
    desk: Any = None

    def post(self, stimulus: Stimulus) -> None:
        """Hand a stimulus to the core, from any thread."""
        raise NotImplementedError

    def watch(self, fd: int, events: int, reader: Reader) -> None:
        """Call `reader` on the core thread when `fd` is ready; again with other events to change them."""
        raise NotImplementedError

    def unwatch(self, fd: int) -> None:
        """Forget `fd`; no error if it is not watched."""
        raise NotImplementedError

    def later(self, seconds: float, call: Callable[[], list[Stimulus]]) -> None:
        """Call `call` once on the core thread after so many seconds."""
        raise NotImplementedError

    def wall_us(self) -> int:
        """Return the wall clock's microseconds."""
        raise NotImplementedError

    def log(self, worker_id: str, level: str, message: str, stream: str) -> None:
        """Show a line that belongs to no task."""
        raise NotImplementedError

    def call(self, call: Callable[[], list[Stimulus]]) -> None:
        """Call `call` on the core thread, from any thread; what it returns goes to the core."""
        raise NotImplementedError

    def command(self, worker_id: str, command: Command) -> None:
        """Send a command to a worker, from any thread."""
        raise NotImplementedError


class Worker(Published[Any]):
    """One worker. `isolation` names its kind; see the module for the rest."""

    isolation: ClassVar[str] = ""

    def __init__(self, worker_id: str, spec: WorkerSpec, host: Host) -> None:
        super().__init__()
        self.worker_id = worker_id
        self.spec = spec
        self._host = host
        self.pid: int | None = None
        #: Names of the modules whose functions it was sent, and of those that it imports before it is ready.
        self.loaded: frozenset[str] = frozenset()
        self.preload: frozenset[str] = frozenset()
        #: Its process tree, to be measured, and what keeps that within limits; None where it has no process of its own.
        self.tree: Tree | None = None
        self.limiter: Limiter | None = None
        #: Hooks and resources that it is told of before it sets itself up.
        self.defines: Sequence[Define] = ()

    @property
    def events(self) -> Observable[Any]:
        """The TaskEvents of its tasks; the worker's loss is its on_error."""
        return self

    def on_next(self, command: Command) -> None:
        """Take a command; ignored when the worker is dead or closing (R3)."""
        self._host.command(self.worker_id, command)

    def _attach(self, target: Target[Any]) -> abc.DisposableBase:
        if self._flow is not None:
            self._flow.routes.watch(self.worker_id, self)
        return super()._attach(target)

    def _detached(self, target: Target[Any]) -> None:
        if self._flow is not None and not self._targets:
            self._flow.routes.unwatch(self.worker_id, self)

    # -- what the driver calls -----------------------------------------------------------------------------------------

    def spawn(self) -> None:
        """Make it; a Ready or StartFailed report follows.

        Raises:
            OSError: there is no room for another process or thread.
        """
        raise NotImplementedError

    def assign(self, defines: list[Define], tasks: Assignments) -> None:
        """Pass these on, functions first. Never raises (R3)."""
        raise NotImplementedError

    def send(self, command: Command) -> None:
        """Pass any other command on. Never raises (R3)."""
        raise NotImplementedError

    def show_stacks(self, token: int, told: Callable[[list[Part] | None], None]) -> None:
        """Call `told` on the core thread with where the task of this claim stands (rxtasks.worker.stacks).

        With [] where it does not run, with None when the worker is gone; a worker that is held may never answer.
        """
        raise NotImplementedError

    @property
    def alive(self) -> bool:
        """Whether it can still be reached: not before it has been made, nor when its end has been seen."""
        return True

    def take_back(self) -> tuple[int, bool]:
        """Take back what has not been begun: (how many from the last one back, whether the worker knows already)."""
        raise NotImplementedError

    def kill(self, force: bool) -> None:
        """End it with all its children: SIGTERM, or with force SIGKILL. What cannot be killed is abandoned."""
        raise NotImplementedError

    def limit(self, limits: tuple[ResourceLimits, ...]) -> str:
        """Keep its process tree within these limits and no others; return by what means ("": by none). Never raises."""
        return "" if self.limiter is None else self.limiter.limit(limits)

    def throttle(self, on: bool) -> tuple[str, bool]:
        """Let everybody else have the CPU first, or no longer; return by what means, and whether for good. Never raises."""
        return ("", False) if self.limiter is None else self.limiter.throttle(on)

    def free(self) -> None:
        """Free every descriptor; the worker is gone."""
        raise NotImplementedError

    def condition(self) -> str:
        """Say what may keep it from answering; any thread."""
        return "it is busy"

    def after_fork(self) -> None:
        """In a forked child of the parent: close what belongs to the parent alone."""


def configure(worker: Worker, host: Host, **more: Any) -> Configure:
    """Return the greeting for this worker."""
    settings, setup = host.settings, host.setup
    return Configure(
        worker.worker_id,
        modules=list(setup.modules),
        initializer=setup.initializer_blob,
        concurrency=worker.spec.concurrency,
        heartbeat=settings.heartbeat,
        keep_temp=settings.keep_temp,
        max_payload=settings.max_payload,
        max_memory=settings.max_memory or 0,
        durable=host.durable,
        kept=host.kept,
        defines=len(worker.defines),
        **more,
    )
