"""What is counted of attempts, and which names become labels."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from rxtasks import TaskOptions, TaskStatus
from rxtasks.observe.tally import DURATION_BOUNDS, MOST_NAMES, OTHER, Spread, Tally
from rxtasks.stores.base import Claim, Envelope

WORKER: Any = SimpleNamespace(spec=SimpleNamespace(isolation="process"))


def claim(name: str, *, blob: bytes | None = None, worker: Any = WORKER, **options: Any) -> Claim:
    envelope = Envelope("id", name, "f", "m:f", blob, "j", None, TaskOptions(**options), 0)
    return Claim(1, 1, envelope, worker=worker)


def reported(tally: Tally, *ended: tuple[Claim, TaskStatus, int], known: bool = False) -> None:
    claims, statuses, rans = zip(*ended, strict=True)
    tally.reported(WORKER, list(claims), list(statuses), list(rans), {1} if known else set())


@pytest.mark.parametrize(
    ("us", "bucket"),
    [(0, 0), (100_000, 0), (100_001, 1), (500_000, 1), (312_500_000, 5), (312_500_001, 6), (10**12, 6)],
)
def test_a_duration_counts_in_the_bucket_whose_bound_it_does_not_exceed(us: int, bucket: int) -> None:
    """C-07: le is "less or equal"; 0.1, 0.5, 2.5, 12.5, 62.5, 312.5 s."""
    assert (0.1, 0.5, 2.5, 12.5, 62.5, 312.5) == DURATION_BOUNDS
    spread = Spread(DURATION_BOUNDS)
    spread.add(us)
    assert bucket == spread.counts.index(1) and us == spread.sum_us and 1 == sum(spread.counts)


def test_a_name_is_a_label_if_it_is_registered_or_proven() -> None:
    """C-07: security rule 6: what nobody found proves nothing, nor does a function that came pickled."""
    tally = Tally(lambda name: name == "here", ["given"])
    reported(tally, (claim("here"), TaskStatus.FAILED, 1), (claim("given"), TaskStatus.FAILED, 1))
    reported(tally, (claim("there"), TaskStatus.FAILED, 1), (claim("there"), TaskStatus.SUCCEEDED, 1))
    reported(tally, (claim("pickled", blob=b"x"), TaskStatus.SUCCEEDED, 1))
    reported(tally, (claim("found"), TaskStatus.FAILED, 1), known=True)
    tally.crashed(claim("dies"))
    tally.timed_out(claim("hangs"))
    tally.interrupted(claim("shot"))
    names = {name for name, _, _ in tally.completions}
    assert {"here", "given", "there", "found", OTHER} == names
    assert {("dies", "process"): 1} == tally.crashes and {("hangs", "process"): 1} == tally.timeouts
    assert {(OTHER, "process"): 1} == tally.interruptions


def test_names_are_bounded_and_hostile_ones_no_labels() -> None:
    """C-07, R6: after the first MOST_NAMES all are other, also those that are seen again; so are those that steer."""
    tally = Tally(lambda _: True)
    for number in range(2 * MOST_NAMES):
        reported(tally, (claim(f"name{number}"), TaskStatus.SUCCEEDED, 1))
    assert MOST_NAMES + 1 == len({name for name, _ in tally.durations})
    assert MOST_NAMES == tally.completions[OTHER, "process", "succeeded"]
    strange = Tally(lambda _: True)
    for name in ("a\nb", "\x1b[1m", "x" * 201, "\u202e"):
        reported(strange, (claim(name), TaskStatus.SUCCEEDED, 1))
    assert {OTHER} == {name for name, _ in strange.durations}


def test_an_end_without_a_worker_is_of_the_isolation_that_was_asked_for() -> None:
    """C-07: a task that is cancelled while it waits has run nowhere."""
    tally = Tally(lambda _: True)
    tally.finished(claim("a", worker=None), TaskStatus.CANCELLED, None)
    tally.finished(claim("a", worker=None, isolation="thread"), TaskStatus.CANCELLED, None)
    assert {("a", "none", "cancelled"): 1, ("a", "thread", "cancelled"): 1} == tally.completions
    assert {} == tally.durations
