"""What becomes of a dead service's tasks, and who is held for dead: laws of the two decisions."""

from __future__ import annotations

import attrs
from hypothesis import given
from hypothesis import strategies as st

from rxtasks import ServiceStopped, TaskCancelled
from rxtasks.lifecycle import transitions
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.stores.recovery import Held, Here, Member, Standing, recovered, standing

_SMALL = st.integers(0, 30)
_OPEN = [status for status in TaskStatus if not status.terminal]

held = st.builds(
    Held,
    token=st.integers(1, 2**53),
    task_id=st.just("01M81ZMS08623EJWDAY95QGB08"),
    status=st.sampled_from(_OPEN),
    attempt=_SMALL,
    failures=_SMALL,
    crashes=_SMALL,
    interruptions=_SMALL,
    next_seq=st.integers(1, 10_000),
    worker_id=st.none() | st.just("w"),
    due_us=st.integers(0, 2**53),
    cancel=st.none() | st.just("") | st.text(),
)

ids = st.sampled_from(["a", "b"])
times = st.integers(0, 2**62)
member = st.builds(Member, number=st.integers(1, 9), id=ids, pid=st.just(1), host=ids, boot=ids, lease_ns=times)
here = st.builds(Here, host=ids, boot=ids, now_ns=times, lease_ns=st.integers(1, 10**11), late=st.booleans())


@given(held, st.integers(1, 25), times)
def test_a_task_of_the_dead_is_released_and_nothing_of_it_is_lost(held: Held, most: int, now_us: int) -> None:
    """Q-03 R9: the claim ends; attempts, failures and crashes stay as they were; the log goes on without a gap."""
    change, event = recovered(held, most, now_us % 10**15)
    assert change.release and held.token == change.token and held.task_id == change.task_id
    assert (held.attempt, held.failures, held.crashes) == (change.attempt, change.failures, change.crashes)
    assert change.next_seq == held.next_seq + (event is not None)
    assert (change.finished_us is not None) == change.status.terminal
    if event is None:
        assert (held.status, held.interruptions, held.due_us) == (change.status, change.interruptions, change.due_us)
    else:
        assert held.next_seq == event.seq and change.status is event.status and event.attempt >= 1
        assert event.error is not None and event.error == change.error
        transitions.check(held.task_id, held.status, event.status)


@given(held, st.integers(1, 25))
def test_who_ran_is_interrupted_who_was_to_be_cancelled_is(held: Held, most: int) -> None:
    """Q-03: `most` interruptions end a task that ran; one that had not begun waits as before, uncounted."""
    change, event = recovered(held, most, 1)
    if held.cancel is not None:
        assert TaskStatus.CANCELLED is change.status and event is not None and event.error is not None
        assert TaskCancelled.code == event.error.code and held.interruptions == change.interruptions
    elif held.status is not TaskStatus.RUNNING:
        assert event is None
    else:
        assert event is not None and event.error is not None and ServiceStopped.code == event.error.code
        assert held.interruptions + 1 == change.interruptions
        assert (TaskStatus.FAILED if change.interruptions >= most else TaskStatus.PENDING) is change.status


@given(held, st.integers(1, 25), times)
def test_what_is_recovered_is_decided_once(held: Held, most: int, now_us: int) -> None:
    """Q-03: the same row gives the same decision, whoever takes it."""
    now_us %= 10**15
    first, second = recovered(held, most, now_us), recovered(held, most, now_us)
    assert attrs.asdict(first[0]) == attrs.asdict(second[0]) and first[1] == second[1]


@given(member, here, st.booleans(), st.none() | times)
def test_nobody_is_taken_for_dead_without_a_reason(member: Member, here: Here, free: bool, seen_ns: int | None) -> None:
    """Q-03: a free lock, another start of the machine, or a lease that is over; who was late itself judges no lease."""
    found = standing(member, here, free=free, seen_ns=seen_ns)
    if free or (member.host == here.host and member.boot != here.boot):
        assert Standing.DEAD is found
    elif here.late:
        assert Standing.ALIVE is found
    elif member.boot == here.boot:
        assert (Standing.LAPSED if member.lease_ns < here.now_ns else Standing.ALIVE) is found
    elif seen_ns is None or here.now_ns - seen_ns <= here.lease_ns:
        assert Standing.ALIVE is found, "another machine's clock says nothing here"
    else:
        assert Standing.LAPSED is found


@given(member, here, st.integers(0, 10**12))
def test_a_lease_that_is_renewed_in_time_never_lapses(member: Member, here: Here, ago_ns: int) -> None:
    """Q-03: on this machine by its own clock, on another one by its having moved."""
    ago_ns %= here.lease_ns
    renewed = attrs.evolve(member, lease_ns=here.now_ns - ago_ns + here.lease_ns)
    found = standing(renewed, here, free=False, seen_ns=here.now_ns - ago_ns)
    if not (member.host == here.host and member.boot != here.boot):
        assert Standing.ALIVE is found
