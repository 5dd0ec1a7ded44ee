"""How an attempt that ended by an exception goes on: retrying, scheduled, cancelled or failed (E-12).

The worker decides, by the options in the assignment. The policy's exception types come as "module:QualName" and are
compared with the names of the raised class and its bases, so nothing is imported for them; in one process they may be
the classes themselves.
"""

from __future__ import annotations

import os
import pickle
import time
from typing import Any

from rxtasks.lifecycle.retry import RetryPolicy
from rxtasks.wire.message import Assignment

__all__ = ["Decision", "RetryRule", "rule_of"]


class Decision:
    """What follows a failed attempt."""

    __slots__ = ("delay", "number", "of", "retry")

    def __init__(self, retry: bool, delay: float | None = None, number: int = 0, of: int = 0) -> None:
        self.retry = retry
        #: Seconds until the next attempt.
        self.delay = delay
        #: Which retry the next attempt is, of how many (0: there is no such number).
        self.number = number
        self.of = of


class RetryRule:
    """An assignment's retry policy."""

    __slots__ = ("_failures", "_give_up_on", "_policy", "_retry_on")

    def __init__(self, policy: RetryPolicy, retry_on: list[Any], give_up_on: list[Any], failures: int) -> None:
        self._policy = policy
        self._retry_on = retry_on
        self._give_up_on = give_up_on
        self._failures = failures

    @property
    def max_attempts(self) -> int:
        """Attempts in all that may end by an exception."""
        return self._policy.max_attempts

    def after(self, error: BaseException) -> Decision:
        """Decide what follows an attempt that raised `error`."""
        ended = self._failures + 1
        kind = type(error)
        if ended >= self._policy.max_attempts or not _matches(kind, self._retry_on) or _matches(kind, self._give_up_on):
            return Decision(False)
        return self._again(ended, self._policy.delay(ended, _chance()))

    def asked(self, delay: float | None) -> Decision:
        """Decide what follows an attempt whose handler raised Retry(delay).

        A policy of one attempt says that nothing is tried again by itself: here the handler asks for it.
        """
        ended = self._failures + 1
        if 1 < self._policy.max_attempts <= ended:
            return Decision(False)
        return self._again(ended, self._policy.delay(ended, _chance()) if delay is None else max(0.0, delay))

    def _again(self, ended: int, delay: float) -> Decision:
        return Decision(True, delay, ended, self._policy.max_attempts - 1)


def rule_of(assignment: Assignment) -> RetryRule:
    """Return the rule that the assignment's options hold."""
    options = assignment.options
    found = None if options is None else options.get("retry")
    if found is None:
        return RetryRule(RetryPolicy(), [Exception], [], assignment.failures)
    if isinstance(found, RetryPolicy):
        return RetryRule(found, list(found.retry_on), list(found.give_up_on), assignment.failures)
    plain = {key: found[key] for key in ("max_attempts", "backoff", "base", "cap", "jitter") if key in found}
    retry_on = found.get("retry_on")
    return RetryRule(
        RetryPolicy(**plain),
        [Exception] if retry_on is None else list(retry_on),
        list(found.get("give_up_on") or ()),
        assignment.failures,
    )


def _chance() -> float:
    """Return a random number from 0 up to 1, without the 2 ms that importing `random` takes."""
    return int.from_bytes(os.urandom(6), "little") / 2**48


def _matches(kind: type[BaseException], wanted: list[Any]) -> bool:
    names: set[str] | None = None
    for each in wanted:
        if isinstance(each, type):
            if issubclass(kind, each):
                return True
        elif isinstance(each, bytes):
            loaded = pickle.loads(each)
            if _matches(kind, [loaded]):
                return True
        else:
            if names is None:
                names = {f"{base.__module__}:{base.__qualname__}" for base in kind.__mro__}
            if each in names:
                return True
    return False


def seconds_until(at: Any) -> float:
    """Return the seconds from now until an aware datetime, at least 0."""
    return max(0.0, float(at.timestamp()) - time.time())
