"""A real `python -P -m rxtasks.worker`, with the engine's side of its channel in the test's hands."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import subprocess
import sys
import termios
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle

from rxtasks.wire.codec import Decoder, Encoder
from rxtasks.wire.credit import ReceiveCredit, event_cost
from rxtasks.wire.message import (
    END,
    LOG,
    OUTPUT,
    OUTPUTS,
    PROGRESS,
    RUNNING,
    WHOLE,
    Ack,
    Assign,
    Assignment,
    Command,
    Configure,
    Define,
    Events,
    Grant,
    Ready,
    Report,
)
from rxtasks.wire.payload import dump_args, load_exception, loads

ROOT = Path(__file__).resolve().parents[3]
WINDOW = 1024
PATIENCE = 20.0


def singly(rows: list[list[Any]]) -> list[list[Any]]:
    """Return the rows with a row for each event; outputs as [OUTPUTS, token, seq, time, value, size]."""
    found: list[list[Any]] = []
    for row in rows:
        if row[0] == OUTPUTS:
            run = zip(*row[3:], strict=True)
            found += [[OUTPUTS, row[1], seq, *event] for seq, event in enumerate(run, row[2])]
        elif row[0] == WHOLE:
            for token, seq, began, ended, value, ran in zip(*row[1:], strict=True):
                found.append([RUNNING, token, seq, began])
                found.append([END, token, seq + 1, ended, "succeeded", ["j", value], None, None, ran])
        else:
            found.append(row)
    return found


class Gone(Exception):
    """The worker has closed its channel or ended."""


class Finished:
    """What came of one task."""

    def __init__(self) -> None:
        self.rows: list[list[Any]] = []
        self.blobs: dict[int, list[bytes]] = {}
        self.done = False

    @property
    def end(self) -> list[Any]:
        return self.rows[-1]

    @property
    def status(self) -> str:
        return str(self.end[4])

    @property
    def value(self) -> Any:
        value = self.end[5]
        if value[0] == "j":
            return value[1]
        return loads(self.blobs[len(self.rows) - 1][0])

    @property
    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = self.end[6]
        return found

    def exception(self) -> BaseException | None:
        from rxtasks.lifecycle.errorinfo import TaskErrorInfo

        return load_exception(self.blobs[len(self.rows) - 1][-1], TaskErrorInfo.from_dict(self.error))

    def logs(self, stream: str | None = None) -> list[str]:
        return [row[5] for row in self.rows if row[0] == LOG and stream in (None, row[6])]

    def outputs(self) -> list[Any]:
        found: list[Any] = []
        for index, row in enumerate(self.rows):
            if row[0] == OUTPUTS:
                found.append(row[4])
            elif row[0] == OUTPUT:
                found.append(row[4][1] if row[4][0] == "j" else loads(self.blobs[index][0]))
        return found

    def progress(self) -> list[list[Any]]:
        return [row[4:] for row in self.rows if row[0] == PROGRESS]

    def kinds(self) -> list[int]:
        return [row[0] for row in self.rows]


class Process:
    """One worker process."""

    def __init__(
        self,
        *,
        credit: bool = True,
        window: int = WINDOW,
        configure: dict[str, Any] | None = None,
        env: dict[str, str] | None = None,
        ready: bool = True,
    ) -> None:
        #: Grant credit as rows come.
        self.credit = credit
        self.window = window
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.sock = ours
        self.token_read, self.token_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.out, out_write = os.pipe2(os.O_CLOEXEC)
        self.err, err_write = os.pipe2(os.O_CLOEXEC)
        for fd in (self.out, self.err):
            os.set_blocking(fd, False)
        command = [sys.executable, "-P", "-m", "rxtasks.worker"]
        command += [str(theirs.fileno()), str(self.token_read), str(os.getpid())]
        self.started = time.monotonic()
        self.popen = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out_write,
            stderr=err_write,
            pass_fds=(theirs.fileno(), self.token_read),
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
        )
        theirs.close()
        os.close(out_write)
        os.close(err_write)
        self.pidfd = os.pidfd_open(self.popen.pid)
        self.encoder, self.decoder = Encoder(), Decoder()
        self.buffer = bytearray(1 << 18)
        self.unsent: deque[memoryview] = deque()
        self.reports: list[Report] = []
        self.tasks: dict[int, Finished] = {}
        self.receive: dict[int, ReceiveCredit] = {}
        self.worker_log: list[list[Any]] = []
        self.console = {"stdout": b"", "stderr": b""}
        self.read_console = True
        self.reading = True
        self.conflated = 0
        self.next_token = 1
        self.next_command = 1
        self.keys: dict[Any, str] = {}
        self.eof = False
        self.send(
            Configure(
                f"worker-{self.popen.pid}", **{"sys_path": list(sys.path), "heartbeat": 60.0, **(configure or {})}
            )
        )
        if ready:
            self.wait(lambda: self.find(Ready))
            self.ready_after = time.monotonic() - self.started

    # -- down --

    def send(self, command: Command) -> None:
        """Send a command; what the socket does not take goes when turn() runs."""
        self.unsent.extend(memoryview(frame) for frame in self.encoder.encode(command))
        self._write()

    def _write(self) -> None:
        try:
            while self.unsent:
                count = self.sock.send(self.unsent[0])
                if count < len(self.unsent[0]):
                    self.unsent[0] = self.unsent[0][count:]
                else:
                    self.unsent.popleft()
        except BlockingIOError:
            pass
        except OSError:
            self.unsent.clear()

    def define(self, function: Callable[..., Any] | str) -> str:
        """Make a function known; a str is a reference."""
        if function not in self.keys:
            key = self.keys[function] = f"f{len(self.keys)}"
            if isinstance(function, str):
                self.send(Define(key, ref=function))
            else:
                module = sys.modules.get(function.__module__)
                if module is not None and function.__module__ != "__main__":
                    with contextlib.suppress(Exception):
                        cloudpickle.register_pickle_by_value(module)
                self.send(Define(key, blob=cloudpickle.dumps(function)))
        return self.keys[function]

    def assignment(self, function: Callable[..., Any] | str, *args: Any, **more: Any) -> Assignment:
        """Return a new assignment."""
        kwargs = more.pop("kwargs", {})
        token = self.next_token
        self.next_token += 1
        made = Assignment(
            token=token,
            fence=more.pop("fence", token),
            task_id=f"TASK{token:022}",
            attempt=more.pop("attempt", 1),
            first_seq=more.pop("first_seq", 1),
            function=more.pop("key", None) or self.define(function),
            credit=self.window,
            payload=more.pop("payload", None) or dump_args(args, kwargs),
        )
        for name, value in more.items():
            setattr(made, name, value)
        return made

    def assign(self, *tasks: Assignment) -> None:
        """Pass assignments down: tokens first."""
        for task in tasks:
            self.tasks[task.token] = Finished()
            self.receive[task.token] = ReceiveCredit(task.credit)
        os.write(self.token_write, bytes(len(tasks)))
        self.send(Assign(list(tasks)))

    def start(self, function: Callable[..., Any] | str, *args: Any, **more: Any) -> int:
        """Assign one task and return its token."""
        task = self.assignment(function, *args, **more)
        self.assign(task)
        return task.token

    def run(self, function: Callable[..., Any] | str, *args: Any, **more: Any) -> Finished:
        """Run one task to its end."""
        return self.finish(self.start(function, *args, **more))

    def command(self) -> int:
        self.next_command += 1
        return self.next_command

    def take_back(self) -> int:
        """Drain the token pipe; return how many were left."""
        try:
            return len(os.read(self.token_read, 65536))
        except BlockingIOError:
            return 0

    # -- up --

    def finish(self, token: int) -> Finished:
        """Wait for a task's end."""
        task = self.tasks[token]
        self.wait(lambda: task.done)
        return task

    def find(self, kind: type[Any], **fields: Any) -> Any:
        """Return the first report of a kind with these fields, or None."""
        for report in self.reports:
            if isinstance(report, kind) and all(getattr(report, name) == value for name, value in fields.items()):
                return report
        return None

    def acked(self, command_id: int) -> Ack:
        """Wait for the acknowledgement of a command."""
        self.wait(lambda: self.find(Ack, command_id=command_id))
        found: Ack = self.find(Ack, command_id=command_id)
        return found

    def wait(self, condition: Callable[[], object], timeout: float = PATIENCE) -> None:
        """Handle what comes until `condition`; raises Gone or TimeoutError."""
        deadline = time.monotonic() + timeout
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"after {timeout} s; console {self.console}; log {self.worker_log[-5:]}")
            if self.eof and not self.unsent:
                with contextlib.suppress(TimeoutError):
                    self.exited(2.0)
                self.turn(0.01)
                raise Gone(f"console {self.console}; log {self.worker_log[-5:]}")
            self.turn(left)

    def turn(self, timeout: float) -> None:
        """Handle what is there, waiting at most `timeout` seconds for it."""
        poll = select.poll()
        if not self.eof:
            mask = (select.POLLIN if self.reading else 0) | (select.POLLOUT if self.unsent else 0)
            poll.register(self.sock, mask)
        if self.read_console:
            for fd in (self.out, self.err):
                if fd >= 0:
                    poll.register(fd, select.POLLIN)
        for fd, events in poll.poll(max(1, int(timeout * 1000))):
            if fd == self.out or fd == self.err:
                self._console(fd)
            else:
                if events & select.POLLOUT:
                    self._write()
                if events & ~select.POLLOUT and self.reading:
                    self._read()

    def _console(self, fd: int) -> None:
        name = "stdout" if fd == self.out else "stderr"
        data = os.read(fd, 65536)
        self.console[name] += data
        if not data:
            os.close(fd)
            if name == "stdout":
                self.out = -1
            else:
                self.err = -1

    def _read(self) -> None:
        try:
            count = self.sock.recv_into(self.buffer)
        except BlockingIOError:
            return
        except OSError:
            count = 0
        if not count:
            self.eof = True
            return
        for report in self.decoder.feed(memoryview(self.buffer)[:count]):
            if isinstance(report, Events):
                self._events(report)
            else:
                self.reports.append(report)  # type: ignore[arg-type]

    def _events(self, events: Events) -> None:
        blobs = iter(events.blobs)
        self.conflated += events.conflated
        grants: list[list[int]] = []
        for row in singly(events.rows):
            token = row[1]
            if token == 0:
                self.worker_log.append(row)
                continue
            task = self.tasks[token]
            found: list[bytes] = []
            if row[0] == END:
                if row[5] is not None and row[5][0] == "p":
                    found.append(next(blobs))
                if row[6] is not None and row[6].get("pickle"):
                    found.append(next(blobs))
                task.done = True
            elif row[0] == OUTPUT and row[4][0] == "p":
                found.append(next(blobs))
            if found:
                task.blobs[len(task.rows)] = found
            task.rows.append(row)
            if row[0] in (LOG, OUTPUT, OUTPUTS):
                self.receive[token].accept(event_cost(row[-1], self.window))
        if self.credit:
            for token in {row[1] for row in singly(events.rows) if row[1]}:
                due = self.receive[token].due()
                if due is not None and not self.tasks[token].done:
                    grants.append([token, due])
            if grants:
                self.send(Grant(grants))

    def grant(self, token: int) -> None:
        """Grant what is due for a task."""
        due = self.receive[token].due()
        if due is not None:
            self.send(Grant([[token, due]]))

    # -- end --

    def exited(self, timeout: float = PATIENCE) -> int:
        """Wait for the process's end, reading what it says, and return its code (negative: signal)."""
        deadline = time.monotonic() + timeout
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        while not poll.poll(0):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the worker has not ended after {timeout} s")
            if self.eof:
                poll.poll(50)
            else:
                self.turn(0.02)
        while not self.eof:
            self._read()
        return self.popen.wait()

    def read_to_end(self) -> None:
        """Read what is left in the output pipes of a worker that has ended."""
        while self.out >= 0 or self.err >= 0:
            self.turn(0.05)

    def unused_tokens(self) -> int:
        """Return how many tasks the worker may still begin."""
        count = array("i", [0])
        fcntl.ioctl(self.token_read, termios.FIONREAD, count)
        return count[0]

    def kill(self) -> None:
        """End it with all it started, and close everything."""
        if self.popen.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()
        self.sock.close()
        for fd in (self.out, self.err, self.token_read, self.token_write, self.pidfd):
            if fd >= 0:
                with contextlib.suppress(OSError):
                    os.close(fd)


@contextlib.contextmanager
def worker(**options: Any) -> Iterator[Process]:
    """A worker that is ready, ended afterwards."""
    process = Process(**options)
    try:
        yield process
    finally:
        process.kill()


def alive(pid: int) -> bool:
    """Say whether a process exists and is no zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(pid: int, timeout: float = 5.0) -> bool:
    """Wait until a process has ended; return whether it has."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(int(timeout * 1000))) or not alive(pid)
    finally:
        os.close(fd)


__all__ = [
    "END",
    "LOG",
    "OUTPUT",
    "OUTPUTS",
    "PROGRESS",
    "RUNNING",
    "Finished",
    "Gone",
    "Process",
    "alive",
    "gone",
    "singly",
    "worker",
]
