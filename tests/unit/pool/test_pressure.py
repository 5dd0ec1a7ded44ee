"""When the pool holds back because the machine is short of something, and when it goes on (L-03)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxtasks.config import Settings, make_settings
from rxtasks.errors import SettingsError
from rxtasks.pool.pressure import Pressure, Reading

_SECOND = 1_000_000_000
_NOTHING = {"pause_memory": None, "pause_stall": None, "pause_load": None}


def _pressure(**settings: float) -> Pressure:
    return Pressure(make_settings({**_NOTHING, **settings}))


def _memory(available: int, total: int = 1000) -> Reading:
    return Reading(available, total)


def test_a_pause_begins_below_the_bound_and_ends_when_it_is_clear_of_it_twice() -> None:
    """L-03: with hysteresis, so that the pool does not go on and off at the bound."""
    pressure = _pressure(pause_memory=100)
    story = [
        (100, False),
        (99, True),
        (105, False),
        (109, False),
        (111, False),
        (105, False),
        (120, False),
        (120, True),
    ]
    for number, (available, turned) in enumerate(story):
        assert turned == pressure.judge(_memory(available), number * _SECOND), (number, available)
    assert "" == pressure.reason


def test_a_share_of_the_memory_counts_as_well() -> None:
    """L-03: below 1 the setting is a share of what there is."""
    pressure = _pressure(pause_memory=0.25)
    assert not pressure.judge(_memory(250), 0)
    assert pressure.judge(_memory(249), 0)
    assert ("memory", True) == (pressure.kind, "pause_memory" in pressure.reason)


def test_stalls_and_load_count_where_they_are_asked_for() -> None:
    """L-03: each reason says what it is and which setting."""
    pressure = _pressure(pause_stall=30)
    assert pressure.judge(Reading(None, None, stalled=31.0), 0)
    assert "stall" == pressure.kind and "pause_stall" in pressure.reason
    pressure = _pressure(pause_load=3)
    assert not pressure.judge(Reading(1, 10**12, 99.0, 3.0), 0)
    assert pressure.judge(Reading(1, 10**12, 99.0, 3.1), 0)
    assert "load" == pressure.kind and "pause_load" in pressure.reason


def test_a_busy_machine_is_no_reason_by_itself() -> None:
    """L-03: with the settings as they are, two cores with a load of a hundred are used."""
    pressure = Pressure(Settings())
    assert pressure.wanted
    assert not pressure.judge(Reading(3 * 10**9, 8 * 10**9, 5.0, 100.0), 0)
    assert pressure.judge(Reading(10**8, 8 * 10**9, 5.0, 1.0), 0), "but one that has no memory left is"


def test_one_begins_when_none_runs_and_one_more_every_ten_seconds() -> None:
    """L-03: a pool never stands still, whatever what runs there waits for."""
    pressure = _pressure(pause_memory=100)
    pressure.judge(_memory(1), 0)
    assert pressure.lets_begin(0, 0)
    assert not pressure.lets_begin(1, 9 * _SECOND)
    assert pressure.lets_begin(3, 10 * _SECOND)
    pressure.began(10 * _SECOND)
    assert not pressure.lets_begin(3, 19 * _SECOND)


def test_what_is_not_known_is_no_pressure() -> None:
    """L-03: a kernel without PSI, a system without /proc."""
    pressure = _pressure(pause_memory=0.5, pause_stall=1, pause_load=1)
    assert not pressure.judge(Reading(None, None), 0)


@pytest.mark.parametrize("name", sorted(_NOTHING))
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "much", True])
def test_nonsense_is_refused_by_name(name: str, value: object) -> None:
    """L-03: a bound is a number above 0, or None."""
    with pytest.raises(SettingsError, match=f"setting {name} is a number above 0 or None"):
        make_settings({name: value})


@given(
    bound=st.integers(1, 1000),
    readings=st.lists(st.integers(0, 1000), max_size=50),
)
def test_on_and_off_take_turns_and_the_machine_is_clear_when_it_ends(bound: int, readings: list[int]) -> None:
    """L-03: it pauses only below the bound, and goes on only after two readings at or above it."""
    pressure, before = _pressure(pause_memory=bound), False
    for number, available in enumerate(readings):
        turned = pressure.judge(_memory(available), number)
        now = bool(pressure.reason)
        assert turned == (now != before)
        if turned and now:
            assert available < bound
        elif turned:
            assert min(readings[number - 1 : number + 1]) >= bound
        elif before:
            assert now
        before = now


@given(bound=st.floats(1, 10**13), total=st.integers(1, 10**12))
def test_a_pause_can_end_wherever_all_memory_is_free(bound: float, total: int) -> None:
    """L-03: a bound that can be met at all is met when everything is free."""
    pressure = _pressure(pause_memory=bound)
    pressure.judge(_memory(0, total), 0)
    assert pressure.reason
    for number in range(3):
        pressure.judge(_memory(total, total), number)
    assert (bound <= total) == (not pressure.reason)
