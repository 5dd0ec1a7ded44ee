"""Every isolation passes the shipped suite."""

from __future__ import annotations

from typing import Any, ClassVar

from rxtasks.testing.isolation_suite import IsolationSuite


class TestInline(IsolationSuite):
    isolation = "inline"
    concurrent = False


class TestThread(IsolationSuite):
    isolation = "thread"


class TestProcess(IsolationSuite):
    isolation = "process"
    travels = True


class TestProcessOfItsOwn(IsolationSuite):
    """Not forked from a fork server."""

    isolation = "process"
    travels = True
    settings: ClassVar[dict[str, Any]] = {"fork_server": False}
