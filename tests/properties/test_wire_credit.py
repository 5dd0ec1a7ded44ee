"""The laws of credit, between a sender and a receiver with delays, losses and repeats between them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rxtasks.wire.credit import ReceiveCredit, SendCredit, event_cost


class CreditMachine(RuleBasedStateMachine):
    """R1, R2: one task's credit: events under way, grants under way that may be late, repeated or overtaken by none."""

    @initialize(window=st.integers(1, 40))
    def begin(self, window: int) -> None:
        self.window = window
        self.sender = SendCredit(window)
        self.receiver = ReceiveCredit(window)
        self.events: list[int] = []
        self.grants: list[int] = []
        self.last: int | None = None

    @rule(size=st.integers(0, 100_000))
    def send(self, size: int) -> None:
        cost = event_cost(size, self.window)
        if self.sender.can(cost):
            self.sender.spend(cost)
            self.events.append(cost)

    @precondition(lambda self: self.events)
    @rule()
    def arrive(self) -> None:
        self.receiver.accept(self.events.pop(0))

    @rule()
    def grant(self) -> None:
        due = self.receiver.due()
        if due is not None:
            self.grants.append(due)

    @precondition(lambda self: self.grants)
    @rule()
    def granted(self) -> None:
        self.last = self.grants.pop(0)
        self.sender.grant(self.last)

    @precondition(lambda self: self.last is not None)
    @rule()
    def repeated(self) -> None:
        assert self.last is not None
        before = (self.sender.granted, self.sender.spent)
        assert not self.sender.grant(self.last)
        assert (self.sender.granted, self.sender.spent) == before

    @invariant()
    def unacknowledged_events_stay_within_the_window(self) -> None:
        if not hasattr(self, "sender"):
            return
        assert sum(self.events) <= self.window
        assert self.sender.spent == self.receiver.accepted + sum(self.events)
        assert self.sender.granted <= self.receiver.granted <= self.receiver.accepted + self.window


TestCredit = CreditMachine.TestCase


@given(st.integers(1, 5000), st.lists(st.integers(0, 10_000_000), max_size=60))
def test_with_everything_accepted_any_event_may_leave(window: int, sizes: list[int]) -> None:
    """R1: no event is too large for ever: between one sender and a prompt receiver nothing gets stuck."""
    sender, receiver = SendCredit(window), ReceiveCredit(window)
    for size in sizes:
        cost = event_cost(size, window)
        assert sender.can(cost)
        sender.spend(cost)
        receiver.accept(cost)
        due = receiver.due()
        if due is not None:
            sender.grant(due)
