"""Pools of their own for the tests of the operator's commands: real processes, in a directory of their own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from rxtasks import TaskRequest, TaskService
from rxtasks.control.client import ControlClient
from rxtasks.control.place import Place, Running

ROOT = Path(__file__).parents[2]
#: Seconds that anything may take at most.
LONG = 40.0

JOBS = '''
import os, time
from rxtasks import TaskContext, task

@task
def quick(n):
    print("quick", n)
    return n

@task
def gate(path):
    """Block until somebody opens the FIFO for writing."""
    with open(path) as file: return file.read()

@task
def half(path, ctx: TaskContext):
    ctx.progress(42, 100)
    with open(path) as file: return file.read()

@task
def stubborn(path):
    """Never return."""
    open(path, "w").close()
    while True: time.sleep(60)
'''


def wait_for(found: Callable[[], Any], what: str, seconds: float = LONG) -> Any:
    """Return what `found` returns as soon as that is true; fails loudly."""
    until = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < until, f"waited {seconds:g} s for {what}"
        time.sleep(0.02)
    return value


class Home:
    """A user's directories, with tasks in a module, and the commands in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        # Sockets have short names, whatever pytest calls its directories.
        self._runtime = tempfile.TemporaryDirectory(prefix="rx")
        (directory / "state").mkdir()
        (directory / "pooljobs.py").write_text(JOBS)
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("RXTASKS_", "XDG_"))},
            "PYTHONPATH": str(ROOT),
            "XDG_STATE_HOME": str(directory / "state"),
            "XDG_RUNTIME_DIR": self._runtime.name,
            "XDG_CONFIG_HOME": str(directory / "config"),
            "HOME": str(directory),
            "COLUMNS": "200",
            "NO_COLOR": "1",
        }
        self._started: list[subprocess.Popen[str]] = []
        self._pids: set[int] = set()

    @property
    def store(self) -> str:
        return f"sqlite:///{self.directory / 'state' / 'rxtasks' / 'tasks.db'}"

    def command(self, *words: object) -> list[str]:
        return [sys.executable, "-m", "rxtasks", *map(str, words)]

    def run(self, *words: object, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        environ = {**self.environ, **more.pop("environ", {})}
        return subprocess.run(
            self.command(*words),
            **{
                "cwd": self.directory,
                "env": environ,
                "stdin": subprocess.DEVNULL,
                "capture_output": True,
                "text": True,
                "timeout": LONG,
                **more,
            },
        )

    def begin(self, *words: object, **more: Any) -> subprocess.Popen[str]:
        """Start a command; it is killed at the end of the test."""
        environ = {**self.environ, **more.pop("environ", {})}
        process = subprocess.Popen(
            self.command(*words),
            **{
                "cwd": self.directory,
                "env": environ,
                "stdin": subprocess.DEVNULL,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                "text": True,
                **more,
            },
        )
        self._started.append(process)
        return process

    def found(self, store: str | None = None) -> Any:
        """Return what is known of the pool of a store."""
        place = Place.of(store or self.store, self.environ)
        found = place.find()
        if isinstance(found, Running) and found.pid is not None:
            self._pids.add(found.pid)
        return found

    def start(self, *words: object, **more: Any) -> ControlClient:
        """Start a pool that is detached, and return a client of it."""
        done = self.run("worker", "start", "--module", "pooljobs", "--detach", *words, **more)
        assert done.returncode == 0, done.stderr
        return self.client()

    def client(self) -> ControlClient:
        found = self.found()
        assert isinstance(found, Running), found
        return ControlClient(found.socket, 30.0)

    def push(self, name: str, *args: Any, store: str | None = None) -> str:
        """Put a task into the store, as another program would."""
        with TaskService(0, store=store or self.store, echo=None) as service:
            return service.push(TaskRequest(name, args)).task_id

    def record(self, task_id: str) -> Any:
        with TaskService(0, store=self.store, echo=None) as service:
            return service.get(task_id)

    def close(self) -> None:
        for found in Place.all(self.environ):
            if isinstance(found, Running) and found.pid is not None:
                self._pids.add(found.pid)
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.communicate()
        for pid in self._pids:
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                if "rxtasks" in " ".join(process.cmdline()):
                    process.kill()
                    process.wait(LONG)
        self._runtime.cleanup()


@contextlib.contextmanager
def home(directory: Path) -> Iterator[Home]:
    made = Home(directory)
    try:
        yield made
    finally:
        made.close()
