"""Several services on one durable store under virtual time: killed, standing still, taking over each other's tasks.

::

    Fleet ──> Simulation (service 1) ──> Seat ──┐
          └─> Simulation (service 2) ──> Seat ──┴──> SharedStore

A service that was killed leaves workers that go on for up to 2 s; its lock is free when all of them have died. One that stands
still for longer than its lease is taken for dead, and what it does later must count for nothing.
"""

from __future__ import annotations

from rxtasks.config import Settings
from rxtasks.pool.info import WorkerSpec
from rxtasks.testing.coverage import Coverage
from rxtasks.testing.fleetchecks import FleetChecker
from rxtasks.testing.invariants import Books, Violation
from rxtasks.testing.sharedstore import Seat, SharedStore
from rxtasks.testing.simulation import SETTINGS, Simulation
from rxtasks.testing.virtual import VirtualClock

__all__ = ["Fleet"]

_MS = 1_000_000
_SECOND = 1_000_000_000
_LEASE = 15 * _SECOND
#: Nanoseconds that the workers of a killed service may live on.
_LINGER = 2 * _SECOND
#: Most services that are started in place of killed ones.
_MOST = 12
#: Workers that take any task.
_EVERY_KIND = (WorkerSpec(2), WorkerSpec(1, isolation="thread"))


class Fleet:
    """Services that share a store.

    Args:
        pools: the workers of each.
        hosts: on how many machines they are; a lock cannot be tried from another one.
    """

    def __init__(
        self,
        pools: list[list[WorkerSpec]],
        settings: Settings | None = None,
        *,
        hosts: int = 1,
        coverage: Coverage | None = None,
        trace: list[str] | None = None,
    ) -> None:
        self.settings = settings or SETTINGS
        self.clock = VirtualClock()
        self.shared = SharedStore(self.clock, lease_ns=_LEASE, most=self.settings.max_interruptions)
        self.shared.violated = _violated
        self.books = Books()
        self.hosts = hosts
        self.coverage = coverage
        self.trace = trace
        self.services: list[Simulation] = []
        #: Every service that ever was, by its id.
        self.all: dict[str, Simulation] = {}
        #: When the workers of a killed service are dead at the latest.
        self._linger_ns: dict[str, int] = {}
        for pool in pools:
            self.start(pool)

    def start(self, pool: list[WorkerSpec], *, always: bool = False) -> Simulation | None:
        """Start another service; None: there were enough."""
        number = len(self.all)
        if number >= _MOST and not always:
            return None
        name = "abcdefghijklmnop"[number]
        seat = Seat(self.shared, name, host=f"h{number % self.hosts}", boot=str(number % self.hosts))
        service = Simulation(
            pool,
            self.settings,
            seat=seat,
            clock=self.clock,
            books=self.books,
            checker=FleetChecker,
            coverage=self.coverage,
            trace=self.trace,
            name=name,
        )
        service.fleet = self
        self.services.append(service)
        self.all[name] = service
        service.look()  # recovers what the dead have left
        return service

    def is_free(self, name: str) -> bool:
        """Say whether nothing that belongs to the service is alive: its lock."""
        service = self.all[name]
        return service.gone and all(worker.dead is not None for worker in service.workers.values())

    def kill(self, service: Simulation, *, at_once: bool) -> None:
        """Kill the service's process; its workers die with it, or a while later."""
        if service.gone or service.finished:
            return
        if self.trace is not None:
            self.trace.append(f"{service.name}: killed")
        service.gone = True
        service.frozen = False
        for worker in service.workers.values():
            if worker.thread:
                worker.perish()
        service.seat.rung = False  # type: ignore[union-attr]
        self.shared.seats.remove(service.seat)  # type: ignore[arg-type]
        self.services.remove(service)
        self._linger_ns[service.name] = self.clock.now_ns + (0 if at_once else _LINGER)
        self._end_lingering()

    def _end_lingering(self) -> None:
        for name, until_ns in list(self._linger_ns.items()):
            if until_ns <= self.clock.now_ns:
                del self._linger_ns[name]
                for worker in self.all[name].workers.values():
                    worker.perish()

    def lingering(self) -> list[Simulation]:
        """Return killed services of which workers still live."""
        return [self.all[name] for name in self._linger_ns]

    def advance(self, ns: int) -> None:
        """Let so much time pass; timers, renewals and bells fire when they are due."""
        end = self.clock.now_ns + ns
        for _ in range(20_000):
            due = [(at, service) for service in self.services if (at := service.next_ns()) is not None]
            lingers = min(self._linger_ns.values(), default=end + 1)
            first, service = min(due, key=lambda pair: pair[0], default=(end + 1, None))
            if min(first, lingers) > end:
                break
            self.clock.now_ns = max(self.clock.now_ns, min(first, lingers))
            if lingers <= first or service is None:
                self._end_lingering()
            else:
                service.fire()
        else:
            raise Violation("timers fire without end")
        self.clock.now_ns = max(self.clock.now_ns, end)

    # -- when faults stop ----------------------------------------------------------------------------------------------

    def unfinished(self) -> list[str]:
        """Return the tasks that have not ended, and how they stand."""
        rows = {task_id: self.shared.row(task_id).status for task_id in self.books.tasks}
        return [
            f"{task_id}: {status}" for task_id, status in rows.items() if not status.terminal and status != "created"
        ]

    def settle(self, rounds: int = 400) -> None:
        """Let no more faults happen and time pass until every task has ended.

        Raises:
            Violation: after `rounds` rounds one has not.
        """
        self._linger_ns = dict.fromkeys(self._linger_ns, self.clock.now_ns)
        self._end_lingering()
        for service in list(self.services):
            service.no_more_faults()
        self.start(list(_EVERY_KIND), always=True)
        for round_ in range(rounds):
            for service in list(self.services):
                service.behave()
                if service.finished:
                    self.services.remove(service)
            if not self.unfinished() and all(service.quiet for service in self.services):
                self._at_the_end()
                return
            self.advance(_MS * 20 if round_ < rounds // 2 else _SECOND * 5)
        raise Violation(f"not everything ended after all faults had stopped: {self.unfinished()}")

    def _at_the_end(self) -> None:
        for task_id in self.books.tasks:
            row = self.shared.row(task_id)
            log = self.shared.log.get(task_id, [])
            if not row.status.terminal:
                continue
            last = log[-1] if log else None
            if getattr(last, "status", None) is not row.status:
                raise Violation(f"{task_id} is {row.status}, and the last of its log is {last}")
        for service in self.services:
            service.checker.after_turn()


def _violated(text: str) -> None:
    raise Violation(text)
