"""Operators for streams of task events, for `pipe` and beside those of `reactivex.operators`.

::

    service.events.pipe(logs("INFO"), batch(100, 0.5)).subscribe(write_lines)

Filters (`of_task`, `statuses`, `logs`, `progress`, `outputs`, `terminal`) run where the events are emitted and hold
nothing. Strategies (`buffer_bounded`, `latest`, `batch`, `deliver_on`) put a bounded buffer between the stream and one
subscriber, who is called on a thread of its own or on a loop: slow work belongs behind one. Each subscription has its
own buffer. Both work on any observable of RxPY, under any number of emitting threads.
"""

from __future__ import annotations

from rxtasks.reactive.batch import batch
from rxtasks.reactive.buffer import buffer_bounded
from rxtasks.reactive.deliver import deliver_on
from rxtasks.reactive.filters import logs, of_task, outputs, progress, statuses, terminal
from rxtasks.reactive.latest import latest

__all__ = [
    "batch",
    "buffer_bounded",
    "deliver_on",
    "latest",
    "logs",
    "of_task",
    "outputs",
    "progress",
    "statuses",
    "terminal",
]
