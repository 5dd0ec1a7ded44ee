"""What the delivery thread does, one call at a time: pairs of something with `push` and what to push.

A subscription (`Target`) takes events. `Ending` ends a subscription, `Job` runs a function: both stand in the same
place of a pair, so that the watchdog sees every call that user code can hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeAlias

from rxtasks.reactive.subject import Report, RxSubject, Target, log_problem

__all__ = ["CallPair", "Ending", "Job", "Receiver", "endings", "run_calls"]


class Receiver(Protocol):
    """What a call is made on; `Target` is the common one."""

    @property
    def push(self) -> Callable[[Any], None]:
        """What takes the value."""

    def raised(self, error: BaseException) -> None:
        """Called when push raised."""

    def withdraw(self) -> Callable[[Exception], None] | None:
        """Called while push has been running for too long; what it returns is called when it has come back."""


CallPair: TypeAlias = tuple[Receiver, Any]


class Ending:
    """Ends `target` with on_completed, or with on_error where there is an error."""

    __slots__ = ("error", "target")

    def __init__(self, target: Target[Any], error: Exception | None = None) -> None:
        self.target = target
        self.error = error

    def push(self, _: Any) -> None:
        held = self.target.held
        if held is not None:
            held.put_call(self)
        elif self.error is None:
            self.target.complete()
        else:
            error, self.error = self.error, None  # its traceback holds whatever raised it
            self.target.fail(error)

    def raised(self, error: BaseException) -> None:
        self.target.raised(error)

    def withdraw(self) -> Callable[[Exception], None] | None:
        return self.target.withdraw()


class Job:
    """Runs a function in its place in the order, once, and then lets go of it: what it holds may be a service."""

    __slots__ = ("_report", "_run", "more")

    def __init__(self, run: Callable[[], Any], report: Report) -> None:
        self._run: Callable[[], Any] | None = run
        self._report = report
        #: The calls that the function asks for by returning an iterator of them.
        self.more: Iterator[CallPair] | None = None

    def push(self, _: Any) -> None:
        run, self._run = self._run, None
        made = None if run is None else run()
        if hasattr(made, "__next__"):  # what else a callback returns is dropped
            self.more = made
        self._report = log_problem

    def raised(self, error: BaseException) -> None:
        report, self._report = self._report, log_problem
        report("a callback on the delivery thread raised", error)

    def withdraw(self) -> Callable[[Exception], None] | None:
        return None


def endings(subject: RxSubject[Any], error: Exception | None = None) -> Iterator[CallPair]:
    """Yield the calls that end every subscription of `subject`."""
    for target in subject._targets:
        yield Ending(target, error), None


def run_calls(calls: Iterator[CallPair]) -> None:
    """Make the calls on this thread, now; for streams without a delivery thread."""
    for receiver, value in calls:
        try:
            receiver.push(value)
        except BaseException as error:
            receiver.raised(error)
