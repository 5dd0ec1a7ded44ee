"""Credit between one sender and one receiver: the sums, the refusals."""

from __future__ import annotations

import pytest

from rxtasks.errors import ProtocolError
from rxtasks.wire.credit import ReceiveCredit, SendCredit, event_cost


@pytest.mark.parametrize(
    ("size", "window", "cost"),
    [
        (0, 1024, 1),
        (1, 1024, 1),
        (1024, 1024, 1),
        (1025, 1024, 2),
        (10**9, 1024, 768),
        (10**9, 2, 1),
        (10**9, 1, 1),
        (-5, 8, 1),
    ],
)
def test_an_event_costs_a_unit_for_each_kib_within_bounds(size: int, window: int, cost: int) -> None:
    """R1: at least one unit, at most what is always open when everything is acknowledged."""
    assert event_cost(size, window) == cost


def test_a_repeated_grant_changes_nothing_and_a_lower_one_is_an_error() -> None:
    """R2: grants are cumulative and monotone."""
    credit = SendCredit(4)
    assert credit.grant(6)
    assert not credit.grant(6)
    assert credit.granted == 6
    with pytest.raises(ProtocolError, match="decreased"):
        credit.grant(5)
    assert credit.granted == 6


def test_what_is_not_there_cannot_be_spent() -> None:
    """R1: can() says it, spend() insists."""
    credit = SendCredit(2)
    credit.spend(2)
    assert not credit.can(1)
    with pytest.raises(ValueError, match="0 left"):
        credit.spend(1)
    assert credit.spent == 2


def test_a_sender_that_overspends_is_found() -> None:
    """R1: unacknowledged events never exceed the credit."""
    credit = ReceiveCredit(4)
    credit.accept(4)
    with pytest.raises(ProtocolError, match="4 were granted"):
        credit.accept(1)


def test_a_grant_is_due_at_a_quarter_of_the_window() -> None:
    """R2: few grants, each cumulative; withheld ones are made up for."""
    credit = ReceiveCredit(8)
    credit.accept(1)
    assert credit.due() is None
    credit.accept(1)
    assert credit.due() == 10
    assert credit.due() is None
    for _ in range(6):
        credit.accept(1)
    assert credit.due() == 16


def test_a_window_has_at_least_one_unit() -> None:
    """R1: without one nothing could ever be sent."""
    with pytest.raises(ValueError, match="at least 1"):
        ReceiveCredit(0)
