"""The guardian: nothing outlives the caller's process, nor the worker that started it; and what becomes of its own death."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rxtasks import TaskCancelled, TaskTimeout, WorkerCrashed
from rxtasks.isolation.guardian import can_guard
from rxtasks.worker.children import children, descendants
from rxtasks.worker.guardwords import MARK
from tests.chaos import wild
from tests.chaos.handlers import add, block, block_once, wait_for
from tests.chaos.support import LONG, Script, Watched, kill, service

pytestmark = pytest.mark.skipif(not can_guard(), reason="needs Linux")

#: Seconds after which nothing may be left (W-10).
SOON = 2.0

_PARENT = """
import json, os, signal, sys, threading
from rxtasks import OutputEvent, TaskService
from tests.chaos.wild import WILD
out = os.fdopen(os.dup(1), "w", buffering=1)
names, settings = json.loads(sys.argv[1]), json.loads(sys.argv[2])
service = TaskService(workers=len(names), echo=None, **settings)
service.start()
service.events.subscribe(lambda event: print("here", file=out) if isinstance(event, OutputEvent) else None)
for name in names:
    service.submit(WILD[name])
print("started", file=out)
sys.stdin.readline()
threading.Event().wait()
"""


def parent(*names: str, **settings: object) -> Script:
    """Return a program in which these wild handlers run."""
    script = Script(_PARENT, json.dumps(names), json.dumps(settings))
    said = sorted(script.line() for _ in range(len(names) + 1))
    assert said == ["here"] * len(names) + ["started"]
    return script


def guardian_of(pid: int) -> int:
    """Return the guardian of a service in this process."""
    (found,) = (child for child in children(pid) if mark_of(child) and child not in _OTHERS)
    return found


#: Guardians of services of this process that other tests have left to be collected.
_OTHERS: list[int] = []


def guardians(*, others: bool = False) -> list[int]:
    """Return the guardians of services that a test of this module has in this process."""
    return [pid for pid in children(os.getpid()) if mark_of(pid) and (others or pid not in _OTHERS)]


def mark_of(pid: int) -> bytes:
    """Return what tells the processes of a guardian, b"" = it is not below one."""
    try:
        entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return b""
    return next((entry for entry in entries if entry.startswith(MARK.encode() + b"=")), b"")


def marked(mark: bytes) -> list[int]:
    """Return the processes that have this mark."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and mark_of(int(name)) == mark]


def wait_until(found: Callable[[], object], what: str, seconds: float = LONG) -> None:
    """Return when `found` is true; it is asked again and again, for nothing tells of other processes."""
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end, f"{what} did not come within {seconds} s"
        threading.Event().wait(0.005)


def all_gone(watched: list[Watched], mark: bytes, since: float) -> None:
    """Fail unless these, and all that have the mark, are gone within SOON of `since`."""
    late = [each.pid for each in watched if not each.gone(max(0.0, since + SOON - time.monotonic()))]
    assert not late, f"still there after {SOON} s: {late}"
    assert not marked(mark)


def watch(pid: int) -> list[Watched]:
    """Hold everything below a process that is there now."""
    found: list[Watched] = []
    for each in descendants(pid):
        try:
            found.append(Watched(each))
        except ProcessLookupError:  # gone meanwhile
            continue
    return found


# -- the parent's death ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("forked", [True, False])
@pytest.mark.parametrize("name", sorted(wild.WILD))
def test_nothing_outlives_the_parent_whatever_a_handler_did(name: str, forked: bool) -> None:
    """W-10: 2 s after its SIGKILL: daemons, stopped and deaf ones, fork bombs, a worker in C code or stopped itself."""
    with parent(name, "plain", fork_server=forked) as script:
        mark = mark_of(guardian_of(script.process.pid))
        watched = watch(script.process.pid)
        assert len(watched) >= 4
        since = time.monotonic()
        script.process.kill()
        all_gone(watched, mark, since)


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_the_guardian_does_its_work_whatever_it_is_sent(number: signal.Signals) -> None:
    """W-10: stopped before the parent is killed, or told to end: it goes on, and ends all."""
    with parent("daemon", "holding") as script:
        guardian = guardian_of(script.process.pid)
        mark, watched = mark_of(guardian), watch(script.process.pid)
        os.kill(guardian, number)
        if number == signal.SIGSTOP:
            wait_until(lambda: state(guardian) == "T", "its stop")
        since = time.monotonic()
        script.process.kill()
        all_gone(watched, mark, since)


def state(pid: int) -> str:
    """Return the state of a process as the kernel names it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_stopped_parent_that_is_killed_leaves_nothing() -> None:
    """W-10: nor one whose children were stopped with it."""
    with parent("stopped", "plain") as script:
        mark, watched = mark_of(guardian_of(script.process.pid)), watch(script.process.pid)
        for pid in (script.process.pid, *descendants(script.process.pid)):
            os.kill(pid, signal.SIGSTOP)
        since = time.monotonic()
        script.process.kill()
        all_gone(watched, mark, since)


_STARTING = """
import os, sys
from rxtasks import TaskService
TaskService(workers=4, echo=None, fork_server=sys.argv[1] == "True").start()
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("forked", [True, False])
def test_a_parent_that_is_killed_as_its_workers_start_leaves_nothing(forked: bool) -> None:
    """W-10: at any moment of the start: neither a worker nor a guardian is left."""
    for moment in range(12):
        mark = os.urandom(8).hex()
        process = subprocess.Popen(
            [sys.executable, "-c", _STARTING, str(forked)], env={**os.environ, "RXTASKS_TEST_MARK": mark}
        )
        threading.Event().wait(0.12 + 0.04 * moment)
        process.kill()
        process.wait()
        wait_until(lambda mark=mark: not with_entry(f"RXTASKS_TEST_MARK={mark}".encode()), "the end", SOON)  # type: ignore[misc]


_CLOSED = """
import os, sys
from rxtasks import TaskService
out = os.dup(1)
os.set_inheritable(out, False)
for fd in range(3):
    os.close(fd)
service = TaskService(workers=1, echo=None, fork_server=sys.argv[1] == "True")
service.start()
(worker,) = service.workers()
with open(f"/proc/{worker.pid}/stat") as file:
    parent = int(file.read().rpartition(")")[2].split()[1])
os.write(out, f"{service.submit(abs, -3).result(30)} {parent != os.getpid()}\\n".encode())
service.stop()
"""


@pytest.mark.parametrize("forked", [True, False])
def test_a_daemon_without_standard_streams_has_a_guardian(forked: bool) -> None:
    """W-10: descriptors 0, 1 and 2 are closed, and so are the first ones that it opens."""
    with Script(_CLOSED, str(forked)) as script:
        assert "3 True" == script.line()


def with_entry(entry: bytes) -> list[int]:
    """Return the processes that have this in their environment."""
    found: list[int] = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if entry in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                    found.append(int(name))
            except OSError:
                continue
    return found


# -- a worker's death --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("forked", [True, False])
@pytest.mark.parametrize("name", ["daemon", "deaf", "stopped", "chain", "bomb", "hopping"])
def test_what_a_dead_worker_leaves_is_gone_before_its_task_runs_again(name: str, forked: bool) -> None:
    """W-07, W-10, W-17: also a daemon; no process of a task is there beside its next attempt."""
    before = set(descendants(os.getpid()))
    with service(1, fork_server=forked) as (tasks, witness):
        tracker = tasks.with_options(max_crashes=1).submit(wild.WILD[name])
        witness.wait_output(tracker.task_id, "here")
        assert descendants(witness.worker_of(tracker.task_id))
        kill(witness.worker_of(tracker.task_id))
        with pytest.raises(WorkerCrashed):
            tracker.result(LONG)
        guardian = guardian_of(os.getpid())
        left = {pid for pid in descendants(guardian) if pid not in before and os.getsid(pid) != guardian}
        assert left <= {worker.pid for worker in tasks.workers()}
        assert 3 == tasks.submit(add, 1, 2).result(LONG)


_TERM = """
import os, signal, sys, time
def end(number, frame):
    time.sleep(0.2)
    open(sys.argv[1], "w").close()
    sys.exit()
signal.signal(signal.SIGTERM, end)
os.write(1, b"x")
time.sleep(1000)
"""


def with_tidy_child(path: str, ctx: wild.TaskContext) -> None:
    wild.ready(wild.started(sys.executable, "-c", _TERM, path, start_new_session=True))
    wild.stay(ctx)


@pytest.mark.parametrize("why", ["cancel", "timeout"])
def test_children_have_a_second_to_tidy_up(why: str, tmp_path: Path) -> None:
    """W-08, W-09: SIGTERM goes to the whole tree, SIGKILL comes a second later, although the worker is gone at once."""
    tidied = tmp_path / "tidied"
    with service(1) as (tasks, witness):
        view = tasks.with_options(grace=0.1, timeout=6.0 if why == "timeout" else None)
        tracker = view.submit(with_tidy_child, str(tidied))
        witness.wait_output(tracker.task_id, "here")
        if why == "cancel":
            assert tracker.cancel()
        with pytest.raises(Exception) as caught:
            tracker.result(LONG)
        assert isinstance(caught.value, TaskTimeout) == (why == "timeout")
        assert tidied.exists()


def make_shared_memory(ctx: wild.TaskContext) -> None:
    from multiprocessing.shared_memory import SharedMemory

    made = SharedMemory(create=True, size=4096)
    ctx.emit(made.name)
    wild.stay(ctx)


@pytest.mark.parametrize("end", ["worker", "parent"])
def test_the_shared_memory_of_a_killed_handler_is_removed(end: str) -> None:
    """W-10: multiprocessing's own tracker does that, if it is let; it is gone in time, too."""
    if end == "worker":
        with service(1) as (tasks, witness):
            tracker = tasks.with_options(max_crashes=1).submit(make_shared_memory)
            event = witness.wait(lambda: [e for e in witness.of(tracker.task_id) if e.kind == "output"])[0]
            path = Path("/dev/shm") / event.value  # type: ignore[attr-defined]
            assert path.exists()
            kill(witness.worker_of(tracker.task_id))
            wait_until(lambda: not path.exists(), "its removal", SOON)
        return
    with Script(_SHARED) as script:
        path = Path("/dev/shm") / script.line()
        mark, watched = mark_of(guardian_of(script.process.pid)), watch(script.process.pid)
        since = time.monotonic()
        script.process.kill()
        all_gone(watched, mark, since)
        assert not path.exists()


_SHARED = """
import os, threading
from rxtasks import TaskService
from tests.chaos.test_guardian import make_shared_memory
out = os.fdopen(os.dup(1), "w", buffering=1)
service = TaskService(workers=1, echo=None)
service.events.subscribe(lambda event: print(event.value, file=out) if event.kind == "output" else None)
service.submit(make_shared_memory)
threading.Event().wait()
"""


# -- directories -------------------------------------------------------------------------------------------------------


def fill_temp_dir(ctx: wild.TaskContext) -> None:
    """Put a read-only directory and a link out of it into temp_dir, say where that is, and stay."""
    deep = ctx.temp_dir / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "file").write_text("x")
    (deep / "out").symlink_to(ctx.temp_dir.parent.parent)
    deep.chmod(0o500)
    ctx.emit(str(ctx.temp_dir))
    wild.stay(ctx)


def own_directories(place: Path) -> list[Path]:
    return sorted(place.glob("rxtasks-*"))


@pytest.mark.parametrize("why", ["crash", "timeout", "cancel", "force"])
def test_the_temp_dir_of_a_killed_handler_is_removed(why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """W-10, W-17: whatever ended it; what a link in it leads to stays, and nothing is left after the stop."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    bystander = tmp_path / "rxtasks-data"
    bystander.mkdir()
    (bystander / "precious").touch()
    with service(1) as (tasks, witness):
        view = tasks.with_options(max_crashes=1, grace=0.1, timeout=6.0 if why == "timeout" else None)
        tracker = view.submit(fill_temp_dir)
        event = witness.wait(lambda: [e for e in witness.of(tracker.task_id) if e.kind == "output"])[0]
        path = Path(event.value)  # type: ignore[attr-defined]
        assert tmp_path in path.parents
        if why == "crash":
            kill(witness.worker_of(tracker.task_id))
        elif why == "cancel":
            assert tracker.cancel()
        elif why == "force":
            tasks.stop(force=True)
        if why != "force":
            with pytest.raises((WorkerCrashed, TaskTimeout, TaskCancelled)):
                tracker.result(LONG)
            wait_until(lambda: not path.exists(), "its removal")
    assert [bystander] == own_directories(tmp_path)
    assert (bystander / "precious").exists()


_TEMP = """
import os, sys, threading
from rxtasks import TaskService
from tests.chaos.test_guardian import fill_temp_dir
out = os.fdopen(os.dup(1), "w", buffering=1)
service = TaskService(workers=1, isolation=sys.argv[1], echo=None)
service.events.subscribe(lambda event: print(event.value, file=out) if event.kind == "output" else None)
service.submit(fill_temp_dir)
threading.Event().wait()
"""


@pytest.mark.parametrize("isolation", ["process", "thread"])
@pytest.mark.parametrize("killed", ["parent", "both"])
def test_the_temp_dirs_of_the_dead_are_removed(
    isolation: str, killed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W-10, security rule 5: by the guardian, or where there is none any more by the next service; others' are not."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with Script(_TEMP, isolation) as script:
        path = Path(script.line())
        assert path.exists()
        root = tmp_path / path.relative_to(tmp_path).parts[0]
        with service(1) as (tasks, _):
            assert 3 == tasks.submit(add, 1, 2).result(LONG)
            assert path.exists(), "it is a living one's"
        if killed == "both":
            os.kill(script.process.pid, signal.SIGSTOP)
            for pid in children(script.process.pid):
                os.kill(pid, signal.SIGKILL)
        script.process.kill()
        script.process.wait()
    if isolation == "process" and killed == "parent":
        wait_until(lambda: not root.exists(), "its removal")
    with service(1) as (tasks, _):
        assert 3 == tasks.submit(add, 1, 2).result(LONG)
        wait_until(lambda: not root.exists(), "its removal")  # while the service is there: what sweeps ends with it
    wait_until(lambda: own_directories(tmp_path) == [], "the removal of all")


# -- exit statuses -----------------------------------------------------------------------------------------------------

_STATUSES = """
import os, signal, sys, threading
from rxtasks import TaskContext, TaskService, WorkerCrashed
from tests.chaos.handlers import add
out = os.fdopen(os.dup(1), "w", buffering=1)
stop = threading.Event()
if sys.argv[1] == "ignored":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
else:
    def reap():
        while not stop.is_set():
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                stop.wait(0.001)
    threading.Thread(target=reap, daemon=True).start()
service = TaskService(workers=1, echo=None, fork_server=sys.argv[2] == "True")
def seen(event):
    if event.kind == "output" and event.value == "kill":
        os.kill(next(i.pid for i in service.workers() if i.worker_id == event.worker_id), signal.SIGKILL)
service.events.subscribe(seen)
def die(how, ctx: TaskContext):
    ctx.emit(how)
    if how == "exit":
        os._exit(7)
    if how == "segv":
        signal.raise_signal(signal.SIGSEGV)
    threading.Event().wait()
for how in ("exit", "segv", "kill"):
    try:
        service.with_options(max_crashes=1).submit(die, how).result(30)
    except WorkerCrashed as error:
        print(error.exit_code, error.signal and int(error.signal), file=out)
print(service.submit(add, 1, 2).result(30), file=out)
service.stop()
stop.set()
print("stopped", file=out)
"""


@pytest.mark.parametrize("forked", [True, False])
@pytest.mark.parametrize("sigchld", ["ignored", "reaped"])
def test_exit_statuses_are_right_whoever_collects_them(sigchld: str, forked: bool) -> None:
    """W-07, fact 4: with SIGCHLD ignored, or a thread of the program that waits for every child."""
    with Script(_STATUSES, sigchld, str(forked)) as script:
        assert ["7 None", "None 11", "None 9", "3", "stopped"] == [script.line() for _ in range(5)]
        assert 0 == script.process.wait(LONG)


# -- the guardian's own death ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("forked", [True, False])
def test_a_killed_guardian_is_replaced_with_its_workers(forked: bool, tmp_path: Path) -> None:
    """W-10, W-07: what ran is run again and is not blamed; no process of before is left, no zombie either."""
    flag = tmp_path / "go"
    with service(2, fork_server=forked) as (tasks, witness):
        runs, leaves = tasks.submit(wait_for, str(flag)), tasks.with_options(max_crashes=1).submit(block_once)
        for tracker in (runs, leaves):
            witness.wait_output(tracker.task_id, "here")
        guardian = guardian_of(os.getpid())
        mark, watched = mark_of(guardian), watch(guardian)
        os.kill(guardian, signal.SIGKILL)
        assert 2 == leaves.result(LONG)
        all_gone(watched, mark, time.monotonic())
        flag.touch()
        assert str(flag) == runs.result(LONG)
        for tracker in (runs, leaves):
            record = tasks.get(tracker.task_id)
            assert (2, 0, 1) == (record.attempt, record.crashes, record.interruptions)
        assert guardian not in children(os.getpid())
        assert guardian_of(os.getpid()) != guardian


def test_a_guardian_that_is_killed_while_idle_leaves_no_zombie() -> None:
    """W-10: it is collected at once, not at the next start or stop; the workers are new."""
    with service(2) as (tasks, witness):
        guardian = guardian_of(os.getpid())
        pids = {worker.pid for worker in tasks.workers()}
        os.kill(guardian, signal.SIGKILL)
        witness.wait(lambda: len(witness.failures()) == 2, "the end of its workers")
        assert guardian not in children(os.getpid())
        wait_until(lambda: tasks.status().idle == 2, "new workers")
        assert pids.isdisjoint(worker.pid for worker in tasks.workers())


@pytest.mark.parametrize("name", ["daemon", "deaf", "stopped", "holding", "frozen", "chain"])
def test_what_a_killed_guardian_leaves_is_swept_by_the_next(name: str) -> None:
    """W-10: the parent lives: before another worker starts nothing of the lost one's is left."""
    with service(1) as (tasks, witness):
        tracker = tasks.submit(wild.WILD[name])
        witness.wait_output(tracker.task_id, "here")
        guardian = guardian_of(os.getpid())
        watched = watch(guardian)
        os.kill(guardian, signal.SIGKILL)
        all_gone(watched, mark_of(guardian) or b"?", time.monotonic() + SOON)
        witness.wait(lambda: witness.statuses(tracker.task_id).count("running") == 2)
        tracker.cancel()


def test_what_is_left_when_both_are_killed_is_swept_by_the_next_service(tmp_path: Path) -> None:
    """W-10: the guardian first, then the parent: children without anybody are ended when another service starts."""
    with parent("deaf", "stopped", "holding") as script:
        guardian = guardian_of(script.process.pid)
        mark, watched = mark_of(guardian), watch(guardian)
        os.kill(script.process.pid, signal.SIGSTOP)  # it is not to see that
        os.kill(guardian, signal.SIGKILL)
        script.process.kill()
        script.process.wait()
    with service(1) as (tasks, _):
        assert 3 == tasks.submit(add, 1, 2).result(LONG)
        late = [each.pid for each in watched if not each.gone(LONG)]
        assert not late
        assert not marked(mark)


def test_a_living_service_is_not_swept() -> None:
    """W-10: services beside it start and stop; its workers and what they started stay."""
    with parent("daemon", "plain") as script:
        guardian = guardian_of(script.process.pid)
        # Beside these, what the guardian does at leisure is in a process of its session, for a moment.
        pids = {pid for pid in descendants(guardian) if os.getsid(pid) != guardian}
        assert len(pids) == 4
        for _ in range(3):
            with service(1) as (tasks, _):
                assert 3 == tasks.submit(add, 1, 2).result(LONG)
        assert pids == {pid for pid in descendants(guardian) if os.getsid(pid) != guardian}


def test_guardians_that_are_killed_as_fast_as_they_come_are_replaced() -> None:
    """W-10, W-04: no worker is ever without one, and in the end everything is done."""
    with service(2, max_interruptions=1000) as (tasks, _):
        trackers = []
        for _ in range(12):
            for pid in guardians():
                kill(pid)
            trackers += [tasks.submit(add, number, 1) for number in range(20)]
            threading.Event().wait(0.05)
        assert [number + 1 for number in range(20)] * 12 == [tracker.result(LONG) for tracker in trackers]
        wait_until(lambda: tasks.status().idle == 2, "all workers")
        guardian = guardian_of(os.getpid())
        assert {worker.pid for worker in tasks.workers()} <= set(descendants(guardian))


def test_a_stopped_guardian_is_continued_when_it_is_needed() -> None:
    """W-06, W-07: a worker dies while nobody could tell so: it is told, and replaced."""
    with service(1) as (tasks, witness):
        tracker = tasks.submit(block_once)
        witness.wait_output(tracker.task_id, "here")
        os.kill(guardian_of(os.getpid()), signal.SIGSTOP)
        kill(witness.worker_of(tracker.task_id))
        assert 2 == tracker.result(LONG)
        assert 1 == tasks.get(tracker.task_id).crashes


def test_a_handler_that_kills_the_guardian_again_and_again_ends() -> None:
    """W-10: it is interrupted so often and no more; then nobody guards, but the service goes on."""

    with service(1, max_interruptions=2) as (tasks, _):
        with pytest.raises(WorkerCrashed):
            tasks.submit(kill_parent).result(LONG)
        assert 3 == tasks.submit(add, 1, 2).result(LONG)


def kill_parent(ctx: wild.TaskContext) -> None:
    """Kill the process that this one's parent is: the guardian."""
    ctx.emit("here")
    os.kill(os.getppid(), signal.SIGKILL)
    block(ctx)


@pytest.fixture(autouse=True)
def no_guardian_left() -> Iterator[None]:
    """Every test leaves this process without one of its own."""
    before = _OTHERS[:] = guardians(others=True)
    yield
    assert not guardians()
    assert set(guardians(others=True)) <= set(before)
