"""`rxtasks worker ...`: every command as a real process, on real pools (C-01, C-04)."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from rxtasks.control.client import ControlClient
from rxtasks.control.place import Place, Running
from tests.acceptance.pools import LONG, ROOT, Home, home, wait_for


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Home, ControlClient]]:
    """A pool of two process workers that tests share: none may end it."""
    with home(tmp_path_factory.mktemp("shared")) as made:
        yield made, made.start("--count", "2")


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Home]:
    with home(tmp_path) as made:
        yield made


def busy_with(client: ControlClient, task_id: str) -> dict[str, Any]:
    """Return the worker that runs the task, when one does."""

    def find() -> Any:
        workers = client.get("/v1/workers")["workers"]
        return next((one for one in workers if any(task["task_id"] == task_id for task in one["running"])), None)

    found: dict[str, Any] = wait_for(find, f"a worker that runs {task_id}")
    return found


def said(client: ControlClient, text: str) -> None:
    """Wait until a line with this text is in the log files."""
    wait_for(lambda: client.get("/v1/logs", text=text)["lines"], f"the line {text!r}")


def let_go(path: Path) -> None:
    with open(path, "w", encoding="utf-8"):
        pass


# -- seeing -------------------------------------------------------------------------------------------------------------


def test_status_shows_the_pool_each_worker_and_the_queue(shared: tuple[Home, ControlClient], tmp_path: Path) -> None:
    """C-04: as the issue draws it, with the task, its name, progress and time."""
    pool, client = shared
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    task_id = pool.push("pooljobs:half", str(fifo))
    worker = busy_with(client, task_id)
    wait_for(
        lambda: client.get(f"/v1/workers/{worker['worker_id']}")["running"][0]["progress"], "the progress of the task"
    )
    done = pool.run("worker", "status")
    lines = done.stdout.splitlines()
    assert (0, f"store: {pool.store} (state directory)\n") == (done.returncode, done.stderr)
    assert ["Worker Pool Status", "==================", "Mode: process", "Active: 2"] == lines[:4]
    assert any(
        line.startswith(f"  - worker-{worker['worker_id']}: busy (task {task_id}, pooljobs:half, 42 %, ")
        for line in lines
    )
    assert any(line.endswith(": idle") for line in lines)
    assert "Queue: 0 pending, 1 running" == lines[6]
    assert lines[7].startswith("Resources: CPU ")
    let_go(fifo)


def test_json_is_one_object_and_a_line_for_each_of_a_list(shared: tuple[Home, ControlClient]) -> None:
    """C-01: --json everywhere, nothing else on stdout."""
    pool, _ = shared
    status = pool.run("worker", "status", "--json")
    assert 1 == status.stdout.count("\n")
    assert {"mode": "process", "store": pool.store}.items() <= json.loads(status.stdout).items()
    listed = [json.loads(line) for line in pool.run("worker", "list", "--json").stdout.splitlines()]
    assert {one["worker_id"] for one in json.loads(status.stdout)["workers"]} == {one["worker_id"] for one in listed}
    logs = [json.loads(line) for line in pool.run("worker", "logs", "--json").stdout.splitlines()]
    assert "worker ready" in "\n".join(line["message"] for line in logs)


def test_a_reader_that_leaves_is_no_traceback(shared: tuple[Home, ControlClient]) -> None:
    """C-01: --json into head: exit code 141, and not a word."""
    pool, _ = shared
    for words in (("status",), ("list",), ("logs",)):
        # The reader has gone before the first byte: a pipe whose end nobody holds.
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run(
            pool.command("worker", *words, "--json"),
            cwd=pool.directory,
            env=pool.environ,
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
            timeout=LONG,
        )
        os.close(write)
        assert (141, f"store: {pool.store} (state directory)\n") == (done.returncode, done.stderr), words


def test_list_is_a_table(shared: tuple[Home, ControlClient]) -> None:
    """C-01."""
    pool, client = shared
    lines = pool.run("worker", "list").stdout.splitlines()
    assert lines[0].split() == ["WORKER", "STATUS", "PID", "DONE", "FAILED", "CPU", "MEMORY", "UP", "TASKS"]
    assert {one["worker_id"] for one in client.get("/v1/workers")["workers"]} == {line.split()[0] for line in lines[1:]}


def test_logs_are_filtered_and_read_from_the_files(shared: tuple[Home, ControlClient]) -> None:
    """C-06: by worker, level, time and text; the worker by the end of its id."""
    pool, client = shared
    task_id = pool.push("pooljobs:quick", 7_301)
    said(client, "quick 7301")
    line = json.loads(pool.run("worker", "logs", "--task", task_id, "--json").stdout)
    assert (task_id, "pooljobs:quick", "stdout") == (line["task_id"], line["task_name"], line["stream"])
    worker = line["worker_id"]
    assert "quick 7301" in pool.run("worker", "logs", worker[-6:]).stdout
    assert "" == pool.run("worker", "logs", "--text", "QUICK 7301", "--level", "error").stdout
    assert "quick 7301" in pool.run("worker", "logs", "--text", "QUICK 7301", "--since", "5m").stdout
    wrong = pool.run("worker", "logs", "--since", "yesterday")
    assert 2 == wrong.returncode and "not 'yesterday'" in wrong.stderr and 1 == wrong.stderr.count("\n")


def test_logs_follow_what_comes(shared: tuple[Home, ControlClient]) -> None:
    """C-06: what was, then what comes, each line once."""
    pool, client = shared
    pool.push("pooljobs:quick", 7_401)
    said(client, "quick 7401")
    following = pool.begin("worker", "logs", "--follow", "--text", "quick 74")
    assert following.stdout is not None
    assert "quick 7401" in following.stdout.readline()
    pool.push("pooljobs:quick", 7_402)
    assert "quick 7402" in following.stdout.readline()
    following.send_signal(signal.SIGINT)
    assert 130 == following.wait(LONG)
    assert "" == following.stdout.read()


def test_what_a_task_says_cannot_steer_the_terminal(shared: tuple[Home, ControlClient]) -> None:
    """Security rule 6: control characters, ESC and marks of direction in what is shown are escaped."""
    pool, client = shared
    task_id = pool.push("pooljobs:quick", "\x1b[2J\u202egnp.exe\r")
    said(client, "gnp.exe")
    shown = pool.run("worker", "logs", "--task", task_id).stdout
    assert "quick \\x1b[2J\\u202egnp.exe" in shown and "\x1b" not in shown and "\u202e" not in shown


# -- steering -----------------------------------------------------------------------------------------------------------


def test_scale_pause_and_resume(shared: tuple[Home, ControlClient]) -> None:
    """C-01."""
    pool, client = shared
    assert "the pool will have 3 workers" in pool.run("worker", "scale", 3).stderr
    wait_for(lambda: client.get("/v1/status")["pool"]["active"] == 3, "three workers")
    clamped = pool.run("worker", "scale", 0)
    assert "the pool will have 1 worker (not 0: that is what this pool can have)" in clamped.stderr
    assert "the pool will have 2 workers" in pool.run("worker", "scale", 2).stderr
    wait_for(lambda: client.get("/v1/status")["pool"]["workers"] == 2, "two workers")
    assert 0 == pool.run("worker", "pause").returncode
    assert "State: paused; go on with: rxtasks worker resume" in pool.run("worker", "status").stdout
    assert 0 == pool.run("worker", "resume").returncode
    assert "State:" not in pool.run("worker", "status").stdout


def test_kill_and_restart_take_short_ids(shared: tuple[Home, ControlClient], tmp_path: Path) -> None:
    """C-01: what a killed worker ran is run again by another."""
    pool, client = shared
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    task_id = pool.push("pooljobs:gate", str(fifo))
    first = busy_with(client, task_id)["worker_id"]
    killed = pool.run("worker", "kill", f"worker-{first[-8:].lower()}")
    assert (0, f"worker {first} is killed") == (killed.returncode, killed.stderr.splitlines()[-1])
    second = wait_for(
        lambda: (found := busy_with(client, task_id)["worker_id"]) != first and found, "another worker with the task"
    )
    let_go(fifo)
    wait_for(lambda: client.get(f"/v1/tasks/{task_id}")["status"] == "succeeded", "the end of the task")
    restarted = pool.run("worker", "restart", second, "--json")
    assert second == json.loads(restarted.stdout)["worker_id"]
    wait_for(
        lambda: second not in {one["worker_id"] for one in client.get("/v1/workers")["workers"]},
        "the end of the old worker",
    )


def test_an_id_that_is_nobodys_or_everybodys_is_refused(shared: tuple[Home, ControlClient]) -> None:
    """C-01: exit codes 3 and 2, with the ids that there are."""
    pool, client = shared
    ids = [one["worker_id"] for one in client.get("/v1/workers")["workers"]]
    nobody = pool.run("worker", "kill", "zzzz")
    assert 3 == nobody.returncode and f"no worker 'zzzz' in the pool; workers: {ids[0]}" in nobody.stderr
    both = pool.run("worker", "restart", ids[0][:4])
    assert 2 == both.returncode and "give more of the id" in both.stderr


def test_a_second_start_exits_4_and_says_who_holds_it(shared: tuple[Home, ControlClient]) -> None:
    """C-01: detached or not; another spelling of the same store is that store."""
    pool, client = shared
    pid = client.get("/v1/status")["pid"]
    for words in (("--detach",), ("--store", pool.store.replace("/state/", "/./state/../state/"))):
        done = pool.run("worker", "start", *words)
        assert (4, True) == (done.returncode, f"runs already, in process {pid};" in done.stderr), done.stderr


# -- where it is found --------------------------------------------------------------------------------------------------


def test_without_a_pool_each_command_says_how_to_start_one(own: Home) -> None:
    """C-01: exit code 3, one sentence, nothing on stdout."""
    for words in (("status",), ("scale", "2"), ("kill", "x"), ("stop",), ("logs", "-f")):
        done = own.run("worker", *words)
        assert (3, "") == (done.returncode, done.stdout), words
        assert [f"store: {own.store} (state directory)"] == done.stderr.splitlines()[:-1]
        assert done.stderr.splitlines()[-1].startswith(
            f"rxtasks: no pool runs on the store {own.store}; start one with: "
        )


def test_the_store_is_found_by_flag_environment_and_file_in_this_order(own: Home) -> None:
    """C-05: and each command says which, and from where."""
    (own.directory / "rxtasks.toml").write_text(f'store = "sqlite:///{own.directory}/file.db"\n')
    said = own.run("worker", "status").stderr
    assert f"store: sqlite:///{own.directory}/file.db ({own.directory}/rxtasks.toml)" in said
    environ = {"RXTASKS_STORE": f"sqlite:///{own.directory}/env.db"}
    said = own.run("worker", "status", environ=environ).stderr
    assert "/env.db (environment RXTASKS_STORE)\n" in said
    said = own.run("worker", "status", "--store", f"sqlite:///{own.directory}/flag.db", environ=environ).stderr
    assert "/flag.db (flag --store)\n" in said
    assert f"start one with: rxtasks worker start --store sqlite:///{own.directory}/flag.db" in said


def test_a_wrong_setting_is_a_sentence_with_exit_code_2(own: Home) -> None:
    """C-05: detached or not; nothing has been started."""
    for words in (("--count", "many"), ("--set", "workers.cuont=3"), ("--detach", "--mode", "proces"), ("--wat",)):
        done = own.run("worker", "start", *words)
        assert (2, "") == (done.returncode, done.stdout), (words, done.stderr)
        assert "Traceback" not in done.stderr
    nothing = own.run("worker", "start", "--burst", "--count", "0")
    assert 2 == nothing.returncode and "give --burst with --count 1 or more" in nothing.stderr
    assert own.found() is None


# -- start and stop -----------------------------------------------------------------------------------------------------


def test_detach_outlives_its_command_and_leaves_no_zombie(own: Home) -> None:
    """C-01: a session of its own, its streams in a file, nothing of the terminal is held open."""
    client = own.start("--count", "1")
    process = psutil.Process(client.get("/v1/status")["pid"])
    assert os.getsid(process.pid) == process.pid
    assert process.ppid() != os.getpid()
    assert {"/dev/null"} == {os.readlink(f"/proc/{process.pid}/fd/0")}
    assert os.readlink(f"/proc/{process.pid}/fd/2").endswith(".out")
    done = own.run("worker", "stop")
    assert (0, "stopped; every task that ran has finished") == (done.returncode, done.stderr.splitlines()[-1])
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE  # init collects it, where there is one
    again = own.run("worker", "status")
    assert 3 == again.returncode and "ended at" in again.stderr and "asked through the control socket" in again.stderr


def test_detach_tells_why_a_pool_could_not_start(own: Home) -> None:
    """C-01: the error of the child, in its words, and nothing is left."""
    done = own.run("worker", "start", "--detach", "--module", "nowhere_at_all", "--count", "1")
    assert 1 == done.returncode and "nowhere_at_all" in done.stderr and "Traceback" not in done.stderr
    assert own.found() is None
    (own.directory / "state" / "rxtasks" / "tasks.db").write_bytes(b"this is no database" * 1000)
    done = own.run("worker", "start", "--detach")
    assert 1 == done.returncode and "tasks.db" in done.stderr.splitlines()[-1]


def test_stop_says_what_was_not_finished_and_the_next_pool_runs_it(own: Home) -> None:
    """C-01: cut off within the time that was given; the store keeps it."""
    client = own.start("--count", "1")
    fifo = own.directory / "fifo"
    os.mkfifo(fifo)
    task_id = own.push("pooljobs:gate", str(fifo))
    busy_with(client, task_id)
    done = own.run("worker", "stop", "--timeout", "0.1")
    assert 0 == done.returncode
    assert done.stderr.splitlines()[-2:] == [
        "stopped; 1 task not finished, back in the store, for the next pool:",
        f"  {task_id}",
    ]
    busy_with(own.start("--count", "1"), task_id)
    let_go(fifo)
    client = own.client()
    wait_for(lambda: client.get(f"/v1/tasks/{task_id}")["status"] == "succeeded", "the end of the task")
    assert 0 == own.run("worker", "stop", "--force", "--json").returncode


def test_sigterm_drains_and_exits_0_a_second_one_exits_143(own: Home) -> None:
    """Signals, as systemd sends them: the first lets what runs finish, the second cuts it off."""
    for times, code in ((1, 0), (2, 143)):
        pool = own.begin("worker", "start", "--count", "1", "--module", "pooljobs")
        assert pool.stderr is not None
        while "rxtasks: ready:" not in (line := pool.stderr.readline()):
            assert line, "the pool has ended"
        fifo = own.directory / f"fifo{times}"
        os.mkfifo(fifo)
        task_id = own.push("pooljobs:gate", str(fifo))
        busy_with(own.client(), task_id)
        pool.send_signal(signal.SIGTERM)
        while "SIGTERM: drains, 1 running task may finish" not in (line := pool.stderr.readline()):
            assert line, "the pool has ended"
        assert own.client().get("/v1/status")["stopping"] is True
        if times == 1:
            let_go(fifo)
        else:
            pool.send_signal(signal.SIGTERM)
        assert code == pool.wait(LONG)
        said = pool.stderr.read()
        assert ("drained: every task" if times == 1 else "1 task went back into the store") in said
        assert "Traceback" not in said


def test_sigterm_before_it_is_ready_is_an_orderly_end_too(own: Home) -> None:
    """Signals: while a module is imported; nothing says that it is ready, and nothing is left."""
    fifo = own.directory / "fifo"
    os.mkfifo(fifo)
    (own.directory / "slow.py").write_text(f"open({str(fifo)!r}, 'w').close()\nimport time\ntime.sleep(600)\n")
    pool = own.begin("worker", "start", "--count", "1", "--module", "slow")
    with open(fifo, encoding="utf-8"):
        pass  # its worker is at it
    pool.send_signal(signal.SIGTERM)
    _, said = pool.communicate(timeout=LONG)
    assert 0 == pool.returncode and "SIGTERM: ended before it was ready" in said and "ready:" not in said
    assert own.found() is None


def test_a_terminal_that_stands_still_holds_up_nothing(own: Home) -> None:
    """C-06: Ctrl-S in the terminal of a pool; it drains and ends all the same."""
    master, slave = pty.openpty()
    try:
        pool = own.begin("worker", "start", "--count", "1", "--module", "pooljobs", stderr=slave)
        wait_for(lambda: isinstance(own.found(), Running) and os.path.exists(own.found().socket), "the pool")
        client = own.client()
        termios.tcflow(slave, termios.TCOOFF)
        for number in range(3):
            own.push("pooljobs:quick", f"{number} {'x' * 50_000}")  # more than a terminal holds
        said(client, "quick 2")
        pool.send_signal(signal.SIGTERM)
        assert 0 == pool.wait(LONG)
    finally:
        os.close(slave)
        os.close(master)


def test_what_a_store_in_memory_loses_is_told(own: Home) -> None:
    """C-01: exit code 1 of the stop, with the ids."""
    done = own.run("worker", "start", "--store", "memory", "--mode", "thread", "--module", "pooljobs", "--detach")
    assert 0 == done.returncode, done.stderr
    [running] = [one for one in Place.all(own.environ) if isinstance(one, Running)]
    client = ControlClient(running.socket, 30.0)
    fifo = own.directory / "fifo"
    os.mkfifo(fifo)
    task_id = client.post("/v1/tasks", {"task": "pooljobs:gate", "args": [str(fifo)]})["task_id"]
    busy_with(client, task_id)
    done = own.run("worker", "stop", "--store", "memory", "--timeout", "0.1")
    assert 1 == done.returncode
    assert ["stopped; 1 task not finished, lost with the store in memory:", f"  {task_id}"] == done.stderr.splitlines()[
        -2:
    ]


def test_burst_ends_when_nothing_is_left_to_run(own: Home) -> None:
    """C-01: what waits is run, then the pool ends with 0."""
    (own.directory / "state" / "rxtasks").mkdir(mode=0o700)
    elsewhere = str(own.directory / "elsewhere")
    ids = [own.push("pooljobs:quick", number) for number in range(3)]
    done = own.run("worker", "start", "--burst", "--count", "1", "--module", "pooljobs", "--log-directory", elsewhere)
    assert 0 == done.returncode and "nothing is left to run" in done.stderr
    assert 3 == own.run("worker", "logs", "--log-directory", elsewhere, "--level", "info").stdout.count("| quick ")
    assert ["succeeded"] * 3 == [own.record(task_id).status for task_id in ids]


def test_two_starts_at_once_one_wins(own: Home) -> None:
    """C-01: exactly one; the other exits 4 and says who holds it."""
    both = [own.begin("worker", "start", "--detach", "--count", "1") for _ in range(3)]
    ended = [(process.communicate(timeout=LONG)[1], process.returncode) for process in both]
    assert [0, 4, 4] == sorted(code for _, code in ended), ended
    pid = own.client().get("/v1/status")["pid"]
    assert all(f"runs already, in process {pid}" in said for said, code in ended if code == 4), ended


def test_a_pool_in_memory_is_found_too(own: Home) -> None:
    """C-01: its store has no name that others know; the only one is meant."""
    done = own.run("worker", "start", "--store", "memory", "--mode", "thread", "--count", "1", "--detach")
    assert 0 == done.returncode, done.stderr
    status = own.run("worker", "status", "--store", "memory")
    assert 0 == status.returncode and "Mode: thread" in status.stdout
    assert 0 == own.run("worker", "stop", "--store", "memory").returncode
    assert 3 == own.run("worker", "status", "--store", "memory").returncode


def test_the_readme_s_commands_do_what_they_say(own: Home) -> None:
    """G-01: the block of the how-to, line by line, as it stands."""
    text = (ROOT / "README.md").read_text("utf-8").partition("## Run a pool that anybody can steer\n")[2]
    block = text.partition("```bash\n")[2].partition("```")[0]
    assert 7 == len(block.splitlines())
    (own.directory / "shop.py").write_text("from rxtasks import task\n@task\ndef resize(path): return path\n")
    program = own.directory / "rxtasks"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m rxtasks "$@"\n')
    program.chmod(0o755)
    done = subprocess.run(
        ["bash", "-eu", "-c", block],
        cwd=own.directory,
        env={**own.environ, "PATH": f"{own.directory}:{own.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=LONG * 2,
    )
    assert 0 == done.returncode, done.stderr
    assert "Active: 4" in done.stdout and "pool | pool paused" in done.stdout
    assert "the pool will have 8 workers" in done.stderr and "stopped; every task that ran has finished" in done.stderr
