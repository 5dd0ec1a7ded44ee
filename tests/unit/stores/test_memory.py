"""The memory store lets go of what a task that has ended does not need."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pytest

from rxtasks.lifecycle.status import TaskStatus
from rxtasks.stores.base import Claim
from rxtasks.stores.memory import MemoryStore
from rxtasks.testing.store_suite import ANY, NOW, change_of, commit, envelope


class Arguments:
    """Stands for what may be large."""


def _by_id(store: MemoryStore) -> Claim | None:
    return store.claim_one("t")


def _moved(store: MemoryStore) -> Claim | None:
    assert store.update("t", priority=-5)
    return store.claim_one("t")


def _given_back(store: MemoryStore) -> Claim | None:
    (claim,) = store.claim(ANY, 1, NOW)
    commit(store, change_of(claim, TaskStatus.PENDING, release=True))
    return store.claim_one("t")


def _delayed(store: MemoryStore) -> Claim | None:
    assert store.update("t", due_us=NOW + 5)
    return store.claim_one("t")


@pytest.mark.parametrize("taken", [_by_id, _moved, _given_back, _delayed])
def test_arguments_go_with_the_end_of_a_task_that_was_taken_out_of_its_place(
    taken: Callable[[MemoryStore], Claim | None],
) -> None:
    """E-20: what is left of it in a queue, until that is passed over, holds none of them; nor does its record."""
    store = MemoryStore()
    task: Any = envelope("t")
    task.payload = Arguments()
    gone = weakref.ref(task.payload)
    store.enqueue([task, envelope("u")])
    del task
    claim = taken(store)
    assert claim is not None and claim.envelope.payload is gone() is not None
    commit(store, change_of(claim, TaskStatus.CANCELLED))
    del claim
    assert gone() is None
    assert ["u"] == [claim.envelope.task_id for claim in store.claim(ANY, 9, NOW + 9)]
