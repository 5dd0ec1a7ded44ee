"""A run in words: what came to a core and what it asked for, one line each."""

from __future__ import annotations

from typing import Any

from rxtasks.lifecycle.events import StatusEvent
from rxtasks.pool import words
from rxtasks.pool.words import Instruction, Stimulus, events_of
from rxtasks.stores.base import Claim, each_change

__all__ = ["told"]

#: Words that say little.
_DULL = (words.Spares, words.Answer, words.ShowTurned)


def told(lines: list[str], name: str, now_ns: int, stimuli: list[Stimulus], instructions: list[Instruction]) -> None:
    """Append one step to the lines."""
    head = f"  {name}{' ' if name else ''}{now_ns / 1e9:.3f} s"
    lines += [f"{head}  > {_said(word)}" for word in stimuli if not isinstance(word, _DULL)]
    lines += [f"{head}  < {_said(word)}" for word in instructions if not isinstance(word, _DULL)]


def _said(word: Any) -> str:
    match word:
        case words.Happened():
            events = [_event(event) for occurrence in word.occurrences for event in events_of(occurrence)]
            return f"Happened in {word.worker_id}: {', '.join(events)}"
        case words.Reported():
            return f"Reported by {word.worker_id}: {word.report}"
        case words.Claimed():
            return f"Claimed: {', '.join(_claim(claim) for claim in word.claims) or 'nothing'}"
        case words.Swept():
            return f"Swept: {', '.join(_claim(claim) for claim in word.claims) or 'nothing'}"
        case words.CancelAsked():
            return f"CancelAsked of {word.task_id}{', which waited' if word.claim is not None else ''}"
        case words.SendAssign():
            tasks = ", ".join(f"{task.task_id} (token {task.token})" for task in word.tasks)
            return f"SendAssign to {word.worker_id}: {tasks}"
        case words.CommitBatch():
            changes = ", ".join(f"{change.task_id} {change.status}" for change in each_change(word.changes))
            return f"CommitBatch {word.batch}: {changes}; {len(word.events)} events"
        case words.Publish():
            return f"Publish {', '.join(map(_event, word.events))}"
        case words.Announce():
            return f"Announce {word.event.kind} {word.event.worker_id or ''} {word.event.message}".rstrip()
        case _:
            return str(word)


def _event(event: Any) -> str:
    what = event.status if isinstance(event, StatusEvent) else type(event).__name__
    return f"{event.task_id}/{event.seq} {what}"


def _claim(claim: Claim) -> str:
    return f"{claim.envelope.task_id} (token {claim.token})"
