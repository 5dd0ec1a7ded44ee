"""The order of the writer's transactions."""

from __future__ import annotations

import pytest

from rxtasks.stores.sqlite.writer import Work, Writer


class Kind(Work[None]):
    """Does nothing, as somebody's who waits, or as the engine's."""

    def __init__(self, name: str, *, urgent: bool = False, patient: bool = False) -> None:
        super().__init__(lambda db: None, lambda value, error: None)
        self.name = name
        self.urgent = urgent
        self.patient = patient


def taken(writer: Writer, *works: Kind) -> list[str]:
    writer._queue.extend(works)
    return [work.name for work in writer._take(100.0) if isinstance(work, Kind)]


@pytest.fixture
def writer() -> Writer:
    made = Writer("nowhere", None, on_commit=lambda lasting: None)  # type: ignore[arg-type]
    made._callers, made._open, made._whole = 2, 1000, 99.995
    return made


def push() -> Kind:
    return Kind("push", urgent=True)


def claim() -> Kind:
    return Kind("claim", patient=True)


def test_pushes_of_several_callers_go_before_claims_for_a_while(writer: Writer) -> None:
    """Q-04: and the claim is in the next transaction that has no push."""
    assert ["push"] == taken(writer, claim(), push())
    assert ["claim"] == taken(writer)


def test_the_claim_waits_ten_milliseconds_at_most(writer: Writer) -> None:
    """W-12: then everything is one transaction, in the order in which it came."""
    writer._whole = 99.98
    assert ["claim", "push", "claim"] == taken(writer, claim(), push(), claim())
    assert 100.0 == writer._whole


@pytest.mark.parametrize("field", ["_callers", "_open"])
def test_nobody_goes_first_where_few_wait(writer: Writer, field: str) -> None:
    """Q-04: one caller, or few unfinished tasks: somebody may wait for each result."""
    setattr(writer, field, 1)
    assert ["claim", "push"] == taken(writer, claim(), push())


def test_nothing_overtakes_a_work_of_another_kind(writer: Writer) -> None:
    """E-06: a cancel, say, comes behind the claim that was asked for before it."""
    assert ["claim", "cancel", "push"] == taken(writer, claim(), Kind("cancel"), push())
