"""Starts the processes of a run, does them harm by a seed, and waits until everything has ended."""

from __future__ import annotations

import contextlib
import heapq
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from benchmarks.chaos import power
from benchmarks.chaos.clock import WallClock
from benchmarks.chaos.handlers import FOLDER
from benchmarks.chaos.injecting import DISK, can_inject, inject
from benchmarks.chaos.lines import Lines, read_lines
from benchmarks.chaos.service import LEASE, STORE
from benchmarks.chaos.starving import Starvation, hungry
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.stores.sqlite.store import SqliteStore

__all__ = ["CLOCK", "KINDS", "OOM", "POWER", "Run", "kinds_here", "missing_here"]

#: Kinds of faults, as often as they stand here.
KINDS = (
    "kill worker",
    "kill worker",
    "stop worker",
    "kill guardian",
    "stop guardian",
    "kill service",
    "kill service",
    "stop service",
    "stop service beyond its lease",
    "stop service beyond its lease",
    "kill service and workers",
    "stop service and workers",
    "stop service and workers beyond its lease",
    "kill pusher",
    "kill observer",
    "stuck subscriber",
    "scale",
    "drain",
)
#: Kinds that a system has to lend itself to: memory that runs out, the wall clock set, the power lost.
OOM, CLOCK, POWER = "out of memory", "clock step", "lose power"

_ROOT = Path(__file__).resolve().parents[2]
#: Seconds by which the wall clock is set, at most, forward or back.
_STEP = 3600.0
#: Seconds between two faults, at most.
_PAUSE = 1.2
#: Faults that are done however slow the machine is: a loss of power may take it half a minute to get over.
_LEAST = 2
#: Seconds that a process may take to start, and to stop.
_START, _STOP = 60.0, 30.0
_LOOK = 0.05
_UNFINISHED = [status for status in TaskStatus if not status.terminal]


class _Process:
    """One process of the run, started again as often as it is killed."""

    def __init__(self, role: str, name: str, command: Sequence[str], environment: dict[str, str]) -> None:
        self.role = role
        self.name = name
        self._command = command
        self._environment = environment
        self.popen: subprocess.Popen[bytes] | None = None
        #: It stands still, or is about to be started: no fault for it.
        self.busy = False
        self.starting = False
        self._by = 0.0

    @property
    def pid(self) -> int:
        """The process id; 0 while it does not run."""
        return 0 if self.popen is None else self.popen.pid

    def start(self) -> None:
        """Start it; `ready` says when it is."""
        self._by = time.monotonic() + _START
        self.starting = True
        self.popen = subprocess.Popen(
            [sys.executable, *self._command],
            cwd=_ROOT,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def ready(self) -> bool:
        """Say whether it has started; waits for nothing.

        Raises:
            AssertionError: it has ended instead, or takes too long.
        """
        if not self.starting or self.popen is None:
            return True
        assert self.popen.stdout is not None
        if select.select([self.popen.stdout], [], [], 0)[0]:
            if os.read(self.popen.stdout.fileno(), 100) != b"ready\n":
                raise AssertionError(f"{self.role} {self.name} ended when it was to start (see its stderr)")
            self.busy = self.starting = False
        elif time.monotonic() > self._by:
            raise AssertionError(f"{self.role} {self.name} did not start within {_START:g} s (see its stderr)")
        return not self.starting

    def alive(self) -> bool:
        """Say whether it runs."""
        return self.popen is not None and self.popen.poll() is None

    def tell(self, line: str) -> None:
        """Write a line to it; nothing if it is gone."""
        if self.popen is not None and self.popen.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.popen.stdin.write(line.encode() + b"\n")
                self.popen.stdin.flush()

    def end_input(self) -> None:
        """Tell it to end."""
        if self.popen is not None and self.popen.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.popen.stdin.close()

    def reap(self, seconds: float) -> bool:
        """Wait for its end; False: it had to be killed."""
        assert self.popen is not None
        try:
            self.popen.wait(seconds)
            return True
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
            return False
        finally:
            for stream in (self.popen.stdin, self.popen.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()
            self.popen = None


class Run:
    """One run in `folder`, which is empty.

    Args:
        seconds: how long faults are done, two at least; what follows takes as long as it takes, within bounds.
        kinds: of faults, drawn evenly.
        sabotages: names of sabotage.py, put into each process.
        patience: seconds in which everything has to end when the faults have stopped.
        alone: a fault is done only when the one before is over: while one service stands still, others can take over.
    """

    def __init__(
        self,
        folder: Path,
        *,
        seed: int,
        seconds: float,
        kinds: Sequence[str] = KINDS,
        sabotages: Sequence[str] = (),
        patience: float = 120.0,
        alone: bool = False,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.folder = folder
        self.seed = seed
        self.seconds = seconds
        self._kinds = list(kinds)
        self._patience = patience
        self._alone = alone
        self._say = say
        self._chance = random.Random(seed)
        (folder / "tmp").mkdir(parents=True)
        (folder / STORE).parent.mkdir()
        self._lines = Lines(folder / "driver.jsonl")
        extra = [*sabotages, *(["power"] if POWER in kinds else [])]
        self._clock = WallClock(folder) if CLOCK in kinds else None
        self._starvation = Starvation(f"rxtasks-chaos-{os.getpid()}") if OOM in kinds else None
        environment = {**os.environ, FOLDER: str(folder), "TMPDIR": str(folder / "tmp")}
        if self._clock is not None:
            environment |= self._clock.environment
        place = str(folder)

        def process(role: str, name: str, *arguments: str) -> _Process:
            module = f"benchmarks.chaos.{role}"
            return _Process(role, name, ["-m", module, place, name, *arguments, *extra], environment)

        self.services = [process("service", name) for name in "ab"]
        self.pushers = [process("pusher", name, str(seed)) for name in "pq"]
        self.observers = [process("observer", name) for name in "or"]
        self._everybody = [*self.services, *self.pushers, *self.observers]
        #: What is to be done later: (monotonic time, number, what).
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self._faults = 0

    def go(self) -> None:
        """Do it all; the files tell what came of it.

        Raises:
            AssertionError: a process did not start.
        """
        try:
            self._start_everybody()
            self._note("began", pid=os.getpid(), seed=self.seed, seconds=self.seconds)
            self._harm()
            self._note("calm")
            if self._clock is not None:
                self._clock.set(self._clock.most)  # what waits for its time has it
            self._end()
        finally:
            self._sweep()

    def _start_everybody(self) -> None:
        for process in self._everybody:
            process.start()
        self._wait_ready()

    def _wait_ready(self) -> None:
        while not all([process.ready() for process in self._everybody]):
            time.sleep(_LOOK)

    def _note(self, what: str, **more: Any) -> None:
        self._faults += what == "fault"
        self._lines.write(what=what, **more)

    # -- harm ----------------------------------------------------------------------------------------------------------

    def _harm(self) -> None:
        end = time.monotonic() + self.seconds
        self._at(0.5, self._fault)
        while not (over := self._enough(end)) or self._later:
            if over:
                self._later = [(0.0, number, what) for _, number, what in self._later if what != self._fault]
                heapq.heapify(self._later)
            for process in self._everybody:
                process.ready()
            if self._later and self._later[0][0] <= time.monotonic():
                heapq.heappop(self._later)[2]()
            else:
                time.sleep(0.01)
        self._wait_ready()

    def _enough(self, end: float) -> bool:
        late = time.monotonic() - end
        return late >= self._patience or (late >= 0 and self._faults >= _LEAST)

    def _at(self, seconds: float, what: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._later, (time.monotonic() + seconds, self._number, what))

    def _fault(self) -> None:
        self._at(self._chance.uniform(0.1, _PAUSE), self._fault)
        if self._alone and any(process.busy for process in self._everybody):
            return
        kind = self._chance.choice(self._kinds)
        pick, length = self._chance.random(), self._chance.random()
        role = "pusher" if "pusher" in kind else "observer" if "observer" in kind else "service"
        free = [process for process in self._everybody if process.role == role and not process.busy]
        if kind == POWER:
            if all(not process.busy for process in self._everybody):
                self._lose_power()
        elif kind == CLOCK:
            self._set_clock(_STEP * (2 * length - 1))
        elif free:
            self._do(kind, free[int(pick * len(free))], length)

    def _do(self, kind: str, target: _Process, length: float) -> None:
        self._say(f"{kind}: {target.role} {target.name}")
        if kind in ("kill service", "kill pusher", "kill observer"):
            self._kill(kind, target, [])
            self._back(target, length)
        elif kind == "kill service and workers":
            self._kill(kind, target, _below(target.pid))
            self._back(target, length)
        elif kind.startswith("stop service"):
            seconds = LEASE * (1.3 + 0.7 * length) if "beyond" in kind else 0.1 + length
            pids = [target.pid, *(_below(target.pid) if "workers" in kind else [])]
            self._stop(kind, target, pids, seconds)
        elif kind == "stuck subscriber":
            self._note("fault", kind=kind, name=target.name, pid=target.pid)
            target.tell("stuck")
        elif kind in DISK:
            self._inject(kind, target, 0.2 + length)
        elif kind == "scale":
            self._note("fault", kind=kind, name=target.name, pid=target.pid)
            target.tell(f"scale {1 + int(length * 4)}")
        elif kind == "drain":
            self._note("fault", kind=kind, name=target.name, pid=target.pid)
            target.busy = True
            target.tell("stop")
            self._drain(target, length, time.monotonic() + _STOP)
        else:
            found = self._guardians(target) if "guardian" in kind else self._workers(target)
            if found:
                self._harm_below(kind, target, found[-1], length)

    def _harm_below(self, kind: str, target: _Process, pid: int, length: float) -> None:
        """Harm a worker, or the guardian, of a service."""
        if kind.startswith("stop"):
            self._stop(kind, target, [pid], 0.1 + length)
            return
        if kind == OOM and not (self._starvation is not None and self._starvation.take(pid)):
            return
        self._note("fault", kind=kind, name=target.name, pid=pid, killed=[pid])
        if kind == OOM:
            hungry(str(self.folder), pid).touch()
        else:
            _signal(pid, signal.SIGKILL)

    def _kill(self, kind: str, target: _Process, below: list[int]) -> None:
        target.busy = True
        self._note("fault", kind=kind, name=target.name, pid=target.pid, killed=[target.pid, *below])
        for pid in [target.pid, *below]:
            _signal(pid, signal.SIGKILL)
        target.reap(_STOP)

    def _drain(self, target: _Process, length: float, by: float) -> None:
        """Look whether it has stopped, now and again: other faults go on and come to their ends meanwhile."""
        if target.alive() and time.monotonic() < by:
            self._at(_LOOK, lambda: self._drain(target, length, by))
            return
        if not target.reap(0.0):
            self._note("hung", name=target.name)
        self._back(target, length)

    def _back(self, target: _Process, length: float) -> None:
        self._at(length, target.start)

    def _stop(self, kind: str, target: _Process, pids: list[int], seconds: float) -> None:
        target.busy = True
        self._note("fault", kind=kind, name=target.name, pid=pids[0], stopped=pids, seconds=seconds)
        for pid in pids:
            _signal(pid, signal.SIGSTOP)

        def go_on() -> None:
            for pid in reversed(pids):
                _signal(pid, signal.SIGCONT)
            self._note("continued", name=target.name, pid=pids[0])
            target.busy = False

        self._at(seconds, go_on)

    def _set_clock(self, seconds: float) -> None:
        assert self._clock is not None
        self._say(f"{CLOCK}: {seconds:+.0f} s")
        self._note("fault", kind=CLOCK, name="all", pid=0, by=seconds)
        self._clock.set(seconds)

    def _inject(self, kind: str, target: _Process, seconds: float) -> None:
        """Make the system calls of a service fail for a while; its workers are left alone."""
        target.busy = True
        self._note("fault", kind=kind, name=target.name, pid=target.pid, seconds=0.0)
        strace = inject(kind, target.pid)

        def stop() -> None:
            strace.terminate()
            strace.wait()
            self._note("healed", name=target.name)
            target.busy = False

        self._at(seconds, stop)

    def _lose_power(self) -> None:
        self._say(POWER)
        pids = [pid for process in self._everybody for pid in (process.pid, *_below(process.pid))]
        self._note("fault", kind=POWER, name="all", pid=0, killed=pids)
        for pid in pids:
            _signal(pid, signal.SIGKILL)
        for process in self._everybody:
            process.reap(_STOP)
        for pid in pids:
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(pid).wait(_STOP)
        self._note("power", undone=power.lose(self.folder / STORE))
        self._start_everybody()

    def _workers(self, service: _Process) -> list[int]:
        """Return the workers of a service that run a task, by the lines of their handlers, the newest last."""
        below = set(_below(service.pid))
        running: dict[int, bool] = {}
        for row in read_lines(self.folder / f"handlers-{service.name}.jsonl")[-200:]:
            running.pop(row["pid"], None)
            running[row["pid"]] = row["what"] != "end"
        return [pid for pid, runs in running.items() if runs and pid in below]

    def _guardians(self, service: _Process) -> list[int]:
        """Return the process from which a service has its workers forked: its child that has never run a task."""
        ran = {row["pid"] for row in read_lines(self.folder / f"handlers-{service.name}.jsonl")}
        return [pid for pid in sorted(_below(service.pid)) if pid not in ran and _runs(pid)][:1]

    # -- the end -------------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        self._say("calm: waiting until everything has ended")
        for process in self.pushers:
            process.end_input()
            if not process.reap(_STOP):
                self._note("hung", name=process.name)
        store = SqliteStore(str(self.folder / STORE))
        try:
            self._await(lambda: not any(store.list(status=status, limit=1) for status in _UNFINISHED), "ends")
        finally:
            store.release()
        self._await(self._observed, "observers")
        for process in self.observers:
            process.end_input()
            if not process.reap(_STOP):
                self._note("hung", name=process.name)
        for process in self.services:
            process.tell("stop")
        for process in self.services:
            if not process.reap(_STOP):
                self._note("hung", name=process.name)

    def _observed(self) -> bool:
        """Say whether the observers have nothing more to see: their files grow no more."""
        before = [path.stat().st_size for path in self.folder.glob("seen-observer-*")]
        time.sleep(1.0)
        return before == [path.stat().st_size for path in self.folder.glob("seen-observer-*")]

    def _await(self, condition: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + self._patience
        while not condition():
            if time.monotonic() > end:
                self._note("late", of=what)
                return
            time.sleep(_LOOK)

    def _sweep(self) -> None:
        """End what is left, and note what that was."""
        for process in self._everybody:
            if process.popen is not None:
                for pid in (*_below(process.pid), process.pid):
                    _signal(pid, signal.SIGKILL)
                process.reap(_STOP)
        end = time.monotonic() + 5.0
        while (left := list(_left(self.folder))) and time.monotonic() < end:
            time.sleep(_LOOK)
        self._note("left", processes=[process.info["name"] for process in left])
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if self._starvation is not None:
            self._note("starved", killed=self._starvation.killed())
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.wait(_STOP)
            self._starvation.end()


def kinds_here(*, powerless: bool = False) -> tuple[str, ...]:
    """Return the kinds of faults that can be done here; with `powerless`, losses of power too."""
    found = [*KINDS, *(kind for kind, possible in _asked().items() if possible)]
    return (*found, *([POWER] * 3 if powerless else []))


def missing_here() -> tuple[str, ...]:
    """Return the kinds of faults that this system does not lend itself to."""
    return tuple(kind for kind, possible in _asked().items() if not possible)


@cache
def _asked() -> dict[str, bool]:
    injected = can_inject()
    return {**dict.fromkeys(DISK, injected), OOM: Starvation.possible(), CLOCK: WallClock.possible()}


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _below(pid: int) -> list[int]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    return []


def _runs(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def _left(folder: Path) -> Iterator[psutil.Process]:
    """Yield the processes that were started for this folder, by their environment."""
    for process in psutil.process_iter(["pid", "name"]):
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(FOLDER) == str(folder):
                yield process
