"""What is done for many tasks at once means what it means for one after the other."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rxtasks.clock import SystemClock
from rxtasks.engine.intake import Intake
from rxtasks.errors import PayloadError
from rxtasks.lifecycle.options import TaskOptions
from rxtasks.pool.info import WorkerSpec
from rxtasks.stores.base import Envelope, Lane
from rxtasks.stores.memory import MemoryStore
from rxtasks.wire.payload import load_args, pack_args, pack_calls
from rxtasks.wire.sealed import Sealed, SealedFiles
from tests.acceptance import jobs

NOW = 1_700_000_000_000_000
OPTIONS = (TaskOptions(), TaskOptions(priority=1), TaskOptions(queue="q"), TaskOptions(dedup_key="k"))

tasks = st.tuples(st.integers(0, 8), st.sampled_from((0, 0, 0, 1, 2, 3)), st.sampled_from((0, 0, 0, 5)), st.booleans())
batches = st.lists(st.lists(tasks, min_size=1, max_size=6), max_size=5)


def _envelope(number: int, options: int, due: int, hold: bool) -> Envelope:
    due_us = NOW + due if due else 0
    held = hold and number % 3 == 0
    return Envelope(f"t{number}", "n", "f", None, None, "p", b"", OPTIONS[options], NOW, None, due_us, held)


@settings(deadline=None)
@given(batches)
def test_tasks_that_come_together_lie_as_if_each_came_alone(batches: Any) -> None:
    """Q-01: same answers, same counts, same records, and claims in the same order; whatever options they share or not."""
    together, alone = MemoryStore(), MemoryStore()
    for batch in batches:
        answers = together.enqueue([_envelope(*task) for task in batch])
        assert [alone.enqueue([_envelope(*task)])[0] for task in batch] == answers
    assert alone.counts() == together.counts()
    assert alone.list() == together.list()
    for now in (NOW, NOW + 10):
        claims = [store.claim(Lane("process"), 100, now) for store in (alone, together)]
        told = [[(claim.token, claim.envelope.task_id, claim.status) for claim in found] for found in claims]
        assert told[0] == told[1]
        assert alone.counts() == together.counts()


LARGE = b"x" * 2**20


class Main:
    """Stands for what a script defines: its pickle names __main__, so it travels by value."""


Main.__module__ = "__main__"


@pytest.fixture(scope="module", autouse=True)
def main() -> Iterator[None]:
    """Let pickle find Main where it says it is."""
    module = sys.modules["__main__"]
    module.Main = Main  # type: ignore[attr-defined]
    yield
    del module.Main  # type: ignore[attr-defined]


values = st.one_of(
    st.integers(),
    st.text(max_size=5),
    st.just(bytearray(b"x")),
    st.just("__main__"),
    st.just(Main),
    st.just(LARGE),
)


def shown(call: Any) -> Any:
    """The call as text, the large argument as its length; a class that travelled by value is another one of that name."""
    args, kwargs = call
    return [len(one) if type(one) is bytes else repr(one) for one in args], kwargs


@settings(deadline=None)
@given(st.lists(st.lists(values, max_size=2).map(tuple), max_size=6))
def test_arguments_packed_together_are_those_packed_alone(calls: list[tuple[Any, ...]]) -> None:
    """R25: the same bytes, or the same memory file, whichever way a call takes."""
    make = SealedFiles().make
    packed = list(pack_calls(calls, make))
    for args, one in zip(calls, packed, strict=True):
        alone = pack_args(args, {}, make)
        assert type(alone) is type(one)
        assert isinstance(one, Sealed) or alone == one
        for packed_args in (alone, one):
            assert shown((args, {})) == shown(load_args(packed_args))


def _intake(isolation: str) -> Intake:
    return Intake([WorkerSpec(1, isolation=isolation)], [], SystemClock())


@pytest.mark.parametrize("isolation", ["process", "thread"])
@pytest.mark.parametrize("changes", [{}, {"priority": 3, "delay": 60.0}])
def test_envelopes_made_together_are_those_made_alone(isolation: str, changes: dict[str, Any]) -> None:
    """E-06: but for the id and the time of each."""
    intake, made = _intake(isolation), []
    calls = [(number,) for number in range(5)]
    intake.envelopes(jobs.double, calls, changes, made)
    assert 5 == len({envelope.task_id for envelope in made})
    for args, envelope in zip(calls, made, strict=True):
        alone = intake.envelope(jobs.double, args, {}, None, changes)
        assert 0 <= alone.created_us - envelope.created_us < 60_000_000
        assert bool(alone.due_us) == bool(envelope.due_us)
        same = {"task_id": "", "created_us": 0, "due_us": 0}
        for field in attrs.fields(Envelope):
            if field.name not in same:
                assert getattr(alone, field.name) == getattr(envelope, field.name), field.name


def test_a_call_that_cannot_travel_leaves_those_before_it() -> None:
    """R26: it is named, and what comes before it in the same batch has its envelope."""
    intake, made = _intake("process"), []
    with pytest.raises(PayloadError, match=r"args\[0\]"):
        intake.envelopes(jobs.double, [(1,), (2,), (_unpicklable(),), (4,)], {}, made)
    assert [((1,), {}), ((2,), {})] == [load_args(envelope.payload) for envelope in made]


def _unpicklable() -> Any:
    import threading

    return threading.Lock()
