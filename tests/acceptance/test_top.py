"""`rxtasks top` in a real terminal (C-08)."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.acceptance.pools import Home, home, wait_for
from tests.acceptance.terminals import Terminal, needs_tmux, terminal


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Home]:
    needs_tmux()
    with home(tmp_path) as made:
        yield made


@pytest.fixture
def window(own: Home) -> Iterator[Terminal]:
    with terminal(own.directory, own.environ) as made:
        yield made


def restored(window: Terminal, code: int) -> None:
    """Check that the shell has its terminal back as it was, and the exit code."""
    wait_for(lambda: not window.alternate, "the shell's own screen")
    window.line("echo code=$?; stty -a | tr -s ' ;' '\\n' | grep -cxE 'icanon|echo|isig'")
    window.wait(rf"code={code}\n3\n")


def test_top_shows_and_steers_the_pool_and_outlives_it(own: Home, window: Terminal) -> None:
    """C-08: workers, queue, log; every key; a small window; the pool's death and its successor; the terminal restored."""
    client = own.start("--count", "2")
    fifo = own.directory / "fifo"
    os.mkfifo(fifo)
    task_id = own.push("pooljobs:half", str(fifo))
    window.run(*own.command("top"))
    window.wait(r"running \| 2 workers, 1 busy \| 0 pending, 1 running")
    window.wait(r"busy +pooljobs:half +42 %")
    window.wait(rf"{task_id[-8:]} +pooljobs:half +running")
    window.wait(r"pool \| worker ready")

    window.type("p")
    window.wait(r"^paused \| 2 workers")
    window.type("p")
    window.wait(r"^running \| 2 workers")
    window.type("+")
    window.wait(r"running \| 3 workers")
    window.type("-")
    window.wait(r"running \| 2 workers")

    window.type("k")
    killed = window.wait(r"worker (\w+) is killed; what it ran is run again")[1]
    wait_for(lambda: f" {killed[-8:]} " not in window.screen, "the workers without it")
    window.wait(r"worker lost: killed on request")
    window.type("r")
    window.wait(r"worker \w+ is replaced when it has ended what it runs")
    window.wait(r"pool \| worker replaced: .*restart")

    window.type("/")
    window.type("l", "o", "s", "t", "Enter")
    wait_for(lambda: "worker ready" not in window.screen, "the filtered log")
    assert "worker lost: killed on request" in window.screen
    window.type("Escape")
    window.wait(r"pool \| worker ready")

    window.resize(50, 12)
    window.wait(r"(running|NO CONN)")
    window.resize(20, 4)
    window.resize(160, 40)
    window.wait(r"running \| 2 workers")

    pid = client.get("/v1/status")["pid"]
    os.kill(pid, signal.SIGKILL)
    window.wait(r"NO CONNECTION: the pool \(pid \d+\) was killed; waiting for another one")
    own.start("--count", "1")
    window.wait(r"running \| 1 workers")
    window.wait(rf"{task_id[-8:]} +pooljobs:half +running")
    window.type("q")
    restored(window, 0)


def test_c_cancels_the_selected_task(own: Home, window: Terminal) -> None:
    """C-08: the task under the cursor of the queue."""
    client = own.start("--count", "1")
    fifo = own.directory / "fifo"
    os.mkfifo(fifo)
    first, second = (own.push("pooljobs:gate", str(fifo)) for _ in range(2))
    window.run(*own.command("top"))
    window.wait(rf"{second[-8:]} +pooljobs:gate +pending")
    window.type("Tab", "Down", "c")
    window.wait(rf"cancel of task {second} is asked for")
    wait_for(lambda: client.get(f"/v1/tasks/{second}")["status"] == "cancelled", "the end of the task")
    assert "running" == client.get(f"/v1/tasks/{first}")["status"]
    wait_for(lambda: f"{second[-8:]}  pooljobs:gate" not in window.screen, "a queue without it")


def test_a_signal_leaves_the_terminal_as_it_was(own: Home, window: Terminal) -> None:
    """C-08: SIGTERM, as from a session that ends."""
    own.start("--count", "1")
    window.run(*own.command("top"))
    window.wait(r"running \| 1 workers")
    [top] = [
        process
        for process in psutil.process_iter(["cmdline", "cwd"])
        if process.info["cwd"] == str(own.directory) and (process.info["cmdline"] or [])[-1:] == ["top"]
    ]
    top.send_signal(signal.SIGTERM)
    restored(window, 143)
    assert not re.search("Traceback", window.screen)


def test_top_needs_a_terminal_and_a_pool(tmp_path: Path) -> None:
    """C-08: exit codes 2 and 3, with what to do instead."""
    with home(tmp_path) as own:
        done = own.run("top")
        assert (
            2 == done.returncode
            and "top needs a terminal; in a script use: rxtasks worker status --json" in done.stderr
        )
        needs_tmux()
        with terminal(own.directory, own.environ) as window:
            window.run(*own.command("top"))
            window.wait("no pool runs on the store")
            window.line("echo code=$?")
            window.wait("code=3")
