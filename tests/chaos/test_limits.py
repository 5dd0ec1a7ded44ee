"""Workers and tasks that use more than they may: told, throttled, killed, and nobody else hears of it (L-01, L-02)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rxtasks import ResourceLimits, SettingsError, TaskService, WorkerCrashed, WorkerEvent, WorkerSpec, WorkerStartError
from rxtasks.isolation.cgroups import Cgroups
from tests.chaos.handlers import add, block, leave, wait_for
from tests.chaos.limited import (
    burn_until,
    data_limit,
    hoard,
    hoard_after_fork,
    hoard_and_wait,
    hoard_in_child,
    hoard_until_killed,
    many_threads,
    own_groups,
    priority,
    total_of,
    write_until_killed,
)
from tests.chaos.support import LONG, Script, Watched, Witness, service

_MB = 1_000_000
_KILL: Any = {"over_limit": "kill"}


def _may_make_groups() -> bool:
    groups = Cgroups()
    group = groups.group("test")
    if group is not None:
        groups.remove(group)
    groups.close()
    return group is not None


_HERE = _may_make_groups()
_grouped = pytest.mark.skipif(not _HERE, reason="no control group may be made here")
#: With control groups where they may be made, and without.
_means = pytest.mark.parametrize("cgroups", [pytest.param("auto", marks=_grouped), "off"])


def _over(witness: Witness, count: int = 1) -> list[WorkerEvent]:
    """Wait for so many over_limit events."""

    def found() -> list[WorkerEvent] | None:
        events = [event for event in witness.pool if event.kind == "over_limit"]
        return events if len(events) >= count else None

    return witness.wait(found, f"{count} over_limit events") or []


def _assert_killed(error: WorkerCrashed, what: str, limit: float) -> None:
    assert (9, what, limit) == (error.signal, error.resource, error.limit)
    assert error.used is not None and error.used >= limit
    assert (
        error.reason is not None and f"it was killed: {what} " in error.reason and "TaskOptions.limits" in error.reason
    )


# -- memory -----------------------------------------------------------------------------------------------------------


@_means
@pytest.mark.parametrize("handler", [hoard_until_killed, hoard_in_child, hoard_after_fork])
def test_a_task_that_takes_too_much_memory_is_killed_with_all_its_children(handler: Any, cgroups: str) -> None:
    """L-02 W-07: the error names the limit and what was used; other tasks do not notice."""
    with service(2, cgroups=cgroups) as (tasks, witness):
        beside = tasks.with_options(grace=0).submit(block)
        witness.wait_output(beside.task_id, "here")
        limits = ResourceLimits(memory_bytes=100 * _MB, **_KILL)
        tracker = tasks.with_options(limits=limits, max_crashes=1).submit(handler)
        with pytest.raises(WorkerCrashed) as caught:
            tracker.result(LONG)
        _assert_killed(caught.value, "memory", 100 * _MB)
        (event,) = _over(witness)
        assert ("memory", "kill", "task") == (event.data["what"], event.data["action"], event.data["of"])
        assert [tracker.task_id] == event.data["task_ids"]
        assert 3 == tasks.submit(add, 1, 2).result(LONG)
        assert (1, "running") == (tasks.get(beside.task_id).attempt, tasks.get(beside.task_id).status)
        beside.cancel()


@_means
def test_a_memory_kill_is_a_crash_that_max_crashes_counts(cgroups: str) -> None:
    """L-02 W-07: it runs again, in a worker of its own, until it has crashed so often."""
    with service(2, cgroups=cgroups) as (tasks, witness):
        limits = ResourceLimits(memory_bytes=100 * _MB, **_KILL)
        tracker = tasks.with_options(limits=limits, max_crashes=2).submit(hoard_until_killed)
        with pytest.raises(WorkerCrashed):
            tracker.result(LONG)
        record = tasks.get(tracker.task_id)
        assert (2, 2, 0) == (record.attempt, record.crashes, record.interruptions)
        assert 2 == len(_over(witness, 2))


@_means
def test_a_worker_that_takes_too_much_memory_is_killed_and_replaced(cgroups: str) -> None:
    """L-01 L-02: limits of the WorkerSpec hold for whatever runs there, and for its successor."""
    spec: Any = [WorkerSpec(1, limits=ResourceLimits(memory_bytes=100 * _MB, **_KILL))]
    with service(spec, cgroups=cgroups) as (tasks, witness):
        for number in (1, 2):
            with pytest.raises(WorkerCrashed, match="limits of the worker"):
                tasks.with_options(max_crashes=1).submit(hoard_until_killed).result(LONG)
            assert number == len(_over(witness, number))
            assert 3 == tasks.submit(add, 1, 2).result(LONG)


@_means
def test_a_task_within_its_limits_is_left_alone(cgroups: str) -> None:
    """L-02: threads, which reserve much and use little, included."""
    with service(1, cgroups=cgroups) as (tasks, witness):
        limited = tasks.with_options(limits=ResourceLimits(memory_bytes=150 * _MB, **_KILL), max_crashes=1)
        assert 60 == limited.submit(hoard, 60).result(LONG)
        assert 100 == limited.submit(many_threads, 100).result(LONG)
        for number in range(50):
            assert number + 1 == limited.submit(add, number, 1).result(LONG)
        assert not [event for event in witness.pool if event.kind in ("over_limit", "failed")]


def test_a_warning_is_told_and_the_task_goes_on(tmp_path: Path) -> None:
    """L-02: that is the default; told once."""
    with service(1) as (tasks, witness):
        warned = tasks.with_options(limits=ResourceLimits(memory_bytes=80 * _MB))
        tracker = warned.submit(hoard_and_wait, 120, str(tmp_path / "go"))
        (event,) = _over(witness)
        assert "warn" == event.data["action"] and event.data["used"] > 80 * _MB == event.data["limit"]
        (tmp_path / "go").touch()
        assert 120 == tracker.result(LONG)


def test_objects_that_were_put_are_not_held_against_a_task() -> None:
    """L-01 E-20: 200 MB that all workers share are nobody's; an array of its own is its own."""
    limits = ResourceLimits(memory_bytes=100 * _MB, **_KILL)
    with service(2) as (tasks, witness), tasks.put(np.ones(25_000_000)) as shared:
        limited = tasks.with_options(limits=limits, max_crashes=1)
        for _ in range(4):
            assert 25_000_000 == limited.submit(total_of, shared).result(LONG)
        assert not [event for event in witness.pool if event.kind == "over_limit"]


def test_what_the_fork_server_shares_is_divided(tmp_path: Path) -> None:
    """L-01: four idle workers take less together than four times what one would show as resident."""
    with service(4, heartbeat=0.1) as (tasks, witness):

        def measured() -> bool:
            return all(info.disk_bytes is not None for info in tasks.workers())

        witness.wait(measured, "a look at each worker")
        status = tasks.status()
        assert status.memory_bytes == sum(info.memory_bytes or 0 for info in tasks.workers())
        resident = 0
        for info in tasks.workers():
            resident += int(Path(f"/proc/{info.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        assert 0 < status.memory_bytes < 0.8 * resident


def test_the_use_of_children_is_in_heartbeats_and_the_workers_info(tmp_path: Path) -> None:
    """L-01 W-06: the whole tree's CPU, memory and disk."""
    with service(1, heartbeat=0.1) as (tasks, witness):
        tracker = tasks.submit(hoard_and_wait, 150, str(tmp_path / "go"))

        def found() -> bool:
            return any(e.kind == "heartbeat" and e.data["memory_bytes"] > 150 * _MB for e in witness.pool)

        witness.wait(found, "a heartbeat that tells of it")
        (info,) = tasks.workers()
        assert (info.memory_bytes or 0) > 150 * _MB and (tasks.status().memory_bytes or 0) > 150 * _MB
        (tmp_path / "go").touch()
        tracker.result(LONG)


# -- disk and CPU -----------------------------------------------------------------------------------------------------


def test_a_task_that_fills_the_disk_is_killed_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L-02: what counts is what lies in its temp_dir."""
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with service(1) as (tasks, witness):
        limits = ResourceLimits(disk_bytes=20 * _MB, **_KILL)
        tracker = tasks.with_options(limits=limits, max_crashes=1).submit(write_until_killed)
        with pytest.raises(WorkerCrashed) as caught:
            tracker.result(LONG)
        _assert_killed(caught.value, "disk", 20 * _MB)
        assert "disk" == _over(witness)[0].data["what"]


@_means
def test_a_task_that_computes_too_much_is_throttled_and_the_next_is_not(tmp_path: Path, cgroups: str) -> None:
    """L-02: the event says by what means; priority and shares are as before for what comes next."""
    path = tmp_path / "go"
    with service(1, cgroups=cgroups) as (tasks, witness):
        before, pid = tasks.submit(priority).result(LONG), tasks.submit(os.getpid).result(LONG)
        limits = ResourceLimits(cpu_percent=1, over_limit="throttle")
        tracker = tasks.with_options(limits=limits).submit(burn_until, str(path))
        (event, *_) = _over(witness)
        assert ("cpu", "throttle") == (event.data["what"], event.data["action"])
        assert ("nice 19" if cgroups == "off" else "cgroup") in str(event.data["how"])
        assert cgroups == "auto" or 19 == os.getpriority(os.PRIO_PROCESS, pid)
        path.touch()
        tracker.result(LONG)
        assert before == tasks.submit(priority).result(LONG)


@_means
def test_a_task_that_computes_too_much_is_killed(tmp_path: Path, cgroups: str) -> None:
    """L-02: after three seconds of it."""
    with service(1, cgroups=cgroups) as (tasks, witness):
        limits = ResourceLimits(cpu_percent=1, **_KILL)
        tracker = tasks.with_options(limits=limits, max_crashes=1).submit(burn_until, str(tmp_path / "never"))
        with pytest.raises(WorkerCrashed) as caught:
            tracker.result(LONG)
        _assert_killed(caught.value, "cpu", 1)
        assert "cpu" == _over(witness)[0].data["what"]


# -- by what means ----------------------------------------------------------------------------------------------------


@_grouped
def test_a_worker_with_limits_has_a_group_of_its_own_until_it_is_gone() -> None:
    """L-02: below this process's, with the limit in it; none is left after the stop, of a killed worker either."""
    limits = ResourceLimits(memory_bytes=500 * _MB, cpu_percent=300, **_KILL)
    spec: Any = [WorkerSpec(2, limits=limits)]
    with service(spec) as (tasks, _):
        groups = tasks.submit(own_groups).result(LONG)
        mine = {path.rpartition("/rxtasks-workers-")[2] for path in groups.values() if "/rxtasks-workers-" in path}
        assert 1 == len(mine)
        with pytest.raises(WorkerCrashed, match="exit"):
            tasks.with_options(max_crashes=1).submit(leave, 3).result(LONG)
    left = _groups(os.getpid())
    assert not left


def _groups(pid: int) -> list[str]:
    """Return the control groups that a process has made for its workers and that are still there."""
    return [
        os.path.join(where, name)
        for where, names, _ in os.walk("/sys/fs/cgroup")
        for name in names
        if name.startswith(f"rxtasks-workers-{pid}-")
    ]


@_grouped
def test_what_a_killed_service_leaves_of_groups_the_next_one_sweeps() -> None:
    """L-02 W-10: and the processes in them with it."""
    text = """
import sys, time
from rxtasks import ResourceLimits, TaskService, WorkerSpec
from tests.chaos.handlers import block
service = TaskService(workers=[WorkerSpec(1, limits=ResourceLimits(memory_bytes=10**9, over_limit="kill"))])
service.start()
service.submit(block)
print(service.workers()[0].pid, flush=True)
sys.stdin.read()
"""
    with Script(text) as script:
        worker = Watched(int(script.line()))
        pid = script.process.pid
        assert _groups(pid)
        os.kill(pid, signal.SIGKILL)
        script.process.wait(LONG)
        assert worker.gone(LONG)
        spec: Any = [WorkerSpec(1, limits=ResourceLimits(memory_bytes=10**9, **_KILL))]
        with service(spec) as (tasks, _):
            assert 3 == tasks.submit(add, 1, 2).result(LONG)
            assert not _groups(pid)
            assert _groups(os.getpid())


def test_without_groups_only_soft_limits_are_set_and_lifted_again() -> None:
    """L-02: RLIMIT_DATA is what the machine has left while the task runs, and as it was for the next."""
    with service(1, cgroups="off") as (tasks, _):
        soft, hard = tasks.submit(data_limit).result(LONG)
        limited = tasks.with_options(limits=ResourceLimits(memory_bytes=10**9, **_KILL))
        held, still_hard = limited.submit(data_limit).result(LONG)
        assert held != soft and hard == still_hard
        assert (soft, hard) == tasks.submit(data_limit).result(LONG)


# -- limits that cannot be --------------------------------------------------------------------------------------------


def test_a_limit_below_what_a_worker_takes_fails_the_start_in_clear_words() -> None:
    """L-01 W-04: nothing hangs, and nothing is left."""
    tasks = TaskService(workers=[WorkerSpec(1, limits=ResourceLimits(memory_bytes=10_000))], echo=None)
    with pytest.raises(
        WorkerStartError, match=r"memory_bytes=10000 .* is less than a worker takes before its first task"
    ):
        tasks.start()
    tasks.stop()


def test_a_limit_below_what_a_worker_takes_fails_the_task_in_clear_words() -> None:
    """L-02: whether its worker has run others or not."""
    with service(1) as (tasks, _):
        limited = tasks.with_options(limits=ResourceLimits(memory_bytes=10_000, **_KILL))
        for _ in range(2):
            with pytest.raises(SettingsError, match="less than a worker takes before its first task"):
                limited.submit(add, 1, 2).result(LONG)
            assert 3 == tasks.submit(add, 1, 2).result(LONG)


def test_limits_of_the_service_are_those_of_each_worker_that_has_none() -> None:
    """L-01: one setting for all; nonsense is refused by name."""
    limits, own = ResourceLimits(memory_bytes=10**9), ResourceLimits(memory_bytes=2 * 10**9)
    specs: Any = [WorkerSpec(1), WorkerSpec(1, limits=own), WorkerSpec(1, isolation="thread")]
    with service(specs, limits=limits) as (tasks, witness):
        assert {limits, own, None} == {info.limits for info in tasks.workers()}
        assert any("limits do not apply to thread workers" in event.message for event in witness.pool)
    for setting in ({"limits": 5}, {"limits": "1 GB"}, {"cgroups": "/no/such/directory"}, {"cgroups": None}):
        with pytest.raises(SettingsError, match=f"setting {next(iter(setting))} is "):
            TaskService(workers=1, **setting)


def test_a_task_with_limits_is_kept_with_them_in_a_durable_store(tmp_path: Path) -> None:
    """L-02 Q-09: they hold after a restart too."""
    store = f"sqlite:///{tmp_path}/tasks.db"
    limits = ResourceLimits(memory_bytes=100 * _MB, **_KILL)
    with TaskService(workers=0, store=store) as front:
        task_id = front.with_options(limits=limits, max_crashes=1).submit(hoard_until_killed).task_id
    with TaskService(workers=1, store=store, echo=None, modules=["tests.chaos.limited"]) as tasks:
        tasks.start()
        with pytest.raises(WorkerCrashed, match=r"memory .* the limit of 100 MB"):
            tasks.track(task_id).result(LONG)


# -- a machine under pressure -----------------------------------------------------------------------------------------


def test_under_pressure_every_task_is_run_one_at_a_time_and_it_is_said_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """L-03: event, log, status, health and explain have the reason; nothing is lost and nothing stands still."""
    with service(2, pause_memory=10.0**15) as (tasks, witness):
        first = tasks.submit(wait_for, str(tmp_path / "go"))
        witness.wait_output(first.task_id, "here")
        others = [tasks.submit(add, number, 1) for number in range(5)]
        event = witness.wait(lambda: next((e for e in witness.pool if e.kind == "pool_paused"), None), "pool_paused")
        assert event is not None and "memory" == event.data["pressure"]
        assert "pause_memory" in event.message
        assert "pause_memory" in (tasks.status().paused or "")
        assert "pause_memory" in tasks.health()["pressure"]
        assert any("the machine is under pressure" in line for line in tasks.explain())
        assert 1 == tasks.status().running_tasks
        (tmp_path / "go").touch()
        assert [1, 2, 3, 4, 5] == [tracker.result(LONG) for tracker in others]
        assert tasks.flush(LONG)
        assert any("pause_memory" in record.getMessage() for record in caplog.records)


def test_the_usual_machine_is_not_under_pressure() -> None:
    """L-03: with the settings as they are, busy cores are no reason."""
    burning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
    try:
        with service(2) as (tasks, witness):
            trackers = [tasks.submit(add, number, 1) for number in range(200)]
            assert list(range(1, 201)) == [tracker.result(LONG) for tracker in trackers]
            assert tasks.status().paused is None and tasks.health()["pressure"] is None
            assert not [event for event in witness.pool if event.kind == "pool_paused"]
    finally:
        for process in burning:
            process.kill()
            process.wait()
