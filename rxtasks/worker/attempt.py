"""One attempt while it runs, and how it ended."""

from __future__ import annotations

from typing import Any

from rxtasks.wire.message import Assignment
from rxtasks.worker.context import TaskContext
from rxtasks.worker.outbox import Lane
from rxtasks.worker.retrying import RetryRule, rule_of

__all__ = ["Attempt", "Ending"]


class Attempt:
    """One attempt of a task: what was asked, its way out, its context."""

    __slots__ = ("assignment", "context", "lane", "loop", "ran_us", "rule", "started_ns", "task")

    def __init__(self, assignment: Assignment, lane: Lane, context: TaskContext, started_ns: int) -> None:
        self.assignment = assignment
        self.lane = lane
        self.context = context
        self.started_ns = started_ns
        self.ran_us = 0
        #: The retry rule, where the options hold one.
        self.rule: RetryRule | None = None
        #: The asyncio loop and task, while an async handler performs.
        self.loop: Any = None
        self.task: Any = None

    def retry_rule(self) -> RetryRule:
        """Return the rule for what follows a failure."""
        if self.rule is None:
            self.rule = rule_of(self.assignment)
        return self.rule


class Ending:
    """How an attempt ended, in the form of an END row."""

    __slots__ = ("blob", "delay", "error", "error_blob", "status", "value")

    def __init__(
        self,
        status: str,
        value: list[Any] | None = None,
        blob: bytes | None = None,
        error: dict[str, Any] | None = None,
        error_blob: bytes | None = None,
        delay: float | None = None,
    ) -> None:
        self.status = status
        self.value = value
        self.blob = blob
        self.error = error
        self.error_blob = error_blob
        self.delay = delay
