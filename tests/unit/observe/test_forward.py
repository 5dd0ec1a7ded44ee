"""attach(): a task's logs in the caller's own logger."""

from __future__ import annotations

import logging

import loguru
import pytest

from rxtasks.lifecycle.events import LogEvent
from tests.unit.observe.support import NOW, Core


def test_attach_writes_to_a_standard_logger(core: Core, caplog: pytest.LogCaptureFixture) -> None:
    """E-08: held and coming lines, with level and ids; percent signs are text."""
    tracker = core.submit("t", "resize")
    core.log("first %s {} {x}")
    with caplog.at_level(5, logger="app"):
        handle = tracker.attach(logging.getLogger("app"))
        core.publish(LogEvent("t", 2, 1, "w", NOW, "SUCCESS", "second", "log", {"n": 1}))
        core.flush()
        handle.dispose()
        core.seqs["t"] = 2
        core.log("third")
        core.flush()
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.INFO, "first %s {} {x}"),
        (25, "second"),
    ]
    record = caplog.records[1]
    assert (record.task_id, record.worker_id, record.task, record.fields) == ("t", "w", "resize", {"n": 1})


def test_attach_writes_to_loguru(core: Core) -> None:
    """E-08: fields and ids are bound; braces are text; an unknown level is INFO."""
    lines: list[tuple[str, str, dict[str, object]]] = []
    logger = loguru.logger
    sink = logger.add(
        lambda message: lines.append(
            (message.record["level"].name, message.record["message"], message.record["extra"])
        ),
        level=0,
        diagnose=False,
    )
    try:
        core.submit("t", "resize").attach(logger)
        core.publish(LogEvent("t", 1, 1, "w", NOW, "WARNING", "{} {x} <red>", "log", {"n": 1}))
        core.publish(LogEvent("t", 2, 1, "w", NOW, "ODD", "odd"))
        core.flush()
    finally:
        logger.remove(sink)
    ids = {"task_id": "t", "worker_id": "w", "task": "resize"}
    assert lines == [("WARNING", "{} {x} <red>", {"n": 1, **ids}), ("INFO", "odd", ids)]


def test_attach_refuses_what_is_no_logger(core: Core) -> None:
    """E-08: at the call, not in the first event."""
    with pytest.raises(TypeError, match="not list"):
        core.submit().attach([])
