"""What a handler says is the same in the caller's process and in one of its own (E-05)."""

from __future__ import annotations

import datetime
import decimal
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rxtasks.lifecycle.signals import Cancelled, Retry
from rxtasks.wire.message import END, LOG, OUTPUT, OUTPUTS, PROGRESS, Assignment
from rxtasks.wire.outcome import shown_value
from rxtasks.worker.context import TaskContext
from rxtasks.worker.executor import Executor
from rxtasks.worker.outbox import Outbox
from tests.unit.worker.harness import Process, singly, worker

Step = tuple[str, Any]


def play(steps: list[Step], ctx: TaskContext) -> Any:
    """Do what the steps say."""
    from loguru import logger

    for what, value in steps:
        if what == "print":
            print(value, end="" if value == "no end" else "\n")
        elif what == "stderr":
            sys.stderr.write(value + "\n")
        elif what == "logging":
            logging.getLogger("parity").info(value)
        elif what == "loguru":
            logger.debug(value)
        elif what == "log":
            ctx.log.warning("{} {extra}", 1, extra=value)
        elif what == "warn":
            warnings.warn(value, stacklevel=1)
        elif what == "emit":
            ctx.emit(value)
        elif what == "progress":
            ctx.progress(value, 10, str(value), half=value)
        elif what == "raise":
            raise (
                ValueError("wrong"),
                KeyError("k"),
                Own("E1", {"a": [1]}),
                Own(5, {1, 2}),
                OSError(2, "no such file", "name"),
                SystemExit(3),
                Retry(1.0),
                Cancelled("why"),
                ExceptionGroup("several", [ValueError(1), TypeError(2)]),
                UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"),
            )[value]
        elif what == "return":
            return value
    return None


def generate(steps: list[Step], ctx: TaskContext) -> Iterator[Any]:
    for step in steps:
        yield play([step], ctx)


class Own(Exception):
    def __init__(self, code: Any, details: Any = None) -> None:
        super().__init__(code)
        self.code = code
        self.details = details


text = st.text(st.characters(exclude_characters="\n\r"), max_size=20) | st.sampled_from(
    ["no end", "{}", "\udcff", "x" * 70_000]
)
exact = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
values = exact | st.sampled_from(
    [
        (1, 2),
        {3},
        b"bytes",
        decimal.Decimal("1.5"),
        datetime.date(2020, 1, 2),
        2**80,
        "y" * 70_000,
        {1: 2},
        float("inf"),
    ]
)
errors = st.integers(0, 9)
steps = st.lists(
    st.tuples(st.sampled_from(["print", "stderr", "logging", "loguru", "log", "warn"]), text)
    | st.tuples(st.just("emit"), values)
    | st.tuples(st.just("progress"), st.integers() | st.floats())
    | st.tuples(st.just("raise"), errors)
    | st.tuples(st.just("return"), values),
    max_size=8,
)


def shown(rows: list[list[Any]]) -> list[Any]:
    """What subscribers would see of rows, without times, sizes of pickles and overwritten progress."""
    found: list[Any] = []
    for index, row in enumerate(rows):
        body: list[Any] = row[4:]
        if row[0] == PROGRESS:
            later = [other[0] for other in rows[index + 1 :]]
            if PROGRESS in later:
                continue
        if row[0] == LOG:
            body = row[4:8]
        if row[0] == OUTPUTS:
            row = [OUTPUT, *row[1:4], ["j", row[4]], row[5]]
        if row[0] == OUTPUT:
            body = [_value(row[4])]
        if row[0] == END:
            status, value, error, delay, _ = body
            told = None if error is None else {key: error[key] for key in error if key not in ("object", "pickle")}
            body = [status, None if value is None else _value(value), told, delay]
        found.append([row[0], *body])
    return found


def _value(value: list[Any]) -> Any:
    seen = shown_value(value)
    return [seen.type, seen.preview] if hasattr(seen, "preview") else ["json", seen, type(seen)]


@pytest.fixture(scope="module")
def process() -> Iterator[Process]:
    with worker() as made:
        yield made


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps, yields=st.booleans(), retry=st.booleans())
def test_rows_are_the_same_in_every_isolation(process: Process, steps: list[Step], yields: bool, retry: bool) -> None:
    """E-05, R7: statuses, logs, outputs, results and errors are the same; of progress the last value."""
    function = generate if yields else play
    options = {"retry": {"max_attempts": 2, "jitter": "none"}} if retry else None
    far = process.run(function, steps, options=options)

    rows: list[list[Any]] = []
    outbox = Outbox(lambda found, blobs, conflated: rows.extend(singly(found)), in_process=True)
    executor = Executor(outbox, {"f": function}, worker_id="w", in_process=True)
    task = Assignment(1, 1, "T", 1, 1, "f", process.window, options, form="o", payload=((steps,), {}))
    with warnings.catch_warnings():
        warnings.resetwarnings()
        thread = threading.Thread(target=executor.run, args=(task,))
        thread.start()
        credit = process.window
        while thread.is_alive():
            thread.join(0.01)
            credit += process.window
            executor.grant(1, credit)
    executor.close()
    assert shown(far.rows) == shown(rows)
