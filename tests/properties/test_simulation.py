"""The simulation over fixed seeds: services that crash, stand still and come back, workers, stores, callers and clocks.

What a run is of is in rxtasks.testing.runs, what may happen in rxtasks.testing.script, what must hold in
rxtasks.testing.invariants. A seed that fails says how to run it again, with its moves as few as they can be.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rxtasks.engine import dispatcher, recorder
from rxtasks.engine.dispatcher import Dispatcher
from rxtasks.testing.coverage import NEVER, Coverage
from rxtasks.testing.invariants import Violation
from rxtasks.testing.runs import POOLS, Plan, main, plan_of, simulate

_PARTS = 20
_RUNS = 500


@pytest.mark.parametrize("part", range(_PARTS))
def test_ten_thousand_runs_keep_every_promise(part: int) -> None:
    """N-05 Q-02 W-03 to W-13 R1 R2 R9 R20 R22: no seed breaks an invariant; `simulate` says how to run it again."""
    assert _PARTS * _RUNS >= 10_000
    for seed in range(part * _RUNS, (part + 1) * _RUNS):
        simulate(seed)


@pytest.mark.parametrize("seed", [300_871, 303_078])
def test_runs_that_have_found_something_keep_every_promise(seed: int) -> None:
    """Q-02 Q-03: a service registered anew whose answer was lost; a cancel claimed beside what was given back."""
    simulate(seed)


@pytest.mark.parametrize("seeds", [range(100_000, 100_400)])
def test_what_is_assigned_and_ends_in_columns_keeps_every_promise_too(
    seeds: range, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W-13 Q-02: as above, where one task is enough for columns."""
    monkeypatch.setattr(dispatcher, "_MANY", 1)
    monkeypatch.setattr(recorder, "_MANY", 1)
    monkeypatch.setattr(Dispatcher, "_assign_one", lambda *_: False)
    for seed in seeds:
        simulate(seed)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    pools=st.lists(st.integers(0, len(POOLS) - 1), min_size=1, max_size=3).map(tuple),
    script=st.binary(min_size=60, max_size=330),
    hosts=st.integers(1, 2),
)
def test_services_on_one_store_keep_every_promise(pools: tuple[int, ...], script: bytes, hosts: int) -> None:
    """Q-02 Q-05 W-07: as above, with scripts that hypothesis makes and shrinks."""
    Plan(pools, 0, script, shared=True, hosts=hosts).run()


def test_every_stimulus_meets_every_state_that_it_can(capsys: pytest.CaptureFixture[str]) -> None:
    """N-05: the table is printed; no pair that can be is unmet, and none is met that cannot be."""
    coverage = Coverage()
    for seed in range(200_000, 202_500):
        plan_of(seed).run(coverage)
    with capsys.disabled():
        print(f"\n{coverage.table()}")
    assert [] == coverage.unknown()
    assert {} == {pair: NEVER[pair] for pair in coverage.impossible()}
    assert [] == coverage.missing()


# -- a run that fails -------------------------------------------------------------------------------------------------


def _fails(seed: int) -> bool:
    try:
        plan_of(seed).run()
    except Violation:
        return True
    return False


def test_a_seed_that_fails_is_shrunk_and_says_how_to_run_it_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """N-05: the moves that are left, the story, the command; the command ends with 1."""
    monkeypatch.setattr(Dispatcher, "arrived", lambda self: None)
    seed = next(seed for seed in range(1000) if _fails(seed))
    with pytest.raises(Violation) as failed:
        simulate(seed)
    said = str(failed.value)
    assert said.startswith(f"seed {seed}: Violation: ")
    assert f"python -m rxtasks.testing.simulation --seed {seed}" in said
    moves = said.partition("\n\n")[2].partition("\n\n")[0].splitlines()
    assert len(moves) < 8, "it is not shrunk"
    assert any("submit" in move for move in moves) and "SpawnWorker" in said
    with pytest.raises(SystemExit) as ended:
        main(["--seed", str(seed), "--runs", "2"])
    assert 1 == ended.value.code
    assert f"seed {seed}: Violation" in capsys.readouterr().err


def test_the_command_runs_seeds_and_prints_what_they_met(capsys: pytest.CaptureFixture[str]) -> None:
    """Also the story of one; a bad number is told."""
    main(["--seed", "5", "--runs", "3", "--coverage"])
    said = capsys.readouterr().out
    assert "3 runs from seed 5: every invariant held" in said and "CancelAsked" in said
    main(["--seed", "5", "--story"])
    assert "Announce pool_started" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--runs", "0"])
    assert "--runs is a whole number from 1" in capsys.readouterr().err


def test_a_seed_is_the_same_run_wherever_it_is_played() -> None:
    """Nothing depends on set order, ids or the time: the story is the same word for word."""
    for seed in (3, 4, 11, 20):
        stories: list[list[str]] = [[], []]
        for story in stories:
            plan_of(seed).run(trace=story)
        assert stories[0] == stories[1] and len(stories[0]) > 10
