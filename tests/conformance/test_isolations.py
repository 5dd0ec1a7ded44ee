"""Every isolation passes the shipped suite."""

from __future__ import annotations

from rxtasks.testing.isolation_suite import IsolationSuite


class TestInline(IsolationSuite):
    isolation = "inline"
    concurrent = False


class TestThread(IsolationSuite):
    isolation = "thread"


class TestProcess(IsolationSuite):
    isolation = "process"
    travels = True
