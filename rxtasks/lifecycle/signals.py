"""What a handler may raise to say how its attempt should end.

They are BaseExceptions, so that `except Exception` in user code does not swallow them.
"""

from __future__ import annotations

from datetime import datetime

from rxtasks.errors import SettingsError

__all__ = ["Cancelled", "Reschedule", "Retry", "Signal"]


class Signal(BaseException):
    """The common base of the three signals."""


class Retry(Signal):
    """End this attempt and run the task again after `delay` seconds (None: as its retry policy says).

    It counts as an attempt of a policy with several: with none left the task fails. With the default policy, of one
    attempt, the handler says how often.
    """

    def __init__(self, delay: float | None = None) -> None:
        if delay is not None and (
            isinstance(delay, bool) or not isinstance(delay, int | float) or not 0 <= delay < float("inf")
        ):
            raise SettingsError(f"Retry(delay=...) is seconds from 0, or None for the policy's delay, not {delay!r}")
        super().__init__("retry" if delay is None else f"retry in {delay:g} s")
        self.delay = delay

    def __reduce__(self) -> tuple[type[Retry], tuple[float | None]]:
        return Retry, (self.delay,)


class Reschedule(Signal):
    """End this attempt and run the task again at `at` (an aware datetime); costs no attempt."""

    def __init__(self, at: datetime) -> None:
        if not isinstance(at, datetime) or at.tzinfo is None:
            raise SettingsError(
                f"Reschedule(at={at!r}) needs an aware datetime, such as datetime.now(UTC) + timedelta(...)"
            )
        super().__init__(f"reschedule at {at.isoformat()}")
        self.at = at

    def __reduce__(self) -> tuple[type[Reschedule], tuple[datetime]]:
        return Reschedule, (self.at,)


class Cancelled(Signal):
    """The task is cancelled: raised in a handler by its context, or by the handler itself."""

    def __init__(self, reason: str | None = None) -> None:
        super().__init__(reason or "cancelled")
        self.reason = reason
