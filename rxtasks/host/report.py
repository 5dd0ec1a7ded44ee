"""How a pool's process ended: its exit code and a sentence, from what its stop has left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from rxtasks.host.wake import Ask
from rxtasks.text import counted

if TYPE_CHECKING:
    from rxtasks.engine.report import StopReport

__all__ = ["Outcome", "outcome_of"]


@attrs.frozen
class Outcome:
    """The end of a pool's process."""

    exit_code: int
    sentence: str
    forced: bool
    unfinished: tuple[str, ...]
    #: The store keeps what is unfinished.
    kept: bool


def outcome_of(report: StopReport | None, unfinished: tuple[str, ...], asks: list[Ask], *, durable: bool) -> Outcome:
    """Return the end of a process that was asked for it by `asks`, in this order.

    0: what ran has finished, or went back into the store, which keeps it. 1: something is lost, or the pool could not go
    on. 128 + the signal: a second signal cut off what was still running, as a shell tells of a program that a signal ended.
    """
    failed = [ask for ask in asks if ask.failed]
    signals = [ask.signal for ask in asks if ask.signal]
    forced = len(signals) > 1 or any(ask.force for ask in asks)
    left = "every task that ran has finished"
    if unfinished:
        fate = "went back into the store, for the next pool" if durable else "are lost with the store in memory"
        one = fate.replace("are lost", "is lost") if len(unfinished) == 1 else fate
        left = f"{counted(len(unfinished), 'task')} {one}"
    if failed:
        return Outcome(1, failed[0].why, forced, unfinished, durable)
    if report is None:
        return Outcome(1, "the pool could not be stopped in order", forced, unfinished, durable)
    lost = bool(unfinished) and not durable
    if report.undelivered:
        lost = True
        left += "; not delivered: " + ", ".join(f"{number} {kind}" for kind, number in report.undelivered.items())
    if len(signals) > 1:
        return Outcome(128 + signals[1], f"forced by a second signal: {left}", True, unfinished, durable)
    return Outcome(int(lost), f"{'forced' if forced else 'drained'}: {left}", forced, unfinished, durable)
