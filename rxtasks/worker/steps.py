"""Steps of a composite task: each has a name and retries of its own, and its result is kept for the next attempt (E-14).

::

    step(name) ──> kept by an attempt before? ──> yes: that result
                        └─> no: progress ── call, again as its policy says ── keep (durable) ── progress ──> result

So an attempt that follows a failure, a crash or a restart passes through what has been done, and goes on at the step that
has not. Which steps there are is decided while the handler runs.
"""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from rxtasks.errors import SettingsError
from rxtasks.lifecycle.retry import RetryPolicy

if TYPE_CHECKING:
    from rxtasks.worker.context import TaskContext

__all__ = ["Steps"]

#: Characters of an error's message in the log line of a retry.
_TEXT = 200
#: Characters of a name.
_NAME = 1000
#: Seconds after which one that waits looks whether it is cancelled.
_LOOK = 0.05


class Steps:
    """The steps of one attempt."""

    def __init__(self, context: TaskContext) -> None:
        self._context = context
        self._kept = context._host.kept_steps(context)
        self._names: set[str] = set()
        self._done = 0

    def run(
        self,
        name: str,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        retry: RetryPolicy | None,
    ) -> Any:
        """Return the step's result; an awaitable of it where the function is async.

        Raises:
            SettingsError: the name was used before in this attempt, or an argument is of another type.
            Cancelled: the task is cancelled.
        """
        self._check(name, function, retry)
        context = self._context
        context.raise_if_cancelled()
        self._names.add(name)
        waits = inspect.iscoroutinefunction(inspect.unwrap(function)) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004 - its own class's, where it is an object
        )
        if name in self._kept:
            value = context._host.load_step(context, self._kept.pop(name))
            self._done += 1
            self._say(name, "restored")
            return _given(value) if waits else value
        self._say(name, "started")
        policy = retry or RetryPolicy()
        if waits:
            return self._run_async(name, lambda: function(*args, **kwargs), None, policy)
        value = self._call(name, lambda: function(*args, **kwargs), policy)
        if inspect.isawaitable(value):
            return self._run_async(name, lambda: function(*args, **kwargs), value, policy)
        context._host.save_step(context, name, value)
        self._finished(name)
        return value

    def _check(self, name: str, function: Callable[..., Any], retry: RetryPolicy | None) -> None:
        if not isinstance(name, str) or not 0 < len(name) <= _NAME or not _plain(name):
            raise SettingsError(f"a step's name is text of at most {_NAME} characters, not {name!r}")
        if not callable(function):
            raise SettingsError(f"step {name!r} takes a function and its arguments, not {function!r}")
        if retry is not None and not isinstance(retry, RetryPolicy):
            raise SettingsError(f"step {name!r}: retry is a RetryPolicy or None, not {retry!r}")
        if name in self._names:
            raise SettingsError(
                f"step {name!r} has run in this attempt already: its name stands for its result, so give each its own,"
                " in a loop for example with the item's number"
            )

    def _call(self, name: str, call: Callable[[], Any], policy: RetryPolicy) -> Any:
        ended = 0
        while True:
            try:
                return call()
            except Exception as error:
                ended += 1
                delay = self._failed(name, error, ended, policy)
                if delay is None:
                    raise
            end = time.monotonic() + delay
            while (left := end - time.monotonic()) > 0:
                self._context.raise_if_cancelled()
                time.sleep(min(left, _LOOK))
            self._context.raise_if_cancelled()

    async def _run_async(
        self, name: str, call: Callable[[], Awaitable[Any]], first: Awaitable[Any] | None, policy: RetryPolicy
    ) -> Any:
        import asyncio

        ended = 0
        while True:
            try:
                value = await (call() if first is None else first)
                break
            except Exception as error:
                first = None
                ended += 1
                delay = self._failed(name, error, ended, policy)
                if delay is None:
                    raise
            await asyncio.sleep(delay)
            self._context.raise_if_cancelled()
        # The loop's other tasks go on while it waits for the disk.
        await asyncio.to_thread(self._context._host.save_step, self._context, name, value)
        self._finished(name)
        return value

    def _failed(self, name: str, error: Exception, ended: int, policy: RetryPolicy) -> float | None:
        """Return the seconds until the step is tried again, None = it is not."""
        if self._context.cancelled or not policy.wants(type(error), ended):
            self._say(name, "failed", ended)
            return None
        text = f"step {name}: retry {ended}/{policy.max_attempts - 1}: {error}"
        self._context._way.log("WARNING", text if len(text) <= _TEXT else text[: _TEXT - 1] + "\u2026", "log")
        self._say(name, "retrying", ended)
        return policy.delay(ended, int.from_bytes(os.urandom(6), "little") / 2**48)

    def _finished(self, name: str) -> None:
        self._done += 1
        self._say(name, "finished")

    def _say(self, name: str, state: str, failures: int = 0) -> None:
        more = {"failures": failures} if failures else {}
        self._context.progress(self._done, None, name, step=name, state=state, **more)


def _plain(name: str) -> bool:
    """Say whether the name is Unicode, without the character that ends a text in C."""
    return "\0" not in name and not any(0xD800 <= ord(letter) < 0xE000 for letter in name)


async def _given(value: Any) -> Any:
    return value
