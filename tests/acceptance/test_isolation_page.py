"""The manual's page of isolations is true: each row of its table is done in each kind of worker (G-01)."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rxtasks import PayloadError, ResourceLimits, TaskCancelled, TaskContext, TaskService, TaskTimeout, WorkerCrashed
from rxtasks.pool.info import ISOLATIONS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "rxtasks" / "manual" / "isolation.md").read_text("utf-8")
LONG = 30.0


def table() -> dict[str, dict[str, bool]]:
    """Return the rows of the page's table: what -> kind -> whether it says yes."""
    lines = [line for line in PAGE.splitlines() if line.startswith("|")]
    kinds = [cell.strip() for cell in lines[0].strip("|").split("|")][1:]
    found = {}
    for line in lines[2:]:
        what, *words = (cell.strip() for cell in line.strip("|").split("|"))
        assert set(words) <= {"yes", "no"}, line
        found[what] = {kind: word == "yes" for kind, word in zip(kinds, words, strict=True)}
    return found


class Stage:
    """A service of one worker of a kind, and a directory."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.folder = folder
        self.service = TaskService(1, isolation=kind, echo=None)

    def run(self, handler: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        return self.service.with_options(**options).submit(handler, *arguments).result(LONG)

    def file(self, name: str) -> Path:
        return self.folder / name


Check = Callable[[Stage], bool]
CHECKS: dict[str, Check] = {}


def row(what: str) -> Callable[[Check], Check]:
    """Say which row a function checks; it returns what is so."""

    def add(check: Check) -> Check:
        CHECKS[what] = check
        return check

    return add


def until_there(path: str, most: float = LONG) -> bool:
    """Compute, without ever looking at the context, until the file is there; False after so many seconds."""
    end = time.monotonic() + most
    while time.monotonic() < end:
        if os.path.exists(path):
            return True
    return False


def wait_until(true: Callable[[], Any]) -> None:
    pause = threading.Event()
    for _ in range(int(LONG / 0.02)):
        if true():
            return
        pause.wait(0.02)
    pytest.fail(f"not within {LONG} s")


@row("submit returns before the handler ends")
def returns_at_once(stage: Stage) -> bool:
    go, gone = stage.file("go"), stage.file("gone")

    def handler(go: str, gone: str, most: float) -> None:
        until_there(go, most)
        Path(gone).touch()

    tracker = stage.service.submit(handler, str(go), str(gone), 0.2 if stage.kind == "inline" else LONG)
    before = not gone.exists()
    go.touch()
    tracker.result(LONG)
    return before


@row("runs on the submitting thread, so that a debugger stops there")
def same_thread(stage: Stage) -> bool:
    return bool((os.getpid(), threading.get_ident()) == stage.run(lambda: (os.getpid(), threading.get_ident())))


@row("has an interpreter of its own, so that Python code uses several cores")
def own_interpreter(stage: Stage) -> bool:
    return bool(os.getpid() != stage.run(os.getpid))


@row("there may be several workers")
def several(stage: Stage) -> bool:
    with TaskService(3, isolation=stage.kind, echo=None) as service:
        service.start()
        return service.status().workers == 3


@row("a crash (`os._exit`, a segfault) costs one attempt and not the program")
def crash(stage: Stage) -> bool:
    program = f"""
import os
from rxtasks import TaskService, WorkerCrashed
with TaskService(1, isolation={stage.kind!r}, echo=None) as service:
    try:
        service.with_options(max_crashes=1).submit(os._exit, 7).result(30)
    except WorkerCrashed:
        print(service.submit(abs, -4).result(30))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
    )
    assert (done.returncode, done.stdout) in ((0, "4\n"), (7, "")), done.stderr
    return done.returncode == 0


def timed_out(stage: Stage, name: str) -> tuple[bool, bool]:
    """Return whether a time limit was met while the handler computed, and whether it was ended by it."""
    go, gone = stage.file(name), stage.file(f"{name} over")

    def handler(go: str, gone: str, most: float) -> None:
        until_there(go, most)
        Path(gone).touch()

    with pytest.raises(TaskTimeout):
        stage.run(handler, str(go), str(gone), 0.5 if stage.kind == "inline" else LONG, timeout=0.1, grace=0.1)
    met = not gone.exists()
    go.touch()
    if stage.kind == "process":
        # It was killed before that was known: nobody is left who could touch it.
        return met, not gone.exists()
    wait_until(gone.exists)
    return met, False


@row("a time limit is met while the handler goes on computing")
def limit_met(stage: Stage) -> bool:
    return timed_out(stage, "met")[0]


@row("a handler that never looks is ended by its time limit")
def limit_ends(stage: Stage) -> bool:
    return timed_out(stage, "ended")[1]


@row("a handler that never looks is ended by a cancel")
def cancel_ends(stage: Stage) -> bool:
    begun, go, gone = stage.file("begun"), stage.file("cancel"), stage.file("cancel over")

    def handler(begun: str, go: str, gone: str) -> None:
        Path(begun).touch()
        until_there(go)
        Path(gone).touch()

    def cancel() -> None:
        wait_until(begun.exists)
        (running,) = stage.service.list(status="running")
        stage.service.cancel(running.task_id)
        if stage.kind != "process":
            go.touch()

    other = threading.Thread(target=cancel)
    other.start()
    tracker = stage.service.with_options(grace=0.1).submit(handler, str(begun), str(go), str(gone))
    with contextlib.suppress(TaskCancelled):
        tracker.result(LONG)
    other.join(LONG)
    go.touch()
    if stage.kind == "process":
        return not gone.exists()
    wait_until(gone.exists)
    return False


@row("limits of CPU, memory and disk mean something")
def limits(stage: Stage) -> bool:
    options = {"limits": ResourceLimits(memory_bytes=60_000_000, over_limit="kill"), "max_crashes": 1}
    go = stage.file("limit")

    def handler(go: str, most: float) -> None:
        filled = bytearray(os.urandom(1 << 20) * 200)
        until_there(go, most)
        del filled

    try:
        stage.run(handler, str(go), LONG if stage.kind == "process" else 0.1, **options)
    except WorkerCrashed as error:
        assert error.resource == "memory"
        return True
    return False


@row("processes that the handler started are ended after the attempt")
def children(stage: Stage) -> bool:
    pid = stage.run(lambda: subprocess.Popen(["sleep", "60"]).pid)

    def gone() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    if stage.kind == "process":
        wait_until(gone)
        return True
    still = not gone()
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return not still


@row("directory and environment are put back after the attempt")
def put_back(stage: Stage) -> bool:
    here = os.getcwd()

    def change() -> None:
        os.chdir("/")
        os.environ["RXTASKS_TEST_LEFT"] = "1"

    try:
        stage.run(change)
        return bool((here, None) == stage.run(lambda: (os.getcwd(), os.environ.get("RXTASKS_TEST_LEFT"))))
    finally:
        os.chdir(here)
        os.environ.pop("RXTASKS_TEST_LEFT", None)


@row("the attempt's `temp_dir` is removed")
def temp_dir(stage: Stage) -> bool:
    def handler(ctx: TaskContext) -> str:
        (Path(ctx.temp_dir) / "file").touch()
        return str(ctx.temp_dir)

    path = Path(stage.run(handler))
    wait_until(lambda: not path.exists())
    return True


def logged(stage: Stage, handler: Callable[[], Any]) -> list[str]:
    tracker = stage.service.submit(handler)
    tracker.result(LONG)
    assert stage.service.flush(LONG)
    return [line.message for line in tracker.log_tail]


@row("what the handler prints becomes log events")
def prints(stage: Stage) -> bool:
    return logged(stage, lambda: print("printed")) == ["printed"]


@row("what its child processes print becomes log events")
def child_prints(stage: Stage) -> bool:
    return "child" in logged(stage, lambda: subprocess.run(["echo", "child"], check=True))


@row("arguments are copied, so that the handler cannot change the caller's")
def copied(stage: Stage) -> bool:
    given: list[int] = []
    stage.run(lambda items: items.append(1), given)
    return given == []


@row("lambdas and functions of a script or a notebook can be submitted")
def by_value(stage: Stage) -> bool:
    seven = 7
    return bool(stage.run(lambda: seven) == 7)


@row("arguments that cannot be pickled can be passed")
def unpicklable(stage: Stage) -> bool:
    try:
        stage.run(type, threading.Lock())
    except PayloadError:
        return False
    return True


@row("a worker is replaced after `service.max_tasks` attempts")
def replaced(stage: Stage) -> bool:
    def worker(ctx: TaskContext) -> str:
        return str(ctx.worker_id)

    with TaskService(1, isolation=stage.kind, echo=None, max_tasks=1, max_tasks_strict=True) as service:
        return len({service.submit(worker).result(LONG) for _ in range(3)}) > 1


@row("the Python stack of a running handler can be shown")
def stack(stage: Stage) -> bool:
    begun, go = stage.file("stack begun"), stage.file("stack")
    found: list[str] = []

    def the_handler_whose_stack_it_is(begun: str, go: str) -> None:
        Path(begun).touch()
        until_there(go)

    def look() -> None:
        try:
            wait_until(begun.exists)
            (running,) = stage.service.list(status="running")
            found.append(str(stage.service.stack(running.task_id)))
        finally:
            go.touch()

    other = threading.Thread(target=look)
    other.start()
    stage.run(the_handler_whose_stack_it_is, str(begun), str(go))
    other.join(LONG)
    return "the_handler_whose_stack_it_is" in "".join(found)


@pytest.fixture(params=ISOLATIONS, scope="module")
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    made = Stage(request.param, tmp_path_factory.mktemp(request.param))
    with made.service:
        made.service.start()
        yield made


def test_every_row_is_checked_and_every_kind_has_a_column() -> None:
    """G-01: nothing stands there that nobody has tried."""
    assert set(table()) == set(CHECKS)
    assert all(set(words) == set(ISOLATIONS) for words in table().values())


@pytest.mark.parametrize("what", list(CHECKS))
def test_the_row_is_true(what: str, stage: Stage) -> None:
    """G-01: as the page says, in this kind of worker."""
    assert table()[what][stage.kind] == CHECKS[what](stage)
