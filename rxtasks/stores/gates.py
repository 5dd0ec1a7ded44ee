"""What holds a task back though it is due: a lock, a bound on how many run at once, a rate (pure).

::

    task ──> gate of its lock ──> gate of its name ──> gate of its queue ──> ready, may be claimed
                waits here          or here               or here

A task waits at one gate at a time, and passes them in this order. At each gate, of those that wait the best ones (priority,
then arrival) pass, as many as the gate has room for in each bucket (queue and isolation: what one lane takes and another one
leaves). Whoever has passed all is ready; it takes its places when it is claimed, and gives them back when the claim
ends. One that is ready and finds no place any more, because a lane of another bucket was faster, goes back to the gate.

So what may be claimed is always among few that are ready, however many wait behind a gate: nothing is scanned.

A rate is a token bucket, kept as one number: the time from which on the next task is due if all came evenly (the "theoretical
arrival time" of the generic cell rate algorithm, ITU-T I.371). At most a tenth of a second's worth, and at least one, may
come at once.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from rxtasks.lifecycle.options import TaskOptions
from rxtasks.lifecycle.rate import parse_rate

__all__ = ["Bound", "Gate", "bounds_of", "gates_of", "rate_after", "rate_back", "rate_due"]


@attrs.frozen
class Gate:
    """One gate and its bounds."""

    #: "lock:...", "name:..." or "queue:...".
    key: str
    #: Tasks that may be claimed at once; None = any number.
    most: int | None = None
    #: Microseconds between two tasks, 0 = no rate; and how many may come at once.
    interval_us: int = 0
    burst: int = 0

    def room(self, running: int) -> int:
        """Return how many of each bucket may pass while so many are claimed."""
        room = self.burst if self.most is None else self.most - running
        return max(0, min(room, self.burst) if self.interval_us else room)


@attrs.frozen
class Bound:
    """What a service says of a gate, whoever waits there; None: nothing."""

    key: str
    most: int | None = None
    interval_us: int | None = None
    burst: int | None = None


def bounds_of(
    max_running: Mapping[str, int], queue_running: Mapping[str, int], rates: Mapping[str, str]
) -> list[Bound]:
    """Return the bounds of a service's settings.

    Raises:
        SettingsError: a rate cannot be read.
    """
    found = [Bound(f"queue:{queue}", most) for queue, most in queue_running.items()]
    for name in {**max_running, **rates}:
        often = rates.get(name)
        found.append(
            Bound(f"name:{name}", max_running.get(name), *((None, None) if often is None else parse_rate(often)))
        )
    return found


def gates_of(
    options: TaskOptions,
    name: str,
    max_running: int | None = None,
    rate: str | None = None,
    queue_running: int | None = None,
) -> tuple[Gate, ...]:
    """Return the gates of a task in their order; the numbers are the service's own bounds, where the options have none.

    Raises:
        SettingsError: a rate cannot be read.
    """
    gates: list[Gate] = []
    if options.lock is not None:
        gates.append(Gate(f"lock:{options.lock}", 1))
    most = options.max_running or max_running
    often = options.rate or rate
    if most is not None or often is not None:
        gates.append(Gate(f"name:{name}", most, *((0, 0) if often is None else parse_rate(often))))
    if queue_running is not None:
        gates.append(Gate(f"queue:{options.queue or 'default'}", queue_running))
    return tuple(gates)


def rate_due(gate: Gate, tat_us: int) -> int:
    """Return the moment from which on a task may pass; `tat_us` is the rate's state."""
    return tat_us - (gate.burst - 1) * gate.interval_us


def rate_after(gate: Gate, tat_us: int, now_us: int) -> int:
    """Return the state when a task has passed at `now_us`."""
    return max(tat_us, now_us) + gate.interval_us


def rate_back(gate: Gate, tat_us: int) -> int:
    """Return the state when one that passed has not run after all."""
    return tat_us - gate.interval_us
