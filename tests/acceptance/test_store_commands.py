"""C-03 Q-07: `rxtasks store` as real processes, on real stores, some of them with a service that runs or was killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from rxtasks import TaskRequest, TaskService
from tests.acceptance import command_jobs
from tests.acceptance.commands import LONG, ROOT, Shell, lines_of

POOL = """
import signal, sys
from rxtasks import TaskService
service = TaskService(1, store=sys.argv[1], modules=["tests.acceptance.command_jobs"], echo=None)
service.start()
print("ready", flush=True)
signal.pause()
"""


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """Commands on a store with twenty ended tasks and one that waits."""
    made = Shell(tmp_path)
    with TaskService(1, store=made.store, isolation="thread", echo=None) as service:
        for tracker in [service.submit(command_jobs.add, number) for number in range(20)]:
            tracker.result(LONG)
    with TaskService(0, store=made.store, echo=None) as service:
        service.leave(TaskRequest("waits:here", task_id="waiting"))
    return made


@pytest.fixture
def pool(shell: Shell) -> Iterator[subprocess.Popen[str]]:
    """A process with a worker on the store."""
    process = subprocess.Popen(
        [sys.executable, "-c", POOL, shell.store],
        stdout=subprocess.PIPE,
        text=True,
        env=shell.environment | {"PYTHONWARNINGS": "default"},
        cwd=ROOT,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def test_a_store_is_looked_into_copied_checked_and_made_smaller(shell: Shell, tmp_path: Path) -> None:
    """Q-07: info, backup, check, prune and vacuum, each as JSON; the copy is a store of its own."""
    found = shell("store", "info", "--json").json
    assert ({"pending": 1, "succeeded": 20}, []) == (found["tasks"], found["services"])
    assert "20 succeeded" in shell.here("store", "info").out
    copy = tmp_path / "copy.db"
    saved = shell("store", "backup", str(copy), "--json").json
    assert (str(copy), copy.stat().st_size) == (saved["path"], saved["bytes"])
    assert "give the path of a new file" in shell.here("store", "backup", str(copy), code=2).err
    assert 21 == len(shell.ids("--store", f"sqlite:///{copy}"))
    assert {"sound": True, "findings": []} == shell("store", "check", "--json").json
    assert "forgotten: 0 tasks" in shell.here("store", "prune", "--older-than", "1h").out
    assert {"forgotten": 5} == shell("store", "prune", "--older-than", "0", "--limit", "5", "--json").json
    assert "forgotten: 15 tasks" in shell.here("store", "prune", "--older-than", "0s").out
    assert ["waiting"] == shell.ids()
    assert shell("store", "vacuum", "--json").json["bytes"] >= 0
    assert "the store is sound" in shell.here("store", "check").out


def test_damage_is_found_and_told_with_exit_code_1(shell: Shell, tmp_path: Path) -> None:
    """Q-07: a record that cannot be read, an id with control characters in it; a file that is broken."""
    db = apsw.Connection(str(tmp_path / "tasks.db"))
    db.execute("update tasks set options = 'nonsense', id = 'evil\x1b[31m' where id = 'waiting'")
    db.close()
    said = shell("store", "check", code=1)
    assert "cannot be read" in said.out and "\x1b" not in said.out
    assert not shell.here("store", "check", "--json", code=1).json["sound"]
    listed = shell.here("task", "list", "--status", "pending")
    assert "evil\\x1b[31m" in listed.out and "\x1b" not in listed.out
    with open(tmp_path / "tasks.db", "r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 8192)
    assert shell.here("store", "check", code=1).out.strip()


def test_an_older_schema_is_migrated_and_a_newer_one_refused(shell: Shell, tmp_path: Path) -> None:
    """Q-07: migrate says from which version to which; a newer rxtasks's store is left as it is."""
    now = shell("store", "migrate", "--json").json["to"]
    db = apsw.Connection(str(tmp_path / "tasks.db"))
    db.execute("drop index retried; alter table tasks drop column retry_of; pragma user_version = 2")
    db.close()
    assert f"version {now} of the schema now; it had 2" in shell.here("store", "migrate").out
    assert 21 == len(shell.ids())
    db = apsw.Connection(str(tmp_path / "tasks.db"))
    db.execute(f"pragma user_version = {now + 1}")
    db.close()
    for words in (["migrate"], ["check"], ["backup", str(tmp_path / "no.db")], ["vacuum"], ["info"]):
        said = shell.here("store", *words, code=1)
        assert "upgrade rxtasks" in said.err + said.out, said
    assert not (tmp_path / "no.db").exists()


def test_upkeep_goes_on_beside_a_pool_and_after_it_was_killed(
    shell: Shell, pool: subprocess.Popen[str], tmp_path: Path
) -> None:
    """C-03 Q-05: with a service that uses the store, and with one that was killed between two commands."""
    there = tmp_path / "there"
    task_id = shell("task", "push", f"{command_jobs.__name__}:wait_for", str(there)).out.strip()
    follows = shell.start("task", "logs", "--follow", task_id)
    try:
        assert any("waiting" in line for line in lines_of(follows))
        (service,) = shell("store", "info", "--json").json["services"]
        assert (pool.pid, 1) == (service["pid"], service["holds"])
        assert {"sound": True, "findings": []} == shell.here("store", "check", "--json").json
        shell.here("store", "backup", str(tmp_path / "copy.db"))
        os.kill(pool.pid, signal.SIGKILL)
        pool.wait()
        assert [task_id] == shell.ids("--status", "running")
        assert "no pool runs" in shell("explain", task_id).err
        assert "asked for" in shell("task", "cancel", task_id, "--reason", "its pool is gone").out
        modules = [command_jobs.__name__]
        with TaskService(1, store=shell.store, modules=modules, echo=None, isolation="thread") as service:
            service.start()
            assert 0 == follows.wait(LONG)
        assert "its pool is gone" in shell.here("task", "track", task_id, code=1).out
        assert "the store is sound" in shell.here("store", "check").out
    finally:
        there.touch()
        follows.kill()
        follows.wait()


@pytest.mark.skipif(os.geteuid() == 0 and shutil.which("setpriv") is None, reason="root may read everything")
def test_a_store_of_somebody_else_is_told_in_a_sentence(tmp_path: Path) -> None:
    """C-03: no permission to read the file, or to look into its directory."""
    shell = Shell(tmp_path, f"sqlite:///{tmp_path / 'theirs' / 'tasks.db'}")
    (tmp_path / "theirs").mkdir()
    shell.here("task", "push", "a:b")
    root = os.geteuid() == 0
    if root:
        for place in (tmp_path / "theirs", *(tmp_path / "theirs").iterdir()):
            os.chown(place, 65534, 65534)
    alone = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"] if root else []  # root without its powers
    for place, advice in (("theirs/tasks.db", "cannot be written"), ("theirs", "check owner and mode")):
        (tmp_path / place).chmod(0o400 if place.endswith(".db") else 0)
        done = subprocess.run(
            [*alone, sys.executable, "-m", "rxtasks", "task", "list"],
            capture_output=True,
            text=True,
            env=shell.environment,
            cwd=tmp_path,
            timeout=LONG,
        )
        assert (1, True) == (done.returncode, advice in done.stderr), done
    (tmp_path / "theirs").chmod(0o700)
