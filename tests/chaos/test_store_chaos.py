"""The chaos protocol on the durable store, for a minute; and the same protocol on builds that break a promise each.

A table that is not kept is shown whole. A run that fails is not repeated: its seed is in the message.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmarks.chaos.__main__ import render
from benchmarks.chaos.checker import Verdict, check, read_evidence
from benchmarks.chaos.driver import KINDS, POWER, Run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

#: Of the runs that must fail: what is drawn does not matter to them.
_SEED = 5


def run(folder: Path, **how: object) -> Verdict:
    """Do a run, and check it."""
    Run(folder / "run", **how).go()  # type: ignore[arg-type]
    return check(read_evidence(folder / "run"))


@pytest.mark.parametrize("powerless, seconds", [(False, 40), (True, 20)], ids=["faults", "power"])
def test_a_minute_of_chaos_breaks_no_promise(tmp_path: Path, powerless: bool, seconds: float) -> None:
    """Q-02 to Q-05: nothing acknowledged is lost, nothing ends twice, no zombie counts, whatever is killed or stopped."""
    seed = random.SystemRandom().randrange(10**6)
    # Disk faults are the command's, where the system lets them be injected (tests/chaos/test_store_faults.py has each alone).
    verdict = run(tmp_path, seed=seed, seconds=seconds, kinds=(*KINDS, *([POWER] * 3 if powerless else [])))
    print(table := f"seed {seed}\n{render(verdict)}")
    # Whether a zombie wrote is a matter of chance in so short a run; the longer ones of the command must see some.
    broken = [promise.name for promise in verdict.promises if promise.broken]
    assert not broken, table
    assert verdict.tasks > 100 and sum(verdict.faults.values()) > 2, table


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
    # Whether a run of seconds comes upon what is broken is a matter of chance: one of three has to.
    for turn in range(3):
        folder = tmp_path / str(turn)
        folder.mkdir()
        verdict = run(folder, seed=_SEED + turn, seconds=seconds, kinds=[kind], sabotages=[sabotage], patience=8.0)
        if noticed & {promise.name for promise in verdict.promises if promise.broken}:
            assert not verdict.kept
            return
    pytest.fail(render(verdict))
