"""kill -9 of the pool between any two commands, and in the middle of one: a clear answer, and nothing is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import psutil
import pytest

from tests.acceptance.pools import LONG, Home, home, wait_for

COMMANDS = (
    ("status",),
    ("list", "--json"),
    ("scale", "2"),
    ("pause",),
    ("resume",),
    ("kill", "0000"),
    ("restart", "0000"),
    ("stop",),
    ("stop", "--force"),
    ("logs", "--follow"),
)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with home(tmp_path_factory.mktemp("killed")) as made:
        yield made


def kill(pool: Home) -> int:
    """Kill the pool, and return the id of its process when it has gone."""
    process = psutil.Process(pool.client().get("/v1/status")["pid"])
    process.kill()
    wait_for(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE, "its end")
    return process.pid


def test_between_any_two_commands(pool: Home) -> None:
    """Each command tells that it was killed, with exit code 3; the next start takes its tasks over."""
    pool.start("--count", "1")
    fifo = pool.directory / "fifo"
    os.mkfifo(fifo)
    held = pool.push("pooljobs:gate", str(fifo))
    waits = [pool.push("pooljobs:quick", number) for number in range(3)]
    pid = kill(pool)
    for words in COMMANDS:
        done = pool.run("worker", *words)
        assert (3, "") == (done.returncode, done.stdout), words
        for word in (f"(pid {pid}, started ", "was killed at about ", "its log is in ", "that takes its tasks over"):
            assert word in done.stderr, (words, done.stderr)
        assert 2 == done.stderr.count("\n"), done.stderr
    # What is read from files needs no pool.
    assert "worker ready" in pool.run("worker", "logs").stdout
    for _ in range(2):
        pool.start("--count", "1")
        wait_for(lambda: pool.client().get("/v1/status")["pool"]["running_tasks"], "the task at work")
        kill(pool)
    client = pool.start("--count", "1")
    with open(fifo, "w", encoding="utf-8"):
        pass
    for task_id in (held, *waits):
        wait_for(lambda task_id=task_id: client.get(f"/v1/tasks/{task_id}")["status"] == "succeeded", "its end")
    kill(pool)


def test_in_the_middle_of_a_command(pool: Home) -> None:
    """A pool that stands still is killed while a command waits for its answer: a sentence, and an exit code that says so."""
    for words in (("status",), ("kill", "0000"), ("stop",), ("logs", "--follow")):
        client = pool.start("--count", "1")
        pid = client.get("/v1/status")["pid"]
        os.kill(pid, signal.SIGSTOP)
        waiting = pool.begin("worker", *words)
        assert waiting.stderr is not None
        assert waiting.stderr.readline().startswith("store: ")
        process = psutil.Process(waiting.pid)
        wait_for(lambda process=process: _connected(process), f"{words} to wait for the pool")
        os.kill(pid, signal.SIGKILL)
        out, err = waiting.communicate(timeout=LONG)
        assert waiting.returncode in (1, 3), (words, err)
        assert "" == out and "Traceback" not in err and "rxtasks: " in err, (words, err)


def _connected(process: psutil.Process) -> bool:
    """Say whether the command has reached the socket of the pool."""
    return process.is_running() and any(one.type == 1 for one in process.net_connections("unix"))
