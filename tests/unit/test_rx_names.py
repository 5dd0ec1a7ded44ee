"""What the subclasses of RxPY's classes may redefine."""

from __future__ import annotations

import pytest
from reactivex import Observable
from reactivex.subject import Subject

from rxtasks.engine.engine import TaskEngine
from rxtasks.isolation.base import Worker
from rxtasks.isolation.inline import InlineWorker
from rxtasks.isolation.process import ProcessWorker
from rxtasks.isolation.proxy import WorkerProxyObservable
from rxtasks.isolation.thread import ThreadWorker
from rxtasks.observe.bus import TaskEventBus
from rxtasks.observe.tracker import TaskTracker
from rxtasks.pool.pool import WorkerPool

_SUBJECTS = [TaskEngine, TaskTracker, TaskEventBus, Worker, WorkerPool, InlineWorker, ThreadWorker, ProcessWorker]
_ALLOWED = {"on_next", "on_error", "on_completed", "dispose"}


@pytest.mark.parametrize("kind", [*_SUBJECTS, WorkerProxyObservable])
def test_no_operator_of_rxpy_is_redefined(kind: type) -> None:
    """E-01: engine, worker, pool, bus and tracker keep every public name of Observable and Subject."""
    base = Subject if kind in _SUBJECTS else Observable
    assert issubclass(kind, base)
    names = {name for name in dir(base) if not name.startswith("_")} - _ALLOWED
    own = {name for each in kind.__mro__ if each.__module__.startswith("rxtasks") for name in vars(each)}
    assert set() == names & own
