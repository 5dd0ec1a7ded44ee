"""When a failed attempt is followed by another, and after how long (E-12)."""

from __future__ import annotations

from typing import Any, Literal

import attrs

from rxtasks.errors import SettingsError

__all__ = ["RetryPolicy", "matches", "type_names"]

#: Exception classes; one that need not be imported here by its name, "module:QualName".
_Types = tuple[type[BaseException] | str, ...]


def type_names(types: _Types) -> list[str]:
    """Return exception classes by their names."""
    return [kind if isinstance(kind, str) else f"{kind.__module__}:{kind.__qualname__}" for kind in types]


def matches(kind: type[BaseException], types: _Types) -> bool:
    """Say whether `kind` is one of these classes or derived from one."""
    for each in types:
        if isinstance(each, type):
            if issubclass(kind, each):
                return True
        elif each in type_names(kind.__mro__):
            return True
    return False


def _types(value: Any) -> _Types:
    # What is no collection is left to the validator.
    return tuple(value) if isinstance(value, list | tuple | set | frozenset) else (value,)


def _one_of(*words: str) -> Any:
    def check(policy: RetryPolicy, attribute: attrs.Attribute[str], value: str) -> None:
        if value not in words:
            raise SettingsError(f"RetryPolicy.{attribute.name} is {' or '.join(words)}, not {value!r}")

    return check


def _check_types(policy: RetryPolicy, attribute: attrs.Attribute[_Types], value: _Types) -> None:
    for kind in value:
        named = isinstance(kind, str) and kind.partition(":")[0] and kind.partition(":")[2]
        if not named and not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise SettingsError(
                f"RetryPolicy.{attribute.name} takes exception classes, or their names as 'module:QualName', not {kind!r}"
            )


def _check_attempts(policy: RetryPolicy, attribute: attrs.Attribute[int], value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise SettingsError(f"RetryPolicy.max_attempts is a whole number from 1, not {value!r}")


def _check_seconds(policy: RetryPolicy, attribute: attrs.Attribute[float], value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise SettingsError(f"RetryPolicy.{attribute.name} is seconds, 0 or more, not {value!r}")


@attrs.frozen
class RetryPolicy:
    """How often and how soon an attempt that ended by an exception is followed by another.

    The delay before attempt n+1 is `base` (fixed) or `base * 2**(n-1)` (exponential), at most `cap` seconds; with full
    jitter a uniformly random part of it, the "Full Jitter" of Marc Brooker's "Exponential Backoff And Jitter" (AWS
    Architecture Blog, 2015).
    """

    #: Attempts in all that may end by an exception (or a TaskTimeout that is in retry_on); 1 = no retry.
    max_attempts: int = attrs.field(default=1, validator=_check_attempts)
    backoff: Literal["exponential", "fixed"] = attrs.field(
        default="exponential", validator=_one_of("exponential", "fixed")
    )
    #: Seconds before the second attempt.
    base: float = attrs.field(default=1.0, validator=_check_seconds)
    #: The longest delay, seconds.
    cap: float = attrs.field(default=60.0, validator=_check_seconds)
    jitter: Literal["full", "none"] = attrs.field(default="full", validator=_one_of("full", "none"))
    #: Only these are tried again ...
    retry_on: _Types = attrs.field(default=(Exception,), converter=_types, validator=_check_types)
    #: ... and of them not these.
    give_up_on: _Types = attrs.field(default=(), converter=_types, validator=_check_types)

    def wants(self, kind: type[BaseException], ended: int) -> bool:
        """Say whether an attempt that raised `kind`, the `ended`-th that did, is followed by another."""
        return ended < self.max_attempts and matches(kind, self.retry_on) and not matches(kind, self.give_up_on)

    def delay(self, ended: int, chance: float) -> float:
        """Return the seconds to wait after the `ended`-th failed attempt; `chance` is random in [0, 1)."""
        if self.backoff == "fixed":
            full = min(self.cap, self.base)
        else:
            full = min(self.cap, self.base * 2.0 ** min(ended - 1, 63))
        return full * chance if self.jitter == "full" else full
