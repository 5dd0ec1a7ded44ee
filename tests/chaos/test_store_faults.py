"""Real faults under a running service on SQLite: a full disk, a disk that fails at fsync, a lock held for long (E-19)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rxtasks import TaskService
from rxtasks.errors import StoreError
from tests.acceptance.support import Gate, Recorder
from tests.chaos.store_scenes import size, through
from tests.chaos.support import ROOT

SCENE = [sys.executable, "-W", "ignore", "-m", "tests.chaos.store_scenes"]


def namespaces() -> bool:
    return shutil.which("unshare") is not None and not subprocess.run(["unshare", "-rm", "true"]).returncode


def played(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert 0 == done.returncode, done.stderr
    saw: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return saw


@pytest.fixture(scope="module", autouse=True)
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    """The scene of the lock that is held for 15 s: it plays beside the other tests here, and the last one waits for it."""
    folder = tmp_path_factory.mktemp("locked")
    with subprocess.Popen([*SCENE, "foreign_lock", str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True) as scene:
        yield scene
        scene.kill()


@pytest.mark.skipif(not namespaces(), reason="no user and mount namespaces here: no small disk can be mounted")
def test_on_a_full_disk_running_tasks_end_and_new_ones_are_refused_until_there_is_room(tmp_path: Path) -> None:
    """E-19, fact 8: real ENOSPC on a tmpfs of 64 MiB."""
    script = 'mount -t tmpfs -o size=64m none "$1" && shift && exec "$@"'
    saw = played(["unshare", "-rm", "sh", "-c", script, "sh", str(tmp_path), *SCENE, "full_disk", str(tmp_path)])
    assert "is full: free some space. Nothing that was acknowledged is lost" in saw["refused"]
    assert saw["reserve_given_up"] and saw["deleted"]
    assert "ended" == saw["running"], "the task that ran has ended while the disk was full"
    assert saw["results"], "everything that was acknowledged has run"
    assert 42 == saw["after"] and 16 * 2**20 == saw["reserve_back"]


@pytest.mark.skipif(not namespaces(), reason="no user and mount namespaces here: no small disk can be mounted")
def test_a_vacuum_that_finds_no_room_leaves_everything_as_it_is(tmp_path: Path) -> None:
    """Q-07: real ENOSPC, on the store's disk and on that of temporary files, before the vacuum and in the middle of it."""
    aside = tmp_path / "aside"
    script = (
        'mount -t tmpfs -o size=200m none "$1" && mkdir "$1/store" "$1/aside" && mount -t tmpfs -o size=64m none "$1/aside"'
        ' && TMPDIR="$1/aside" && export TMPDIR && shift && exec "$@"'
    )
    store = str(tmp_path / "store")
    saw = played(["unshare", "-rm", "sh", "-c", script, "sh", str(tmp_path), *SCENE, "vacuumed", store])
    first, second, third, fourth = saw["refused"]
    assert f"vacuum: the directory of temporary files, {aside}, has 0 MiB free" in first and "TMPDIR" in first
    assert f"vacuum: the disk of {store}/tasks.db has 0 MiB free" in second
    assert "full" in third and "full" in fourth
    assert saw["kept"] and [] == saw["sound"]
    assert saw["smaller"] > 15_000_000
    assert [42, []] == saw["after"]


def can_inject() -> bool:
    if shutil.which("strace") is None:
        return False
    probe = ["strace", "-f", "-o", "/dev/null", "-e", "inject=fdatasync:error=EIO:when=1", "true"]
    return not subprocess.run(probe, capture_output=True).returncode


@pytest.mark.skipif(not can_inject(), reason="strace is not here, or may not trace: no fsync can be made to fail")
@pytest.mark.parametrize("when", ["5+7", "4..9", "7..20"])
def test_what_is_acknowledged_is_on_disk_however_often_an_fsync_fails(tmp_path: Path, when: str) -> None:
    """E-19, Q-04: fdatasync answers EIO in the middle of it all. The service lives, and says what it met."""
    trace = tmp_path / "trace"
    inject = ["-e", "trace=fdatasync", "-e", f"inject=fdatasync:error=EIO:when={when}"]
    store = tmp_path / "store"
    store.mkdir()
    saw = played(["strace", "-f", "-qq", "-o", str(trace), *inject, *SCENE, "eio", str(store)])
    assert "INJECTED" in trace.read_text()
    assert saw["alive"] or not saw["acknowledged"]
    assert 40 == len(saw["acknowledged"]) + saw["refused"]
    assert len(saw["acknowledged"]) == saw["results"]
    with TaskService(0, store=f"sqlite:///{store / 'tasks.db'}") as service:
        records = {record.task_id: record.status for record in service.list(limit=1000)}
        assert {"succeeded"} == {str(records[task_id]) for task_id in saw["acknowledged"]}
        for task_id in saw["acknowledged"]:
            seqs = [event.seq for event in service._store.events(task_id)]  # type: ignore[attr-defined]
            assert list(range(1, len(seqs) + 1)) == seqs, "no event twice, none missing"


def test_a_store_that_fails_is_tried_again_with_delay_and_the_engine_lives_on(tmp_path: Path) -> None:
    """E-19: the file is moved away while a task runs. Its end waits, is told of on the pool's stream, and is not lost."""
    store, away = tmp_path / "store" / "tasks.db", tmp_path / "away.db"
    store.parent.mkdir()
    gate = Gate(tmp_path)
    with TaskService(1, isolation="thread", store=f"sqlite:///{store}", echo=None) as service:
        pool = Recorder()
        service.pool.subscribe(pool.on_next)
        started = Recorder()
        service.events.subscribe(started.on_next)
        tracker = service.submit(through, gate.path)
        started.wait(lambda seen: bool(seen.values))
        os.rename(store, away)
        with pytest.raises(StoreError, match="was deleted or moved while it was open: put it back"):
            service.submit(size, "x")
        gate.open()
        failed = "the store failed at commit: the store"
        pool.wait(lambda seen: any((event.message or "").startswith(failed) for event in seen.values))
        pool.wait(lambda seen: any("tried again in 1 s" in (event.message or "") for event in seen.values))
        health = service.health()
        assert not health["ok"] and "deleted or moved" in health["store"] and health["core_alive"]
        assert not tracker.done
        os.rename(away, store)
        assert "through" == tracker.result(30)
        assert 1 == service.submit(size, "x").result(30)
        assert service.health()["ok"] and service.health()["store"] is None
        assert [] == service.check()


def test_a_stop_does_not_fail_when_the_store_does(tmp_path: Path) -> None:
    store, away = tmp_path / "store" / "tasks.db", tmp_path / "away.db"
    store.parent.mkdir()
    with TaskService(1, isolation="thread", store=f"sqlite:///{store}", echo=None) as service:
        assert 1 == service.submit(size, "x").result(30)
        service.engine.wait_idle(30)
        os.rename(store, away)
        service.stop()
    os.rename(away, store)
    with TaskService(1, isolation="thread", store=f"sqlite:///{store}", echo=None) as service:
        assert 2 == service.submit(size, "xx").result(30)
        assert 2 == len(service.list())


def test_a_lock_that_another_process_holds_for_15_s_costs_time_and_nothing_else(locked: subprocess.Popen[str]) -> None:
    """E-19: callers wait and the pool's stream says for whom; looks go on; nothing is begun under a lapsed lease, or lost."""
    said, _ = locked.communicate(timeout=100)
    assert 0 == locked.returncode
    saw: dict[str, Any] = json.loads(said.splitlines()[-1])
    assert 15.0 <= saw["held"]
    assert saw["told"].startswith(saw["holder"]) and "waiting for" in saw["told"]
    assert ["running", 22] == saw["seen_meanwhile"]
    assert saw["waited"] and saw["alive"]
    assert saw["cancelled"] and saw["results"] and "ended" == saw["running"] and 42 == saw["after"]
    assert ["cancelled", "succeeded"] == saw["statuses"] and 0 == saw["interruptions"]
    assert [] == saw["explained"] and [] == saw["check"]
