"""CPython's own executor tests run on TaskExecutor, where they are installed and apply (N-03).

Nothing of them is copied here: their mixins are taken from the interpreter's `test` package (one module up to Python 3.11,
a package of modules since) and given TaskExecutor as the executor to test. `NOT_APPLICABLE` lists each test that does not
apply, with the reason. Whole classes that do not: FutureTests (of the class Future alone), FailingInitializerMixin (expects
BrokenExecutor: a failing initializer is tests/acceptance/test_executor.py), and the two shutdown tests of the standard
library's own pools.
"""

from __future__ import annotations

import concurrent.futures
import functools
import importlib
import unittest
from types import ModuleType
from typing import Any

import pytest

from rxtasks import PayloadError, TaskExecutor, TaskFailed, WorkerCrashed

try:
    importlib.import_module("test.test_concurrent_futures")
except (ImportError, unittest.SkipTest) as missing:
    pytest.skip(f"CPython's tests are not installed here: {missing}", allow_module_level=True)

#: By the name of the test: why it says nothing about TaskExecutor.
NOT_APPLICABLE = {
    "test_interpreter_shutdown": "its program imports the executor from concurrent.futures, and reads what a call prints;"
    " the same program with rxtasks: tests/acceptance/test_executor_end.py",
    "test_hang_issue39205": "as test_interpreter_shutdown",
    "test_hang_gh83386": "as test_interpreter_shutdown",
    "test_submit_after_interpreter_shutdown": "as test_interpreter_shutdown",
    "test_cancel_futures_wait_false": "as test_interpreter_shutdown",
    "test_threads_terminate": "reads the private _threads",
    "test_thread_names_assigned": "thread_name_prefix is ThreadPoolExecutor's own",
    "test_thread_names_default": "reads the private _threads",
    "test_processes_terminate": "reads the private _processes",
    "test_context_manager_shutdown": "makes a pool of the standard library, not one of executor_type",
    "test_del_shutdown": "makes a pool of the standard library, not one of executor_type",
    "test_shutdown_no_wait": "makes a pool of the standard library, not one of executor_type",
    "test_max_workers_too_large": "a limit of Windows",
    "test_cancel_futures": "expects that a call has begun before shutdown cancels; here all fifty may be cancelled first:"
    " tests/acceptance/test_executor_end.py",
    "test_traceback": "asks for the private class _RemoteTraceback: tests/acceptance/test_executor.py",
    "test_killed_child": "a dead worker breaks one call and never the pool",
    "test_saturation": "reads the private _processes or _threads",
    "test_idle_process_reuse_one": "reads the private _processes: all workers start with the first submit",
    "test_idle_process_reuse_multiple": "reads the private _processes: all workers start with the first submit",
    "test_idle_thread_reuse": "reads the private _threads: all workers start with the first submit",
    "test_ressources_gced_in_workers": "needs the authentication key that multiprocessing hands to its own children",
    "test_max_tasks_per_child": "reads the private _processes: tests/acceptance/test_executor.py",
    "test_max_tasks_per_child_defaults_to_spawn_context": "reads the private _mp_context",
    "test_python_finalization_error": "replaces private parts of ProcessPoolExecutor's threads",
    "test_hang_global_shutdown_lock": "a pool cannot be submitted to itself, and forks the standard library's pool",
    "test_gh105829_should_not_deadlock_if_wakeup_pipe_full": "replaces private parts of ProcessPoolExecutor",
    "test_shutdown_deadlock_pickle": "reads the private _executor_manager_thread",
    "test_force_shutdown_workers": "a method of ProcessPoolExecutor of Python 3.14",
    "test_force_shutdown_workers_invalid_op": "a method of ProcessPoolExecutor of Python 3.14",
    "test_force_shutdown_workers_dead_processes": "a method of ProcessPoolExecutor of Python 3.14",
    "test_force_shutdown_workers_not_started_yet": "a method of ProcessPoolExecutor of Python 3.14",
    "test_force_shutdown_workers_stops_pool": "a method of ProcessPoolExecutor of Python 3.14",
}

#: The same for calls that run within submit.
NOT_INLINE = {"test_map_timeout": "every call has ended when map returns: none is waited for"}

#: What TaskExecutor raises where the tests expect an error of ProcessPoolExecutor, by the name that the test uses.
INSTEAD: dict[str, Any] = {
    "BrokenProcessPool": (WorkerCrashed, PayloadError, TaskFailed),
    "PicklingError": PayloadError,
    "SystemExit": TaskFailed,
}

#: Where a class of the tests may stand; "" = there is one module for all.
_MODULES = ("", "executor", "util", "test_process_pool", "test_thread_pool", "test_shutdown", "test_wait")
_MODULES += ("test_as_completed", "test_init", "test_deadlock")


class ThreadTaskExecutor(TaskExecutor):
    def __init__(self, max_workers: int | None = None, **more: Any) -> None:
        super().__init__(max_workers, isolation="thread", **more)


class InlineTaskExecutor(TaskExecutor):
    def __init__(self, max_workers: int | None = None, **more: Any) -> None:
        super().__init__(max_workers, isolation="inline", **more)


def home(name: str) -> ModuleType:
    """Return the module of CPython's tests that holds this class."""
    for module in _MODULES:
        try:
            found = importlib.import_module(".".join(filter(None, ("test.test_concurrent_futures", module))))
        except ImportError:
            continue
        if hasattr(found, name):
            return found
    raise AssertionError(f"CPython's tests have no {name} any more")


def adapted(mixin: str, executor: type[TaskExecutor], *, context: str | None = None) -> type[unittest.TestCase]:
    """Return the test case of these tests for this kind of executor."""
    module = home(mixin)
    tests = getattr(module, mixin)
    bases = (tests,) if issubclass(tests, unittest.TestCase) else (tests, home("ExecutorMixin").ExecutorMixin, Base)
    members: dict[str, Any] = {"executor_type": executor, "__module__": __name__, "tested": module}
    if context is not None:
        members["ctx"] = context
    for name in dir(tests):
        if name.startswith("test"):
            reason = NOT_APPLICABLE.get(name) or (NOT_INLINE.get(name) if executor is InlineTaskExecutor else None)
            if reason is not None:
                members[name] = unittest.skip(reason)(getattr(tests, name))
            elif mixin == "ExecutorDeadlockTest":
                members[name] = with_our_errors(module, getattr(tests, name))
    return type(f"Test{executor.__name__}{mixin}", bases, members)


def with_our_errors(module: ModuleType, test: Any) -> Any:
    """Return the test with the errors of TaskExecutor where it names those of ProcessPoolExecutor."""

    @functools.wraps(test)
    def run(self: unittest.TestCase) -> None:
        for name, error in INSTEAD.items():
            before = vars(module).get(name)
            setattr(module, name, error)
            self.addCleanup(
                delattr if before is None else setattr, module, name, *(() if before is None else (before,))
            )
        test(self)

    return run


Base: type[unittest.TestCase] = home("BaseTestCase").BaseTestCase

for mixin in ("ExecutorShutdownTest", "WaitTests", "AsCompletedTests", "InitializerMixin"):
    for kind, context in ((TaskExecutor, "spawn"), (ThreadTaskExecutor, None)):
        made = adapted(mixin, kind, context=context)
        globals()[made.__name__] = made
for made in (
    adapted("ProcessPoolExecutorTest", TaskExecutor, context="spawn"),
    adapted("ThreadPoolExecutorTest", ThreadTaskExecutor),
    adapted("ThreadPoolWaitTests", ThreadTaskExecutor),
    adapted("ExecutorTest", InlineTaskExecutor),
    adapted("ExecutorDeadlockTest", TaskExecutor, context="spawn"),
):
    globals()[made.__name__] = made
del made, mixin, kind, context


def test_the_tests_run_on_this_executor_and_no_other() -> None:
    """N-03: each adapted case makes a TaskExecutor."""
    cases = [value for value in globals().values() if isinstance(value, type) and issubclass(value, unittest.TestCase)]
    kinds = {case.executor_type for case in cases if hasattr(case, "executor_type")}  # type: ignore[attr-defined]
    assert {TaskExecutor, ThreadTaskExecutor, InlineTaskExecutor} == kinds
    assert all(issubclass(kind, concurrent.futures.Executor) for kind in kinds)
