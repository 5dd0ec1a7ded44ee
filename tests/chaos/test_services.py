"""Several services on one store: who is there, who is gone, and what becomes of its tasks."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import stat
import subprocess
import threading
import time
from pathlib import Path

import pytest

from rxtasks import ServiceStopped, StatusEvent, TaskCancelled, TaskService, WorkerEvent, iterate
from rxtasks.worker.children import children, descendants
from tests.chaos import durable
from tests.chaos.durable import Other, here, lock_files, look, wait_output, wait_until
from tests.chaos.support import LONG, Watched, kill, service


def statuses(made: TaskService, task_id: str) -> list[str]:
    return [str(event.status) for event in iterate(made.track(task_id)) if isinstance(event, StatusEvent)]


def stop(pid: int) -> None:
    """Stop a process, and wait until it stands still."""
    kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + LONG
    while (state := Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]) != "T":
        assert time.monotonic() < deadline, state


def is_free(path: Path) -> bool:
    with open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


# -- registration ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1])
def test_a_service_is_registered_while_it_runs(tmp_path: Path, workers: int) -> None:
    """Q-03: it has a row and holds the lock of a file that nobody else can read; a stop leaves neither."""
    made = here(tmp_path, workers)
    for _ in range(2):
        made.start()
        ((name, pid, lease_ns),) = look(tmp_path, "select id, pid, lease_ns from services")
        assert os.getpid() == pid and lease_ns > 0
        (file,) = lock_files(tmp_path)
        assert f"{name}.lock" == file.name and not is_free(file)
        assert os.getpid() == json.loads(file.read_bytes())["pid"]
        assert [0o600, 0o700] == [stat.S_IMODE(path.stat().st_mode) for path in (file, file.parent)]
        made.stop()
        assert [] == look(tmp_path, "select 1 from services") and [] == lock_files(tmp_path)


def test_tokens_jump_at_each_registration(tmp_path: Path) -> None:
    """Q-02: claims alone are not waited for by the disk; what was lost with the power is not given out again."""
    with here(tmp_path, 0) as made:
        made.start()
        (before,) = look(tmp_path, "select value from meta where name = 'fence'")
        made.stop()
        made.start()
        (after,) = look(tmp_path, "select value from meta where name = 'fence'")
        assert before[0] + 1_000_000 == after[0]


@pytest.mark.parametrize("forked", [True, False])
def test_the_lock_is_free_only_when_the_workers_are_dead_too(
    tmp_path: Path, forked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Q-03: a worker that cannot die yet holds it; until then nobody takes its task."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # else other programs' services may end the worker, which nobody guards
    with service(1, store=durable.url(tmp_path), modules=["tests.chaos.durable"]) as (made, witness):
        (own,) = lock_files(tmp_path)
        made.pause()
        with Other(tmp_path, fork_server=forked) as other:
            tracker = made.submit(durable.stays_once, str(tmp_path / "journal"))
            wait_output(tracker)
            (file,) = set(lock_files(tmp_path)) - {own}
            (_, _, _, worker) = next(durable.Journal(tmp_path).lines())
            below = [Watched(pid) for pid in descendants(other.process.pid) if pid != worker]
            kill_without_guardian(other.process, worker)
            assert all([each.gone(LONG) for each in below])
            assert not is_free(file)
            made.resume()
            kill(worker, signal.SIGCONT)
            assert 2 == tracker.result(LONG)
        assert made.flush(LONG)
        assert ["running", "pending", "running", "succeeded"] == witness.statuses(tracker.task_id)
        assert not file.exists()


@pytest.mark.parametrize("forked", [True, False])
def test_whatever_belongs_to_the_service_holds_its_lock(tmp_path: Path, forked: bool) -> None:
    """Q-03: the workers, those that replace them or are added, and the guardian, from the first moment of each start."""
    made = here(tmp_path, 2, fork_server=forked)
    before = set(descendants(os.getpid()))
    for _ in range(2):
        made.start()
        killed = made.workers()[0].pid or 0
        kill(killed)
        made.scale(3)
        wait_until(lambda: made.status().idle == 3)
        (file,) = lock_files(tmp_path)
        everybody = set(descendants(os.getpid())) - before
        assert len(everybody) >= 3
        assert {worker.pid for worker in made.workers()} <= everybody
        # One that has just been killed may still be there: it holds nothing any more, and that is right.
        wait_until(lambda: _state(killed) in ("Z", "X", ""))  # noqa: B023 (called at once)
        lacking = [pid for pid in everybody - {killed} if str(file) not in _files(pid)]
        assert [] == [pid for pid in lacking if _state(pid) not in ("Z", "X", "")]
        made.stop()
        before = set(descendants(os.getpid()))


def kill_without_guardian(process: subprocess.Popen[bytes], worker: int) -> None:
    """Kill a service and its guardian, which would end the worker: that is stopped, and so lives on."""
    stop(worker)
    stop(process.pid)  # it would replace the guardian
    for pid in children(process.pid):
        kill(pid)
    kill(process.pid)
    process.wait()


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0].decode()
    except OSError:
        return ""


def _files(pid: int) -> list[str]:
    """Return what the descriptors of a process lead to; nothing of one that has ended."""
    try:
        return [os.path.realpath(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    except FileNotFoundError:
        return []


def test_children_of_handlers_and_of_the_caller_do_not_hold_the_lock(tmp_path: Path) -> None:
    """Q-03: what a handler starts or forks, and what the caller forks, outlives the service without holding its lock."""
    made = here(tmp_path, 1)
    made.start()
    (file,) = lock_files(tmp_path)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(write)
        os.read(read, 1)
        os._exit(0)
    os.close(read)
    try:
        tracker = made.submit(durable.forks)
        for child in (pid, *wait_output(tracker, list)):
            assert str(file) not in [
                os.path.realpath(f"/proc/{child}/fd/{fd}") for fd in os.listdir(f"/proc/{child}/fd")
            ]
    finally:
        os.close(write)
        os.waitpid(pid, 0)
        made.stop(force=True)


# -- death -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("victim", ["service", "all"])
def test_a_killed_service_is_recovered_by_the_other(tmp_path: Path, victim: str) -> None:
    """Q-03 Q-04: its running task is interrupted and runs again, what it had not begun just waits; both once."""
    with service(1, store=durable.url(tmp_path), modules=["tests.chaos.durable"]) as (made, witness):
        made.pause()
        with Other(tmp_path, workers=1) as other:
            tracker = made.submit(durable.stays_once, str(tmp_path / "journal"))
            wait_output(tracker)
            others = [made.submit(durable.add, number, 1) for number in range(20)]
            everything = descendants(other.process.pid) if victim == "all" else []
            for pid in (other.process.pid, *everything):
                kill(pid)
            made.resume()
            assert 2 == tracker.result(LONG)
            assert [number + 1 for number in range(20)] == [each.result(LONG) for each in others]
        told = witness.wait(lambda: [event for event in witness.pool if event.kind == "recovered"])
        assert [1] == [event.data["services"] for event in told]
        assert made.flush(LONG)
        assert ["running", "pending", "running", "succeeded"] == witness.statuses(tracker.task_id)
        record = made.get(tracker.task_id)
        assert (1, 0, 2) == (record.interruptions, record.crashes, record.attempt)
        lost = next(event for event in witness.of(tracker.task_id) if getattr(event, "status", None) == "pending")
        assert isinstance(lost, StatusEvent) and lost.error is not None and ServiceStopped.code == lost.error.code
        assert all(["running", "succeeded"] == witness.statuses(each.task_id) for each in others)
        recovery = made.health()["recovery"]
        assert (1, 1) == (recovery["services"], recovery["recovered"])


def test_what_the_dead_have_left_is_recovered_before_work_begins(tmp_path: Path) -> None:
    """Q-03: at the start, with a report: recovered, failed, cancelled."""
    watcher = here(tmp_path, 0)
    with Other(tmp_path, workers=3) as other:
        trackers = [watcher.submit(durable.stays_once, str(tmp_path / "journal")) for _ in range(3)]
        for tracker in trackers:
            wait_output(tracker)
        watcher.stop()
        kill(other.process.pid)
        other.process.wait()
    wanted, doomed, unlucky = [tracker.task_id for tracker in trackers]
    look(tmp_path, "update tasks set cancel = 'not any more' where id = ?", doomed)
    look(tmp_path, "update tasks set interruptions = 19 where id = ?", unlucky)
    (file,) = lock_files(tmp_path)
    with here(tmp_path, 1) as made:
        reports: list[WorkerEvent] = []
        made.pool.subscribe(reports.append)
        made.start()
        assert made.flush(LONG)
        kinds = [event.kind for event in reports]
        assert kinds.index("recovered") < kinds.index("ready"), "recovered before anything could run"
        assert 2 == made.track(wanted).result(LONG)
        with pytest.raises(TaskCancelled, match="not any more"):
            made.track(doomed).result(LONG)
        with pytest.raises(ServiceStopped, match="20th time"):
            made.track(unlucky).result(LONG)
        recovery = made.health()["recovery"]
        assert [1, 1, 1, 1] == [recovery[name] for name in ("services", "recovered", "failed", "cancelled")]
        assert ["running", "failed"] == statuses(made, unlucky)
        assert ["running", "cancelled"] == statuses(made, doomed)
        assert not file.exists()


def test_workers_that_are_about_to_end_are_waited_for_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Q-03: their service is dead, they hold its lock for a moment more; nothing begins before their tasks are back."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # else other programs' services may end the worker, which nobody guards
    with here(tmp_path, 0) as watcher, Other(tmp_path, workers=1) as other:
        tracker = watcher.submit(durable.stays_once, str(tmp_path / "journal"))
        wait_output(tracker)
        ((_, _, _, worker),) = durable.Journal(tmp_path).lines()
        kill_without_guardian(other.process, worker)
    made = here(tmp_path, 1)
    reports: list[WorkerEvent] = []
    made.pool.subscribe(reports.append)

    def let_it_end() -> None:
        wait_until(lambda: len(look(tmp_path, "select 1 from services")) == 2)  # the new one has come, and looks
        threading.Event().wait(0.2)  # it would have begun by now
        kill(worker, signal.SIGCONT)

    thread = threading.Thread(target=let_it_end)
    thread.start()
    with made:
        made.start()
        thread.join()
        assert made.flush(LONG)
        kinds = [event.kind for event in reports]
        assert kinds.index("recovered") < kinds.index("ready")
        assert 2 == made.track(tracker.task_id).result(LONG)


def test_what_relates_to_a_task_of_the_dead_hears_of_its_fate(tmp_path: Path) -> None:
    """E-15 Q-03: a lock that it held is free again; what depends on one that has failed for it is cancelled."""
    with service(1, store=durable.url(tmp_path), modules=["tests.chaos.durable"]) as (made, witness):
        made.pause()
        with Other(tmp_path, workers=2) as other:
            holder = made.with_options(lock="key").submit(durable.stays_once, str(tmp_path / "journal"))
            unlucky = made.submit(durable.stays, str(tmp_path / "journal"))
            for tracker in (holder, unlucky):
                witness.wait_output(tracker.task_id, "here")
            waits = made.with_options(lock="key").submit(durable.add, 1, 2)
            depends = made.with_options(depends_on=[unlucky.task_id]).submit(durable.add, 1, 2)
            look(tmp_path, "update tasks set interruptions = 19 where id = ?", unlucky.task_id)
            other.process.kill()
            made.resume()
            assert (2, 3) == (holder.result(LONG), waits.result(LONG))
            with pytest.raises(TaskCancelled):
                depends.result(LONG)
        assert made.flush(LONG)
        assert ["running", "failed"] == witness.statuses(unlucky.task_id)
        assert ["cancelled"] == witness.statuses(depends.task_id)
