"""Turns what workers report into changes of the store and events to publish (pure).

::

    Happened ──> fold ──> batch of changes and events ──CommitBatch──> store ──Committed──> Publish (and credit)

- What names a token that is not held here is a late report of a lost worker: counted and dropped.
- Events are numbered by the worker; a number that does not follow is that worker's fault and fails it (R4).
- Nothing is published before its batch is committed. One commit is under way at a time, and one that failed is tried
  again before what follows it, so that events are published in order; meanwhile the next batch grows.
- A task whose claim the store refused has been taken over by another engine: its events of that batch are dropped.
- Events that a worker cannot give (crash, lost, killed, stopped) are made here, numbered after the last one accepted.

Of short tasks nearly every one is tried once, says nothing and succeeds. Those stay the columns as which they came::

    worker's outbox ─WHOLE row─> assembler ─Whole─> _take_firsts ─┬─Successes─────> store
      one list a field                                            └─Publish.wholes─> trackers, sinks

No Change and no outcome is made of them; what is odd about one of them (a count from before, a change under way, another
worker's claim) sends all of its Whole the long way, where each is looked at by itself. A few go that way too: it is shorter
for one. If the store refuses one of a batch, its columns become ordinary outcomes again, less that one.
"""

from __future__ import annotations

from collections import deque
from itertools import repeat

import attrs

from rxtasks.clock import us_from_utc, utc_from_us
from rxtasks.config import Settings
from rxtasks.errors import ProtocolError, UnknownHandler
from rxtasks.lifecycle import transitions
from rxtasks.lifecycle.errorinfo import TaskErrorInfo
from rxtasks.lifecycle.events import ProgressEvent, StatusEvent, TaskEvent
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.observe.tally import Tally
from rxtasks.pool.state import WorkerState
from rxtasks.pool.words import CommitBatch, End, Instruction, Now, Occurrence, Publish, Run, SendCommand, Whole
from rxtasks.stores.base import Change, Claim, Successes, each_change
from rxtasks.wire.credit import UNIT, ReceiveCredit, event_cost
from rxtasks.wire.message import Grant
from rxtasks.wire.outcome import Ended, Outcome
from rxtasks.wire.stored_errors import store_exception

__all__ = ["Ends", "Recorder"]

_RUNNING, _PENDING, _SUCCEEDED = TaskStatus.RUNNING, TaskStatus.PENDING, TaskStatus.SUCCEEDED
_LEGAL = transitions.LEGAL
#: Bytes counted for an event that reported none (status, progress).
_SMALL = 200
#: Attempts for which columns pay.
_MANY = 4


@attrs.define(eq=False, repr=False)
class _Batch:
    changes: list[Change] = attrs.field(factory=list)
    events: list[TaskEvent] = attrs.field(factory=list)
    #: Bytes of each event.
    sizes: list[int] = attrs.field(factory=list)
    outcomes: list[tuple[str, Ended]] = attrs.field(factory=list)
    #: First attempts that came as a whole: for the store, and with the place of their first event in `events`.
    successes: list[Successes] = attrs.field(factory=list)
    wholes: list[tuple[int, Whole]] = attrs.field(factory=list)
    size: int = 0
    conflated: int = 0
    #: It puts tasks back into the queue: there is something to claim when it is committed.
    requeued: bool = False

    #: What the store is to be told, made when nothing is added any more; by this very list it knows a batch again.
    told: list[Change | Successes] = attrs.field(factory=list)

    @property
    def is_empty(self) -> bool:
        """True when there is nothing to commit or to publish."""
        return not (self.changes or self.events or self.conflated)  # successes have events


class Ends:
    """Attempts that ended their claims, how, and after how many microseconds: an item for each in each list."""

    __slots__ = ("claims", "known", "rans_us", "statuses")

    def __init__(self) -> None:
        self.claims: list[Claim] = []
        self.statuses: list[TaskStatus] = []
        self.rans_us: list[int] = []
        #: Tokens of those that ended of an error, and whose handler the worker has found.
        self.known: set[int] = set()

    def add(self, claim: Claim, status: TaskStatus, ran_us: int) -> None:
        """Append one."""
        self.claims.append(claim)
        self.statuses.append(status)
        self.rans_us.append(ran_us)


class Recorder:
    """Holds every claim of this engine and the batch that is being made."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.claims: dict[int, Claim] = {}
        #: Reports dropped because their token is not held (any more).
        self.fenced = 0
        self._batch = _Batch()
        #: Batches to which nothing is added any more, by their numbers: those to be sent, and the one that is under way.
        self._sealed: deque[tuple[int, _Batch]] = deque()
        self._sent: dict[int, _Batch] = {}
        self._number = 0
        #: Claims whose credit changed since the last grant.
        self._owed: dict[int, Claim] = {}
        self.full = False
        #: Who wants to have counted what becomes of attempts; as a rule nobody.
        self.tallies: tuple[Tally, ...] = ()
        #: The store outlives this engine: each batch that has events of a task names its claim, so that a late one is
        #: refused, and the seq behind them, with which another engine would go on.
        self.durable = False

    # -- claims --------------------------------------------------------------------------------------------------------

    def hold(self, claim: Claim) -> None:
        """Take the claim into this engine's hands."""
        self.claims[claim.token] = claim

    def hold_all(self, claims: list[Claim]) -> None:
        """Do so for each."""
        self.claims.update(zip([claim.token for claim in claims], claims, strict=True))

    def drop(self, claim: Claim) -> None:
        """The claim is over."""
        self.claims.pop(claim.token, None)
        if claim.credit is not None:
            self._owed.pop(claim.token, None)

    def disown(self, fence: int) -> list[Claim]:
        """Let go of all claims with tokens up to `fence`, which are void; return those.

        What there is of them already is a batch of its own, whenever it can be sent: the tasks may be claimed anew before,
        and a batch has one claim of a task at most, because its events are told apart by their tasks.
        """
        if not self._batch.is_empty:
            self._seal()
        void = [claim for claim in self.claims.values() if claim.token <= fence]
        for claim in void:
            self.drop(claim)
        return void

    def claim_of(self, task_id: str) -> Claim | None:
        """Return the claim of a task that is held here; looks through all of them, as only a cancel needs it."""
        for claim in self.claims.values():
            if claim.envelope.task_id == task_id:
                return claim
        return None

    # -- what workers report -------------------------------------------------------------------------------------------

    def take(self, occurrences: list[Occurrence], worker: WorkerState, now: Now, ended: Ends) -> str | None:
        """Fold the occurrences; return the worker's fault, or None.

        The attempts that ended are added to `ended`.
        """
        claims = self.claims
        batch = self._batch
        events, sizes = batch.events, batch.sizes
        size_taken = 0
        fault: str | None = None
        last = -1
        claim: Claim | None = None
        for occurrence in occurrences:
            if isinstance(occurrence, Run | Whole):
                if isinstance(occurrence, Run):
                    fault = self._take_run(occurrence, worker)
                else:
                    fault = self._take_whole(occurrence, worker, ended)
                    last = -1
                if fault is not None:
                    break
                continue
            token, event, end, size = occurrence
            if token != last:  # mostly many of one task come in a row
                last = token
                claim = claims.get(token)
                if claim is not None and claim.worker is not worker:
                    claim = None
            if claim is None:
                self.fenced += 1
                continue
            seq = event.seq
            if seq != claim.next_seq:
                fault = f"event seq {seq} of task {event.task_id} after {claim.next_seq - 1}"
                break
            if type(event) is StatusEvent:
                status = event.status
                if status not in _LEGAL[claim.status]:
                    # A task that is given to a worker may fail there before its handler begins.
                    fault = f"task {event.task_id}: {claim.status} cannot become {status}"
                    break
                claim.status = status
                change = claim.change or self._change(claim)
                change.status = status
                claim.next_seq = change.next_seq = seq + 1
                time_us = size or us_from_utc(event.time)
                size = 0
                if end is None:
                    claim.attempt = change.attempt = event.attempt
                    # By the worker's clock: short attempts arrive here with their end.
                    claim.started_us = change.started_us = time_us
                    if claim.soft_ns and claim.ending is None:
                        claim.soft_ns = now.mono_ns + int((claim.envelope.options.timeout or 0.0) * 1e9)
                else:
                    self._ended(claim, change, event, end, time_us, now)
                    ended.add(claim, status, end.ran_us)
                    if event.error is not None and event.error.code != UnknownHandler.code:
                        ended.known.add(claim.token)
                    last = -1
            elif type(event) is ProgressEvent:
                claim.progress = event
            elif size >= 0:
                credit = claim.credit
                if credit is None:
                    credit = claim.credit = ReceiveCredit(self._settings.credit)
                cost = 1 if size <= UNIT else event_cost(size, credit.window)
                if credit.accepted + cost <= credit.granted:
                    credit.accepted += cost  # what accept() does
                else:
                    try:
                        credit.accept(cost)
                    except ProtocolError as error:
                        fault = f"task {event.task_id}: {error}"
                        break
                self._owed[token] = claim
                size_taken += size
            # Used up only by an event that is taken: one that is refused leaves no gap.
            claim.next_seq = seq + 1
            if self.durable:
                (claim.change or self._change(claim)).next_seq = seq + 1
            size_taken += _SMALL
            events.append(event)
            sizes.append(size)
        batch.size += size_taken
        return fault

    def _take_run(self, run: Run, worker: WorkerState) -> str | None:
        """Do as take for each of the outputs; return the worker's fault, then none is taken."""
        token, events, sizes = run
        claim = self.claims.get(token)
        if claim is None or claim.worker is not worker:
            self.fenced += len(events)
            return None
        seq = events[0].seq
        if seq != claim.next_seq:
            return f"event seq {seq} of task {events[0].task_id} after {claim.next_seq - 1}"
        credit = claim.credit
        if credit is None:
            credit = claim.credit = ReceiveCredit(self._settings.credit)
        light = max(sizes) <= UNIT
        cost = len(events) if light else sum([event_cost(size, credit.window) for size in sizes])
        try:
            credit.accept(cost)
        except ProtocolError as error:
            return f"task {events[0].task_id}: {error}"
        self._owed[token] = claim
        claim.next_seq = seq + len(events)
        if self.durable:
            (claim.change or self._change(claim)).next_seq = claim.next_seq
        batch = self._batch
        batch.events += events
        batch.sizes += sizes
        batch.size += sum(sizes) + _SMALL * len(events)
        return None

    def _take_whole(self, whole: Whole, worker: WorkerState, ended: Ends) -> str | None:
        """Do as take for the two events of each attempt; return the worker's fault, then it and what follows are not taken."""
        claims, owed, batch = self.claims, self._owed, self._batch
        held = list(map(claims.get, whole.tokens)) if len(whole.tokens) >= _MANY else []
        if held and _are_firsts(held, whole, worker):
            self._take_firsts(whole, worker, held, ended)  # type: ignore[arg-type] # none of them is None
            return None
        events, outcomes, changes = batch.events, batch.outcomes, batch.changes
        worker_id = worker.worker_id
        before = len(events)
        fault: str | None = None
        for token, begun, last, begun_us, ended_us, value, ran_us in zip(*whole, strict=True):
            claim = claims.get(token)
            if claim is None or claim.worker is not worker:
                self.fenced += 2
                continue
            seq = begun.seq
            if seq != claim.next_seq:
                fault = f"event seq {seq} of task {begun.task_id} after {claim.next_seq - 1}"
                break
            if _RUNNING not in _LEGAL[claim.status]:
                fault = f"task {begun.task_id}: {claim.status} cannot become {_RUNNING}"
                break
            claim.status = _SUCCEEDED
            claim.next_seq = seq + 2
            claim.attempt = attempt = begun.attempt
            change = Change(
                token,
                last.task_id,
                _SUCCEEDED,
                attempt,
                claim.failures,
                claim.crashes,
                claim.interruptions,
                seq + 2,
                worker_id,
                begun_us,
                ended_us,
                True,
                0,
                value,
                None,
                None,
                claim.progress,
            )
            changes.append(change)
            events.append(begun)
            events.append(last)
            outcomes.append((last.task_id, value))
            del claims[token]
            if claim.credit is not None:
                owed.pop(token, None)
            ended.add(claim, _SUCCEEDED, ran_us)
        count = len(events) - before
        batch.sizes += [0] * count
        batch.size += _SMALL * count
        return fault

    def _take_firsts(self, whole: Whole, worker: WorkerState, held: list[Claim], ended: Ends) -> None:
        """Do as _take_whole, where each is the first attempt of a task, of which nothing is known yet: column by column."""
        batch = self._batch
        events = batch.events
        batch.wholes.append((len(events), whole))
        for pair in zip(whole.begun, whole.ended, strict=True):
            events += pair
        count = 2 * len(held)
        batch.sizes += [0] * count
        batch.size += _SMALL * count
        task_ids = [event.task_id for event in whole.ended]
        batch.successes.append(
            Successes(worker.worker_id, whole.tokens, task_ids, whole.begun_us, whole.ended_us, whole.values)
        )
        forget = self.claims.__delitem__
        for token in whole.tokens:
            forget(token)
        ended.claims += held
        ended.statuses += repeat(_SUCCEEDED, len(held))
        ended.rans_us += whole.rans_us

    def conflated(self, count: int) -> None:
        """A worker has overwritten so many progress events before it sent them."""
        self._batch.conflated += count

    def _change(self, claim: Claim) -> Change:
        envelope_id = claim.envelope.task_id
        change = claim.change = Change(
            claim.token,
            envelope_id,
            claim.status,
            claim.attempt,
            claim.failures,
            claim.crashes,
            claim.interruptions,
            claim.next_seq,
            None if claim.worker is None else claim.worker.worker_id,
            claim.started_us,
        )
        self._batch.changes.append(change)
        return change

    def _ended(self, claim: Claim, change: Change, event: StatusEvent, end: End, time_us: int, now: Now) -> None:
        change.release = True
        change.progress = claim.progress
        change.error = event.error
        status = event.status
        if status.terminal:
            change.finished_us = time_us
            value, blob, error_blob, error_object, _, _ = end
            change.value = value
            change.blob = blob
            ended: Ended = value
            if status is not _SUCCEEDED or (value is not None and value[0] != "j"):
                ended = Outcome(status, value, blob, event.error, error_blob, error_object)
                if self.durable:
                    change.raised = ended.raised = error_blob
            self._batch.outcomes.append((event.task_id, ended))
            self.claims.pop(claim.token, None)
            if claim.credit is not None:
                self._owed.pop(claim.token, None)
            return
        self._batch.requeued = True
        if status is TaskStatus.RETRYING:
            claim.failures += 1
            change.failures = claim.failures
            change.due_us = now.wall_us + int((end.delay or 0.0) * 1e6)
        else:
            # Reschedule: the attempt is not counted as one that failed.
            change.due_us = now.wall_us + max(0, int((end.delay or 0.0) * 1e6))
        self.drop(claim)

    # -- what only the engine can say ----------------------------------------------------------------------------------

    def began(self, claim: Claim, now: Now) -> None:
        """Say that the attempt had begun, in the place of a worker that died before it could."""
        transitions.check(claim.envelope.task_id, claim.status, _RUNNING)
        claim.status = _RUNNING
        claim.attempt += 1
        claim.started_us = now.wall_us
        self._say(claim, _RUNNING, None, now)

    def finish(self, claim: Claim, status: TaskStatus, error: TaskErrorInfo, cause: BaseException, now: Now) -> None:
        """End the task from outside with a terminal status."""
        transitions.check(claim.envelope.task_id, claim.status, status)
        for tally in self.tallies:
            tally.finished(claim, status, _ran_us(claim, now))
        claim.status = status
        event = self._say(claim, status, error, now)
        change = claim.change or self._change(claim)
        self._refresh(change, claim)
        change.release = True
        change.finished_us = now.wall_us
        change.due_us = 0
        change.progress = claim.progress
        change.error = error
        if self.durable:
            change.raised = store_exception(cause)
        self._batch.outcomes.append((event.task_id, Outcome(status, None, None, error, None, cause)))
        self.drop(claim)

    def requeue(self, claim: Claim, now: Now, error: TaskErrorInfo | None = None, due_us: int = 0) -> None:
        """Put the task back into the queue.

        An attempt that had begun publicly ends with the error and `pending`, or `retrying` if it waits until `due_us`.
        """
        status = TaskStatus.RETRYING if due_us else _PENDING
        if claim.status is _RUNNING:
            for tally in self.tallies:
                tally.requeued(claim, _ran_us(claim, now) or 0)
            self._say(claim, status, error, now)
        claim.status = status
        change = claim.change or self._change(claim)
        self._refresh(change, claim)
        change.error = error
        change.release = True
        change.due_us = due_us
        self._batch.requeued = True
        self.drop(claim)

    def note(self, claim: Claim, checkpoint: bytes) -> int:
        """Keep a checkpoint with the task; return the number of the batch after which it is durable."""
        change = claim.change or self._change(claim)
        change.checkpoint = checkpoint
        claim.restored = checkpoint
        return self.next_batch

    def note_step(self, claim: Claim, name: str, data: bytes) -> int:
        """Keep the result of a step with the task; return the number of the batch after which it is durable."""
        change = claim.change or self._change(claim)
        change.steps = [*(change.steps or ()), (name, data)]
        claim.steps = {**(claim.steps or {}), name: data}
        return self.next_batch

    @property
    def requeueing(self) -> bool:
        """True while the store has not been told yet of tasks that are to be claimed again, in their order."""
        if self._batch.requeued or any([batch.requeued for batch in self._sent.values()]):
            return True
        return bool(self._sealed) and any([batch.requeued for _, batch in self._sealed])

    @property
    def next_batch(self) -> int:
        """The number of the batch that is being made."""
        return self._number + 1

    def _say(self, claim: Claim, status: TaskStatus, error: TaskErrorInfo | None, now: Now) -> StatusEvent:
        event = StatusEvent(
            claim.envelope.task_id,
            claim.next_seq,
            max(1, claim.attempt),
            None if claim.worker is None else claim.worker.worker_id,
            utc_from_us(now.wall_us),
            status,
            None,
            error,
        )
        claim.next_seq += 1
        self._batch.events.append(event)
        self._batch.sizes.append(0)
        self._batch.size += _SMALL
        return event

    @staticmethod
    def _refresh(change: Change, claim: Claim) -> None:
        change.status = claim.status
        change.attempt = claim.attempt
        change.failures = claim.failures
        change.crashes = claim.crashes
        change.interruptions = claim.interruptions
        change.next_seq = claim.next_seq
        change.started_us = claim.started_us

    # -- batches -------------------------------------------------------------------------------------------------------

    def close_batch(self, out: list[Instruction]) -> None:
        """Ask for the commit of what has come since the last one, if anything, unless that is still under way."""
        if self._sent:
            return
        if not self._sealed:
            if self._batch.is_empty:
                return
            self._seal()
        number, batch = self._sealed.popleft()
        self._sent[number] = batch
        out.append(CommitBatch(number, batch.told, batch.events))

    def _seal(self) -> None:
        """Let what comes from now on be of another batch."""
        batch = self._batch
        for change in batch.changes:
            claim = self.claims.get(change.token)
            if claim is not None:
                claim.change = None
                if claim.worker is not None:
                    change.worker_id = claim.worker.worker_id
        batch.told = [*batch.changes, *batch.successes]
        self._number += 1
        self._sealed.append((self._number, batch))
        self._batch = _Batch()

    def on_committed(self, number: int, refused: list[int], out: list[Instruction]) -> tuple[list[Claim], bool]:
        """Publish the batch; return the claims that the store refused, and whether it put tasks back into the queue."""
        batch = self._sent.pop(number, None)
        if batch is None:
            return [], False
        lost: list[Claim] = []
        if refused:
            tokens = set(refused)
            tasks = {change.task_id for change in each_change(batch.told) if change.token in tokens}
            for _, whole in batch.wholes:
                batch.outcomes += zip([event.task_id for event in whole.ended], whole.values, strict=True)
            batch.wholes = []
            kept = [pair for pair in zip(batch.events, batch.sizes, strict=True) if pair[0].task_id not in tasks]
            batch.events, batch.sizes = [event for event, _ in kept], [size for _, size in kept]
            batch.outcomes = [(task_id, outcome) for task_id, outcome in batch.outcomes if task_id not in tasks]
            for token in refused:
                claim = self.claims.get(token)
                if claim is not None:
                    self.drop(claim)
                    lost.append(claim)
        if batch.events or batch.outcomes or batch.conflated:
            out.append(Publish(batch.events, batch.sizes, batch.outcomes, batch.size, batch.conflated, batch.wholes))
        return lost, batch.requeued

    def again(self, number: int, out: list[Instruction]) -> None:
        """Ask once more for the commit of a batch that failed."""
        batch = self._sent.get(number)
        if batch is not None:
            out.append(CommitBatch(number, batch.told, batch.events))

    @property
    def uncommitted(self) -> bool:
        """True while something waits for its commit."""
        batch = self._batch
        return bool(self._sent or self._sealed or batch.changes or batch.events)

    def grant(self, out: list[Instruction]) -> None:
        """Give back credit for what delivery has taken over, unless its buffers are full."""
        if self.full or not self._owed or self._sent:
            return
        rows: dict[str, list[list[int]]] = {}
        for token, claim in self._owed.items():
            units = claim.credit.due()
            if units is not None and claim.worker is not None:
                rows.setdefault(claim.worker.worker_id, []).append([token, units])
        self._owed.clear()
        out.extend(SendCommand(worker_id, Grant(some)) for worker_id, some in rows.items())


def _ran_us(claim: Claim, now: Now) -> int | None:
    """Return for how long the attempt has been running that is ended here; None: none is."""
    if claim.status is not _RUNNING or claim.started_us is None:
        return None
    return max(0, now.wall_us - claim.started_us)


def _are_firsts(held: list[Claim | None], whole: Whole, worker: WorkerState) -> bool:
    """Say whether all may be first attempts of tasks that this worker holds, and of which nothing else is to be told."""
    for claim, begun in zip(held, whole.begun, strict=True):
        if (
            claim is None
            or claim.worker is not worker
            or begun.seq != 1
            or claim.next_seq != 1
            or begun.attempt != 1
            or claim.status is not _PENDING
            or claim.failures
            or claim.crashes
            or claim.interruptions
            or claim.credit is not None
            or claim.change is not None
        ):
            return False
    return len({*whole.tokens}) == len(held)
