"""When a failed attempt is followed by another, and how soon."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxtasks.errors import SettingsError
from rxtasks.lifecycle.retry import RetryPolicy

policies = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 50),
    backoff=st.sampled_from(("exponential", "fixed")),
    base=st.floats(0, 1e300),
    cap=st.floats(0, 1e6),
    jitter=st.sampled_from(("full", "none")),
)
chances = st.floats(0, 1, exclude_max=True)


@given(policies, st.integers(1, 10_000), chances)
def test_a_delay_lies_between_0_and_the_cap(policy: RetryPolicy, ended: int, chance: float) -> None:
    """E-12: whatever the attempt's number."""
    assert 0 <= policy.delay(ended, chance) <= policy.cap


@given(policies, st.integers(1, 500), chances)
def test_later_attempts_never_wait_less(policy: RetryPolicy, ended: int, chance: float) -> None:
    """E-12: with the same chance; and with fixed backoff always the same."""
    first, second = policy.delay(ended, chance), policy.delay(ended + 1, chance)
    assert first <= second
    assert policy.backoff == "exponential" or first == second


@given(policies, st.integers(1, 60), chances)
def test_jitter_takes_a_part_and_none_takes_all(policy: RetryPolicy, ended: int, chance: float) -> None:
    """E-12: full jitter is the whole delay times a random part."""
    whole = RetryPolicy(backoff=policy.backoff, base=policy.base, cap=policy.cap, jitter="none").delay(ended, chance)
    assert policy.delay(ended, chance) == (whole * chance if policy.jitter == "full" else whole)


def test_exponential_backoff_doubles_up_to_the_cap() -> None:
    """E-12: 1, 2, 4, ... 60 s."""
    policy = RetryPolicy(jitter="none")
    assert [1, 2, 4, 8, 16, 32, 60, 60] == [policy.delay(ended, 0.5) for ended in range(1, 9)]


@given(st.integers(1, 20), st.integers(1, 40))
def test_max_attempts_counts_all_attempts(most: int, ended: int) -> None:
    """E-12: 1 = no retry."""
    assert (ended < most) == RetryPolicy(max_attempts=most).wants(ValueError, ended)


def test_only_what_is_asked_for_is_tried_again() -> None:
    """E-12: retry_on less give_up_on, by class and subclass."""
    policy = RetryPolicy(max_attempts=5, retry_on=(OSError, ValueError), give_up_on=FileNotFoundError)
    wanted = [
        kind for kind in (OSError, ConnectionError, FileNotFoundError, UnicodeError, KeyError) if policy.wants(kind, 1)
    ]
    assert [OSError, ConnectionError, UnicodeError] == wanted
    assert not RetryPolicy(max_attempts=5).wants(SystemExit, 1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_attempts": 0},
        {"max_attempts": True},
        {"max_attempts": 1.5},
        {"base": -1},
        {"base": float("nan")},
        {"base": True},
        {"cap": float("inf")},
        {"cap": "1"},
        {"backoff": "linear"},
        {"jitter": "half"},
        {"retry_on": (int,)},
        {"retry_on": 5},
        {"give_up_on": "ValueError"},
    ],
    ids=str,
)
def test_a_wrong_policy_is_refused_by_name(wrong: dict[str, Any]) -> None:
    """E-12: the message names the field."""
    (name,) = wrong
    with pytest.raises(SettingsError, match=name):
        RetryPolicy(**wrong)
