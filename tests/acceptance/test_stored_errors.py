"""What a failed task raises is the same before and after a restart, and in another process (E-13)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rxtasks import (
    PayloadError,
    RetryPolicy,
    TaskContext,
    TaskFailed,
    TaskOptions,
    TaskRequest,
    TaskService,
    TaskTimeout,
    UnknownHandler,
    WorkerCrashed,
    task,
)
from tests.acceptance import jobs
from tests.acceptance.support import SOON, recorded, service


class Refused(Exception):
    """Its __init__ takes other arguments than it passes on."""

    def __init__(self, user: str, *, code: int) -> None:
        super().__init__(f"{user} was refused with {code}")
        self.user = user
        self.code = code


@task("errors.refuse")
def refuse(user: str) -> None:
    try:
        raise KeyError("inner")
    except KeyError as error:
        raise Refused(user, code=7) from error


@task("errors.odd")
def odd() -> None:
    raise ValueError(object())


@task("errors.gives_up", retry=RetryPolicy(max_attempts=2, base=0.001))
def gives_up(ctx: TaskContext) -> None:
    raise OSError(5, f"attempt {ctx.attempt}", "/there")


@task("errors.sleeps", timeout=0.05, grace=0.05)
def sleeps() -> None:
    jobs.time.sleep(600)


@task("errors.dies", max_crashes=1)
def dies() -> None:
    jobs.os._exit(3)


def stored(folder: Path, workers: int = 1, **more: Any) -> TaskService:
    return service(workers, store=f"sqlite:///{folder / 'tasks.db'}", **{"on_exit": "drain", **more})


def raised(made: TaskService, task_id: str) -> Exception:
    with pytest.raises(Exception) as caught:
        made.track(task_id).result(SOON)
    return caught.value


def seen(error: Any) -> tuple[Any, ...]:
    return type(error), error.args, str(error), error.__dict__


@pytest.mark.parametrize("isolation", ["inline", "thread", "process"])
def test_before_and_after_a_restart(tmp_path: Path, isolation: str) -> None:
    """E-13 E-05: the handler's own exception with its fields, the traceback as cause; or TaskFailed both times."""
    with stored(tmp_path, isolation=isolation) as made:
        ids = [made.submit(handler, *args).task_id for handler, args in ((refuse, ("ann",)), (gives_up, ()), (odd, ()))]
        before = [raised(made, task_id) for task_id in ids]
    with stored(tmp_path, workers=0) as made:
        after = [raised(made, task_id) for task_id in ids]
        outcome = recorded(made.track(ids[0]).outcome).over().error
    assert [seen(error) for error in before[:2]] == [seen(error) for error in after[:2]]
    assert isinstance(after[0], Refused) and (after[0].user, after[0].code) == ("ann", 7)
    assert isinstance(outcome, Refused)
    assert isinstance(after[1], OSError) and (after[1].errno, after[1].filename) == (5, "/there")
    assert "attempt 2" in str(after[1])
    text = str(after[0].__cause__)
    assert "in refuse" in text and "KeyError: 'inner'" in text
    assert [TaskFailed, TaskFailed] == [type(before[2]), type(after[2])] and str(before[2]) == str(after[2])


def test_what_the_engine_says_of_a_task(tmp_path: Path) -> None:
    """E-13: time-outs, crashes, refusals: with their fields, after a restart too."""
    with stored(tmp_path, isolation="process", modules=["tests.acceptance.jobs"]) as made:
        ids = [made.submit(handler).task_id for handler in (sleeps, dies)]
        ids.append(made.submit(jobs.give_object).task_id)
        made.engine.on_next(TaskRequest(jobs.double, (object(),), task_id="refused"))
        ids.append("refused")
        ids.append(made.push(TaskRequest("no.such:handler", options=TaskOptions(retry=RetryPolicy()))).task_id)
        before = [raised(made, task_id) for task_id in ids]
    with stored(tmp_path, workers=0) as made:
        after = [raised(made, task_id) for task_id in ids]
    assert [seen(error) for error in before] == [seen(error) for error in after]
    assert [TaskTimeout, WorkerCrashed, PayloadError, PayloadError, UnknownHandler] == [type(error) for error in after]
    assert isinstance(after[1], WorkerCrashed) and after[1].exit_code == 3


def test_another_process_rebuilds_only_what_it_has_imported(tmp_path: Path) -> None:
    """E-13, rule 2 of the security rules: nothing is imported for a row; with the class there, the exception itself."""
    with stored(tmp_path) as made:
        task_id = made.submit(refuse, "bob").task_id
        raised(made, task_id)
    look = """
import sys
from rxtasks import TaskService
if len(sys.argv) > 3: __import__(sys.argv[3])
service = TaskService(0, store=sys.argv[1], echo=None)
try:
    service.track(sys.argv[2]).result(20)
except Exception as error:
    print(type(error).__name__, getattr(error, "user", None), "tests.acceptance.test_stored_errors" in sys.modules)
service.stop()
"""
    root = str(Path(__file__).resolve().parents[2])
    for module, expected in (((), "TaskFailed None False"), ((__name__,), "Refused bob True")):
        command = [sys.executable, "-c", look, f"sqlite:///{tmp_path / 'tasks.db'}", task_id, *module]
        answer = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=True)
        assert answer.stdout.strip() == expected
