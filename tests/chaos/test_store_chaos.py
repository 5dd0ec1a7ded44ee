"""The chaos protocol on the durable store, for a minute; and the same protocol on builds that break a promise each.

A table that is not kept is shown whole. A run that fails is not repeated: its seed is in the message.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from benchmarks.chaos.__main__ import report
from benchmarks.chaos.driver import KINDS, POWER, kinds_here

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

#: Of the runs that must fail: what is drawn does not matter to them.
_SEED = 5


@pytest.mark.parametrize(
    "kinds, seconds", [(kinds_here, 40), (lambda: (*KINDS, *[POWER] * 3), 20)], ids=["all", "power"]
)
def test_a_minute_of_chaos_breaks_no_promise(
    tmp_path: Path, kinds: Callable[[], Sequence[str]], seconds: float
) -> None:
    """Q-02 to Q-05 E-19: nothing acknowledged is lost, nothing ends twice, no zombie counts, whatever is done to it."""
    seed = random.SystemRandom().randrange(10**6)
    text, verdict = report(tmp_path / "run", seed=seed, seconds=seconds, kinds=kinds())
    print(text)
    # Whether a zombie wrote is a matter of chance in so short a run; the longer ones of the command must see some.
    broken = [promise.name for promise in verdict.promises if promise.broken]
    assert not broken, text
    assert verdict.tasks > 100 and sum(verdict.faults.values()) > 1, text


@pytest.mark.parametrize(
    "sabotage, kind, seconds, noticed",
    [
        (
            "no_fencing",
            "stop service beyond its lease",
            10,
            {"terminal events != 1", "seq gaps", "zombie writes accepted"},
        ),
        ("acknowledge_before_commit", "kill pusher", 5, {"acknowledged but lost"}),
        ("publish_before_commit", "kill service", 6, {"observed, then lost or changed"}),
        ("requeue_before_death", "scale", 4, {"overlapping executions"}),
        ("synchronous_off", POWER, 5, {"acknowledged but lost"}),
    ],
)
def test_a_build_that_breaks_a_promise_is_found_out(
    tmp_path: Path, sabotage: str, kind: str, seconds: float, noticed: set[str]
) -> None:
    """The same protocol, with one thing out of place (benchmarks/chaos/sabotage.py)."""
    how = {"seed": _SEED, "seconds": seconds, "kinds": [kind], "sabotages": [sabotage]}
    # What does not end will not end: such a build is given a moment.
    text, verdict = report(tmp_path / "run", **how, patience=2.0, alone=True)  # type: ignore[arg-type]
    assert noticed & {promise.name for promise in verdict.promises if promise.broken}, text
    assert not verdict.kept
