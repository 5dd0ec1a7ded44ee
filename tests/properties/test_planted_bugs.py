"""The checker is checked: bugs that are planted in the core, the pool or the store, each found by the simulation.

A bug is a patch. Each must break an invariant in one of the first runs, by number; without it all of them hold
(test_simulation.py runs the same seeds).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rxtasks.engine.core import Core
from rxtasks.engine.dispatcher import Dispatcher
from rxtasks.engine.ending import Ender
from rxtasks.engine.recorder import Recorder
from rxtasks.lifecycle.status import TaskStatus, WorkerStatus
from rxtasks.pool.recycling import Recycling
from rxtasks.pool.state import PoolState
from rxtasks.pool.timers import Timers
from rxtasks.pool.words import Answer, CommitBatch, Exited, KillWorker, Publish, SendCommand, Tick
from rxtasks.stores.base import Claim
from rxtasks.stores.memory import MemoryStore
from rxtasks.stores.memory_relations import MemoryRelations
from rxtasks.stores.recovery import Standing
from rxtasks.testing import sharedstore
from rxtasks.testing.invariants import Violation
from rxtasks.testing.runs import plan_of
from rxtasks.wire.credit import ReceiveCredit
from rxtasks.wire.message import Reply, Stop

#: Runs in which a planted bug is to be found.
_RUNS = 2_000


def _no_token_check(patch: pytest.MonkeyPatch) -> None:
    """The store applies a change whatever its token; a lapsed claim's result is taken."""

    change = MemoryStore._change

    def anyway(self: MemoryStore, done: Any, refused: list[int]) -> None:
        kept = self._tasks[done.task_id]
        if not isinstance(kept, tuple):
            row = self._opened(kept.envelope) if isinstance(kept, Claim) else kept
            row.token = done.token
            change(self, done, refused)

    patch.setattr(MemoryStore, "_change", anyway)


def _started_uncounted(patch: pytest.MonkeyPatch) -> None:
    """What a dead worker had begun is put back as if it had not."""
    patch.setattr(Ender, "_crashed", lambda self, claim, worker, exited, now: self._recorder.requeue(claim, now))


def _published_first(patch: pytest.MonkeyPatch) -> None:
    """Events go to delivery with the request for their commit."""
    close = Recorder.close_batch

    def close_batch(self: Recorder, out: list[Any]) -> None:
        batch = self._batch
        close(self, out)
        if self._batch is not batch:
            out.insert(0, Publish(list(batch.events), list(batch.sizes), [], batch.size))
            batch.events = []

    patch.setattr(Recorder, "close_batch", close_batch)


def _lost_wake_up(patch: pytest.MonkeyPatch) -> None:
    """What was taken back or not begun is forgotten by the dispatcher."""
    patch.setattr(Dispatcher, "back", lambda self, lane, claims: None)


def _never_taken_back(patch: pytest.MonkeyPatch) -> None:
    """Nothing is taken back from behind a long task."""
    patch.setattr(Dispatcher, "_take_back", lambda self, lane, now, out: None)


def _arrivals_lost(patch: pytest.MonkeyPatch) -> None:
    """Every other arrival wakes nobody."""
    arrived = Dispatcher.arrived
    calls = [0]

    def sometimes(self: Dispatcher) -> None:
        calls[0] += 1
        if calls[0] % 2:
            arrived(self)

    patch.setattr(Dispatcher, "arrived", sometimes)


def _terminal_twice(patch: pytest.MonkeyPatch) -> None:
    """A cancel ends the task at once, and the handler's own end is taken too."""
    patch.setattr(Recorder, "drop", lambda self, claim: None)


def _credit_kept(patch: pytest.MonkeyPatch) -> None:
    """Credit is never returned."""
    patch.setattr(Recorder, "grant", lambda self, out: None)


def _cancel_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A cancelled task whose worker dies runs again."""
    patch.setattr(Ender, "cancelled", lambda self, claim, reason, now: self._recorder.requeue(claim, now))


def _shared_after_crash(patch: pytest.MonkeyPatch) -> None:
    """A task that crashed a worker is run beside others."""
    hold = Dispatcher._hold

    def anywhere(self: Dispatcher, claims: Any, worker: Any, now: Any) -> None:
        worker.exclusive = False
        hold(self, claims, worker, now)

    patch.setattr(Dispatcher, "_hold", anywhere)


def _timers_lost(patch: pytest.MonkeyPatch) -> None:
    """No deadline fires."""
    patch.setattr(Timers, "due", lambda self, now_ns: [self._heap.pop(0)[2:] for _ in self._heap][:0])


def _pause_ignored(patch: pytest.MonkeyPatch) -> None:
    """A paused pool goes on."""
    patch.setattr(Core, "_hold", lambda self: None)


def _crash_of_the_unstarted(patch: pytest.MonkeyPatch) -> None:
    """All that a dead worker held counts as begun there."""
    bury = Ender.bury

    def everything(self: Ender, worker: Any, exited: Any, stopping: bool, now: Any) -> Any:
        return bury(self, worker, exited._replace(unstarted=0), stopping, now)

    patch.setattr(Ender, "bury", everything)


def _retired_early(patch: pytest.MonkeyPatch) -> None:
    """A worker that has served its time leaves when its successor is started, not when it is ready."""
    recycle = PoolState.recycle

    def too_early(self: PoolState, now: Any, out: list[Any]) -> None:
        recycle(self, now, out)
        for place in self.places:
            if place.successor is not None:
                old, by = self.workers[place.worker_id or ""], place.successor
                self._hand_over(place)
                old.status = WorkerStatus.STOPPING
                out.append(SendCommand(old.worker_id, Stop(0)))
                out.append(self.announce("replaced", old, now, f"by {by}: recycled: 0 tasks", {"by": by}))

    patch.setattr(PoolState, "recycle", too_early)


def _all_at_once(patch: pytest.MonkeyPatch) -> None:
    """Every worn worker gets its successor at once."""
    patch.setattr(Recycling, "most", 100)


def _left_behind(patch: pytest.MonkeyPatch) -> None:
    """A worker that has served its time keeps what it has not begun until it is gone."""

    def dismiss(self: Core, worker: Any, by: str) -> None:
        worker.status = WorkerStatus.STOPPING
        self._out.append(SendCommand(worker.worker_id, Stop(self.ender.command())))
        if not worker.assigned:
            self._became_idle(worker)

    patch.setattr(Core, "_retire", dismiss)


def _unbegun_lost(patch: pytest.MonkeyPatch) -> None:
    """What is taken back from a worker that has served its time is forgotten."""
    taken_back = Core._taken_back

    def forgetful(self: Core, stimulus: Any) -> None:
        worker = self.pool.workers.get(stimulus.worker_id)
        if worker is not None and worker.worn and worker.status is WorkerStatus.STOPPING:
            for token in list(worker.assigned)[len(worker.assigned) - stimulus.number :]:
                del worker.assigned[token]
            return
        taken_back(self, stimulus)

    patch.setattr(Core, "_taken_back", forgetful)


def _successor_forgotten(patch: pytest.MonkeyPatch) -> None:
    """When a worker dies whose successor is under way, another one is started too."""
    patch.setattr(PoolState, "replace", lambda self, place, now, out: self.spawn(place, now, out))


def _tried_once(patch: pytest.MonkeyPatch) -> None:
    """After a successor that could not start there is no other."""

    def never(self: Recycling, place: Any, text: str, now: Any) -> str:
        place.not_before_ns = 2**62
        return ""

    patch.setattr(Recycling, "not_yet", never)


def _requeued_before_death(patch: pytest.MonkeyPatch) -> None:
    """What a worker held whose channel broke runs elsewhere at once; its process may still live."""

    def broken(self: Core, stimulus: Any) -> None:
        self._exited(Exited(stimulus.worker_id, None, None, 0))

    patch.setattr(Core, "_broken", broken)


def _timers_first(patch: pytest.MonkeyPatch) -> None:
    """Timers fire before what has come in the same turn is read."""
    step = Core.step

    def early(self: Core, stimuli: list[Any], now: Any) -> list[Any]:
        return step(self, sorted(stimuli, key=lambda stimulus: type(stimulus) is not Tick), now)

    patch.setattr(Core, "step", early)


def _credit_decreased(patch: pytest.MonkeyPatch) -> None:
    """A grant is not cumulative: it is what has been accepted."""
    due = ReceiveCredit.due

    def less(self: ReceiveCredit) -> int | None:
        return None if due(self) is None else self.accepted

    patch.setattr(ReceiveCredit, "due", less)


def _credit_without_end(patch: pytest.MonkeyPatch) -> None:
    """Each grant opens ten windows."""
    due = ReceiveCredit.due

    def more(self: ReceiveCredit) -> int | None:
        units = due(self)
        return None if units is None else units + 10 * self.window

    patch.setattr(ReceiveCredit, "due", more)


def _cancel_acknowledged_first(patch: pytest.MonkeyPatch) -> None:
    """The cancel of a task that waited in a durable store is acknowledged before it is written."""

    def asked(self: Core, stimulus: Any) -> None:
        answer = self._cancel(stimulus)
        if answer is not None:
            self._out.insert(0, Answer(stimulus.ticket, answer))

    patch.setattr(Core, "_cancel_asked", asked)


def _checkpoint_acknowledged_first(patch: pytest.MonkeyPatch) -> None:
    """A checkpoint is acknowledged before it is written."""
    request = Core._request

    def at_once(self: Core, worker: Any, asked: Any) -> None:
        request(self, worker, asked)
        if self._requests:
            self._requests.clear()
            self._out.append(SendCommand(worker.worker_id, Reply(asked.request_id)))

    patch.setattr(Core, "_request", at_once)


def _void_acknowledged(patch: pytest.MonkeyPatch) -> None:
    """A checkpoint that the store refused is acknowledged."""
    committed = Core._committed

    def always(self: Core, stimulus: Any) -> None:
        waiting = self._requests.get(stimulus.batch, [])
        self._requests[stimulus.batch] = [(worker, request, -1) for worker, request, _ in waiting]
        committed(self, stimulus)

    patch.setattr(Core, "_committed", always)


def _gap_after_a_crash(patch: pytest.MonkeyPatch) -> None:
    """What the engine says of an attempt leaves out a number."""
    say = Recorder._say

    def skip(self: Recorder, claim: Any, *rest: Any) -> Any:
        if claim.crashes:
            claim.next_seq += 1
        return say(self, claim, *rest)

    patch.setattr(Recorder, "_say", skip)


def _one_too_many_taken_back(patch: pytest.MonkeyPatch) -> None:
    """One more than was taken back is believed to be unbegun."""
    taken_back = Core._taken_back

    def more(self: Core, stimulus: Any) -> None:
        worker = self.pool.workers.get(stimulus.worker_id)
        if worker is not None and stimulus.number and len(worker.assigned) > stimulus.number:
            for claim in worker.assigned.values():
                claim.status = TaskStatus.PENDING
            stimulus = stimulus._replace(number=stimulus.number + 1)
        taken_back(self, stimulus)

    patch.setattr(Core, "_taken_back", more)


def _lock_kept(patch: pytest.MonkeyPatch) -> None:
    """The lock of a task that crashed its worker is not given back."""
    apply = MemoryRelations.apply

    def keep(self: MemoryRelations, row: Any, change: Any) -> None:
        if change.release and change.crashes > row.crashes:
            row.links.held = False
        apply(self, row, change)

    patch.setattr(MemoryRelations, "apply", keep)


def _busy_ones_killed(patch: pytest.MonkeyPatch) -> None:
    """A worker that is to leave is killed, whatever it runs."""
    dismiss = Core._dismiss

    def kill(self: Core, worker: Any, reason: str) -> None:
        dismiss(self, worker, reason)
        self._out.append(KillWorker(worker.worker_id, True))

    patch.setattr(Core, "_dismiss", kill)


def _drained_and_lost(patch: pytest.MonkeyPatch) -> None:
    """What was not begun when the engine stops is forgotten."""
    taken_back = Core._taken_back

    def forget(self: Core, stimulus: Any) -> None:
        worker = self.pool.workers.get(stimulus.worker_id)
        if self.pool.stopping and worker is not None:
            for token in list(worker.assigned)[len(worker.assigned) - stimulus.number :]:
                worker.load_us -= worker.assigned.pop(token).load_us
            if not worker.assigned:
                self._became_idle(worker)
            return
        taken_back(self, stimulus)

    patch.setattr(Core, "_taken_back", forget)


def _never_relieved(patch: pytest.MonkeyPatch) -> None:
    """When subscribers have caught up, nobody is told."""
    changed = Core._delivery_changed
    patch.setattr(Core, "_delivery_changed", lambda self, stimulus: changed(self, stimulus) if stimulus.full else None)


def _repeat_not_known(patch: pytest.MonkeyPatch) -> None:
    """A batch that failed is given to the store again as another list, by which that cannot know it."""

    def again(self: Recorder, number: int, out: list[Any]) -> None:
        batch = self._sent.get(number)
        if batch is not None:
            out.append(CommitBatch(number, [*batch.told], batch.events))

    patch.setattr(Recorder, "again", again)


def _given_up_early(patch: pytest.MonkeyPatch) -> None:
    """Who has not renewed its lease for a moment is taken for dead."""
    standing = sharedstore.standing

    def hasty(member: Any, here: Any, **seen: Any) -> Standing:
        found = standing(member, here, **seen)
        late = here.now_ns - (member.lease_ns - here.lease_ns) > 4_000_000_000
        return Standing.DEAD if found is Standing.ALIVE and late else found

    patch.setattr(sharedstore, "standing", hasty)


def _never_given_up(patch: pytest.MonkeyPatch) -> None:
    """Nobody is ever taken for dead."""
    patch.setattr(sharedstore, "standing", lambda *_, **__: Standing.ALIVE)


def _lock_ignored(patch: pytest.MonkeyPatch) -> None:
    """A service is taken for dead while workers of it live on."""
    patch.setattr("rxtasks.testing.fleet.Fleet.is_free", lambda self, name: self.all[name].gone)


def _void_ignored(patch: pytest.MonkeyPatch) -> None:
    """An engine that was taken for dead does not let go of what it held."""
    patch.setattr(Core, "_disowned", lambda self, stimulus: None)


def _interruptions_are_crashes(patch: pytest.MonkeyPatch) -> None:
    """Who dies with another one's kill has crashed."""
    patch.setattr(Ender, "_interrupted", Ender._crashed)


def _any_seq(patch: pytest.MonkeyPatch) -> None:
    """Events are taken whatever their number."""
    take = Recorder.take

    def renumbered(self: Recorder, occurrences: Any, worker: Any, now: Any, ended: Any) -> Any:
        for occurrence in occurrences:
            if type(occurrence) is tuple and len(occurrence) == 4 and occurrence[0] in self.claims:
                self.claims[occurrence[0]].next_seq = max(self.claims[occurrence[0]].next_seq, occurrence[1].seq)
        return take(self, occurrences, worker, now, ended)

    patch.setattr(Recorder, "take", renumbered)


def _dependents_at_once(patch: pytest.MonkeyPatch) -> None:
    """What depends on a task runs when that has begun."""
    begin = MemoryRelations._begin

    def now(self: MemoryRelations, row: Any) -> None:
        kept = self._store._tasks
        if all(not isinstance(kept[other], tuple) for other in row.options.depends_on):
            row.options = row.options.__class__()
        begin(self, row)

    patch.setattr(MemoryRelations, "_begin", now)


def _checkpoint_lost(patch: pytest.MonkeyPatch) -> None:
    """A new attempt gets nothing of what was kept before."""
    assignment = Dispatcher._assignment

    def bare(self: Dispatcher, claim: Any) -> Any:
        claim.restored, claim.steps = None, None
        return assignment(self, claim)

    patch.setattr(Dispatcher, "_assignment", bare)


def _grace_ignored(patch: pytest.MonkeyPatch) -> None:
    """A cancelled handler that does not end is never killed."""
    patch.setattr(Ender, "kill_for", lambda self, claim, now, out: None)


BUGS: list[Callable[[pytest.MonkeyPatch], None]] = [
    _no_token_check,
    _started_uncounted,
    _published_first,
    _lost_wake_up,
    _never_taken_back,
    _arrivals_lost,
    _terminal_twice,
    _credit_kept,
    _cancel_forgotten,
    _shared_after_crash,
    _timers_lost,
    _pause_ignored,
    _crash_of_the_unstarted,
    _retired_early,
    _all_at_once,
    _left_behind,
    _unbegun_lost,
    _successor_forgotten,
    _tried_once,
    _requeued_before_death,
    _timers_first,
    _credit_decreased,
    _credit_without_end,
    _cancel_acknowledged_first,
    _checkpoint_acknowledged_first,
    _void_acknowledged,
    _gap_after_a_crash,
    _one_too_many_taken_back,
    _lock_kept,
    _busy_ones_killed,
    _drained_and_lost,
    _never_relieved,
    _repeat_not_known,
    _given_up_early,
    _never_given_up,
    _lock_ignored,
    _void_ignored,
    _interruptions_are_crashes,
    _any_seq,
    _dependents_at_once,
    _checkpoint_lost,
    _grace_ignored,
]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__[1:])
def test_a_planted_bug_is_found(bug: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Q-02 W-07 W-11 W-13 R1 R9 N-05: each breaks an invariant, or the core itself notices."""
    bug(monkeypatch)
    for seed in range(_RUNS):
        try:
            plan_of(seed).run()
        except Violation as found:
            print(f"{bug.__name__[1:]}: seed {seed}: {found}")
            return
        except (AttributeError, NameError, TypeError):
            raise  # the patch does not fit what it patches
        except Exception as found:  # the core itself noticed
            print(f"{bug.__name__[1:]}: seed {seed}: {type(found).__name__}: {found}")
            return
    pytest.fail(f"not found: {bug.__doc__}")


def test_there_are_enough_planted_bugs() -> None:
    """At least fifteen, no two the same."""
    assert len({bug.__doc__ for bug in BUGS}) == len(BUGS) >= 15
