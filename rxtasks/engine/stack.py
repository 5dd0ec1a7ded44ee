"""stack(): where the handler of a running task stands, as text; never a value of a variable.

The worker is asked over its channel. One that does not answer, because C code of the handler holds its interpreter, is
read with a signal (isolation/stacks.py); one that is stopped is not touched.
"""

from __future__ import annotations

import linecache
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from rxtasks.engine.parts import ANSWER
from rxtasks.errors import SettingsError, UnknownTask
from rxtasks.isolation.base import Worker
from rxtasks.isolation.stacks import ask_for_dump, children_in_words, parse_dump, state_in_words
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.pool.state import WorkerState
from rxtasks.stores.base import Claim
from rxtasks.text import counted
from rxtasks.worker.stacks import Part

if TYPE_CHECKING:
    from rxtasks.engine.engine import TaskEngine

__all__ = ["stack_of"]

_T = TypeVar("_T")

#: Seconds that a worker may take to answer before it counts as held by C code.
_PATIENCE: Final = 1.0
#: Seconds that the other way may take.
_DUMP: Final = 3.0
_LOOK: Final = 0.02


def stack_of(engine: TaskEngine, task_id: str) -> str:
    """Return where the task's handler stands. Waits for the worker's answer, at most about four seconds.

    Raises:
        UnknownTask: there is no such task.
        SettingsError: it does not run, or another service of the store runs it.
    """
    engine._check_forked()
    for _ in range(5):
        here = _on_core(engine, lambda: _held(engine, task_id)) if engine.started else None
        if here is None:
            break
        claim, state = here
        answer = _Answer()
        worker = _on_core(engine, lambda: _ask(engine, state.worker_id, claim.token, answer))  # noqa: B023 (called at once)
        if worker is None:
            continue  # it has just gone: look again where the task is
        said, parts = _wait(engine, worker, answer)
        if parts or said:
            return _in_words(engine, claim, state, said, parts)
        if _on_core(engine, lambda: _held(engine, task_id)) == here and claim.status is not TaskStatus.RUNNING:
            raise SettingsError(_sent_ahead(claim, state))
    raise _not_here(engine, task_id)


class _Answer:
    """What a worker says, when it does: parts, none where it does not run the task; `gone` when it has ended."""

    def __init__(self) -> None:
        self.told = threading.Event()
        self.parts: list[Part] = []

    def take(self, parts: list[Part] | None) -> None:
        self.parts = parts or []
        self.told.set()


# -- on the core thread -----------------------------------------------------------------------------------------------


def _on_core(engine: TaskEngine, look: Callable[[], _T | None]) -> _T | None:
    """Return what `look` finds on the core thread, None when there is no such thread any more."""
    found: list[_T | None] = []
    done = threading.Event()

    def call() -> None:
        try:
            found.append(look())
        finally:
            done.set()

    engine.driver.mark(call)
    if not done.wait(ANSWER):
        raise TimeoutError("the engine has not answered in time")
    return found[0] if found else None


def _held(engine: TaskEngine, task_id: str) -> tuple[Claim, WorkerState] | None:
    claim = engine.core.recorder.claim_of(task_id)
    return None if claim is None or claim.worker is None else (claim, claim.worker)


def _ask(engine: TaskEngine, worker_id: str, token: int, answer: _Answer) -> Worker | None:
    worker = engine.driver.workers.get(worker_id)
    if worker is not None:
        worker.show_stacks(token, answer.take)
    return worker


# -- on the caller's --------------------------------------------------------------------------------------------------


def _wait(engine: TaskEngine, worker: Worker, answer: _Answer) -> tuple[str, list[Part]]:
    """Return a remark ("" = none) and the stacks."""
    pid = worker.pid
    if answer.told.wait(_PATIENCE / 4) or worker.isolation != "process" or pid is None:
        answer.told.wait(_PATIENCE)
        return "", answer.parts
    state = state_in_words(pid)
    if state.startswith("stopped"):
        return f"its process is {state}: it shows no stack until it is continued", []
    if answer.told.wait(_PATIENCE * 3 / 4):
        return "", answer.parts
    with engine.dumping:
        dump = _on_core(engine, lambda: _dump(engine, worker, pid))
        if dump is None or isinstance(dump, str):
            return f"its interpreter does not answer, and it cannot be read from outside: {dump or 'it has ended'}", []
        try:
            end = time.monotonic() + _DUMP
            while (text := dump.text()) is None and not answer.told.wait(_LOOK) and time.monotonic() < end:
                pass
        finally:
            dump.close()
    if answer.told.is_set():
        return "", answer.parts
    parts = parse_dump(text or "")
    if parts:
        return "C code holds its interpreter: read from outside", parts
    return f"its interpreter does not answer; its process is {state_in_words(pid)}", []


def _dump(engine: TaskEngine, worker: Worker, pid: int) -> Any:
    # On the core thread, which reaps it: until then its number is its own.
    return ask_for_dump(pid) if engine.driver.workers.get(worker.worker_id) is worker and worker.alive else None


# -- words ------------------------------------------------------------------------------------------------------------


def _in_words(engine: TaskEngine, claim: Claim, state: WorkerState, said: str, parts: list[Part]) -> str:
    envelope = claim.envelope
    process = state.spec.isolation == "process"
    place = f"worker {state.worker_id} ({state.spec.isolation}, pid {state.pid})"
    lines = [
        f"task {envelope.task_id} ({envelope.name}) in {place}, attempt {max(1, claim.attempt)}{_for_how_long(engine, claim)}"
    ]
    if said:
        lines.append(said)
    beside = [other.envelope.task_id for other in list(state.assigned.values()) if other.status is TaskStatus.RUNNING]
    if said and parts and len(beside) > 1:
        lines.append(f"the stack is of one of the {len(beside)} tasks that it runs: {', '.join(beside)}")
    for at, (title, *frames) in enumerate(parts):
        own = at == 0 and title in ("", f"task {envelope.task_id}")
        lines.append(f"{'Stack' if own else title or 'Stack'} (most recent call last):")
        lines += _frames(frames) or ["  no frame of Python"]
    if process and state.pid is not None and (children := children_in_words(state.pid)):
        lines.append(f"{counted(len(children), 'process')} below it: {'; '.join(children)}")
    return "\n".join(lines) + "\n"


def _for_how_long(engine: TaskEngine, claim: Claim) -> str:
    if claim.started_us is None:
        return ""
    return f", running for {max(0, engine._clock.wall_us() - claim.started_us) / 1e6:.1f} s"


def _frames(frames: list[Any]) -> list[str]:
    lines: list[str] = []
    last, repeats = None, 0
    for frame in [*frames, None]:
        if frame is not None and frame == last:
            repeats += 1
            continue
        if repeats:
            lines.append(f"  [the same {counted(repeats, 'more time')}]")
        last, repeats = frame, 0
        match frame:
            case [str(file), int(number), str(function)]:
                lines.append(f'  File "{file}", line {number}, in {function}')
                if source := linecache.getline(file, number).strip():
                    lines.append(f"    {source}")
            case str():
                lines.append(f"  ({frame})")
            case _:
                pass
    return lines


def _sent_ahead(claim: Claim, state: WorkerState) -> str:
    task_id = claim.envelope.task_id
    before = [other.envelope.task_id for other in list(state.assigned.values()) if other is not claim][:3]
    behind = f" behind {', '.join(before)}" if before else ""
    return f"task {task_id} has not begun: it waits in worker {state.worker_id}{behind}; stack() is of tasks that run"


def _not_here(engine: TaskEngine, task_id: str) -> Exception:
    record = engine.store.get(task_id)
    if record is None:
        return UnknownTask(task_id)
    if record.status.terminal:
        return SettingsError(f"task {task_id} has ended ({record.status}): it has no stack any more")
    if record.status is TaskStatus.RUNNING:
        return SettingsError(
            f"task {task_id} runs in worker {record.worker_id} of another service on this store: ask the service that has"
            " that worker"
        )
    return SettingsError(
        f"task {task_id} is {record.status}: only a task that runs has a stack; explain({task_id!r}) says what it waits for"
    )
