"""Batches of a recorder: each is known again by its list, and has one claim of a task at most."""

from __future__ import annotations

from typing import Any

from rxtasks.config import Settings
from rxtasks.engine.core import Core
from rxtasks.engine.recorder import Recorder
from rxtasks.lifecycle.options import DEFAULT_OPTIONS
from rxtasks.pool.info import WorkerSpec
from rxtasks.pool.words import CommitBatch, Committed, Now, SendCommand
from rxtasks.stores.base import Claim, Envelope, each_change
from rxtasks.wire.message import Reply

NOW = Now(0, 0, 0.5)


def claim_of(token: int, task_id: str = "t") -> Claim:
    return Claim(token, token, Envelope(task_id, "n", "f", None, None, "p", b"", DEFAULT_OPTIONS, 0))


def closed(recorder: Recorder) -> CommitBatch | None:
    """Close the batch; return what is to be committed now."""
    out: list[Any] = []
    recorder.close_batch(out)
    return out[0] if out else None


def tokens(batch: CommitBatch | None) -> list[int]:
    assert batch is not None
    return [change.token for change in each_change(batch.changes)]


def test_a_batch_that_failed_is_asked_for_again_by_the_same_list() -> None:
    """The store knows by it what may be in the file already (Store.commit)."""
    recorder = Recorder(Settings())
    recorder.hold(claim := claim_of(1))
    recorder.note(claim, b"1")
    first = closed(recorder)
    assert first is not None
    out: list[Any] = []
    recorder.again(first.batch, out)
    assert out[0].changes is first.changes and out[0].events is first.events


def test_a_task_that_is_claimed_anew_while_its_void_claim_waits_for_the_store_is_in_another_batch() -> None:
    """Q-02: the store tells events apart by their tasks: with both in one batch it would drop those of the new claim."""
    recorder = Recorder(Settings())
    recorder.durable = True
    recorder.hold(void := claim_of(1))
    recorder.note(void, b"1")
    first = closed(recorder)
    recorder.began(void, NOW)
    recorder.note(void, b"2")
    assert closed(recorder) is None, "the first is under way"
    waits = recorder.next_batch
    assert [void] == recorder.disown(1) and not recorder.claims
    recorder.hold(anew := claim_of(2))
    recorder.began(anew, NOW)
    assert waits + 1 == recorder.note(anew, b"3")
    assert first is not None and closed(recorder) is None and recorder.uncommitted
    out: list[Any] = []
    recorder.on_committed(first.batch, [], out)
    second = closed(recorder)
    assert second is not None and (waits, [1]) == (second.batch, tokens(second)) and 1 == len(second.events)
    recorder.on_committed(second.batch, [1], out)
    third = closed(recorder)
    assert third is not None and [2] == tokens(third) and 1 == len(third.events)
    recorder.on_committed(third.batch, [], out)
    assert not recorder.uncommitted and closed(recorder) is None


def test_who_asks_to_keep_something_of_a_task_that_was_taken_over_is_told_so() -> None:
    """Acknowledged means on disk: a checkpoint that the store has refused is not acknowledged."""
    core = Core([WorkerSpec(1)], Settings())
    core.step([], NOW)
    claims = [claim_of(1, "t"), claim_of(2, "u")]
    for claim in claims:
        core.recorder.hold(claim)
        core._requests.setdefault(core.recorder.note(claim, b"1"), []).append(("w", 10 + claim.token, claim.token))
    batch = closed(core.recorder)
    assert batch is not None
    said = core.step([Committed(batch.batch, [1])], NOW)
    replies = [one.command for one in said if isinstance(one, SendCommand) and isinstance(one.command, Reply)]
    assert [(11, False), (12, True)] == [(reply.request_id, reply.ok) for reply in replies]
