"""A canary: the value of a secret that a handler says aloud is nowhere that anybody looks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from rxtasks import Secret, TaskContext, TaskRequest, TaskService, task
from tests.acceptance.pools import Home, home, wait_for
from tests.chaos.support import LONG

CANARY = 'canary-5f1e9d "quoted" \\ value'

_JOBS = """
import logging, os, sys, warnings
from rxtasks import Secret, TaskContext, task

@task
def talks(secret: Secret, ctx: TaskContext) -> int:
    value = secret.reveal()
    print("printed", value, {"in a dict": value})
    sys.stderr.write(value + "\\n")
    logging.getLogger("x").warning("logged %s", value)
    warnings.warn(value)
    ctx.log.bind(token=value).info("loguru {}", value)
    ctx.progress(1, 2, message=value, token=value)
    return len(value)

@task
def fails(secret: Secret) -> None:
    try:
        raise KeyError(secret.reveal())
    except KeyError as error:
        raise ValueError(f"refused: {secret.reveal()}") from error

@task
def stays(secret: Secret, path: str) -> None:
    print(secret.reveal())
    with open(path) as file:
        file.read()
"""


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with home(tmp_path_factory.mktemp("secrets")) as made:
        (made.directory / "pooljobs.py").write_text(_JOBS)
        made.environ["CANARY_TOKEN"] = CANARY
        made.start("--count", "2")
        yield made


def _variants() -> list[str]:
    return [CANARY, repr(CANARY)[1:-1], CANARY.replace("\\", "\\\\").replace('"', '\\"'), "canary-5f1e9d"]


def _silent(where: str, said: str | bytes) -> None:
    text = said.decode(errors="replace") if isinstance(said, bytes) else said
    for variant in _variants():
        assert variant not in text, where


def test_a_secret_that_is_said_aloud_is_nowhere(pool: Home) -> None:
    """Security rule 3: store, its log, log files, command lines, every command, every answer of the control socket."""
    secret = Secret("env:CANARY_TOKEN")
    fifo = pool.directory / "fifo"
    os.mkfifo(fifo)
    with TaskService(0, store=pool.store, echo=None) as service:
        talks, fails, stays = [
            service.push(TaskRequest(f"pooljobs:{name}", args)).task_id
            for name, args in (("talks", (secret,)), ("fails", (secret,)), ("stays", (secret, str(fifo))))
        ]
        assert len(CANARY) == service.track(talks).result(LONG)
        with pytest.raises(Exception, match=r"refused: \*\*\*"):
            service.track(fails).result(LONG)
        wait_for(lambda: "***" in pool.run("task", "logs", stays).stdout, "its line")
    client = pool.client()
    for words in (
        *[("task", word, one) for one in (talks, fails, stays) for word in ("show", "logs", "events", "history")],
        ("task", "stack", stays),
        ("task", "list"),
        ("worker", "logs"),
        ("worker", "status"),
        ("explain",),
        ("explain", stays),
        ("config", "show"),
    ):
        for form in ((), ("--json",)):
            if words[1:2] == ("stack",) and form:
                continue
            done = pool.run(*words, *form)
            assert 0 == done.returncode, (words, done.stderr)
            _silent(" ".join(words), done.stdout + done.stderr)
    logs = pool.run("task", "logs", talks).stdout
    assert 5 <= logs.count("***"), logs
    for path in ("/v1/status", "/v1/tasks", f"/v1/tasks/{talks}", f"/v1/tasks/{fails}", "/v1/logs", "/v1/explain"):
        _silent(path, repr(client.get(path)))
    for one in (talks, fails):
        for event in client.stream(f"/v1/tasks/{one}/events"):
            _silent("the stream", event.data)
    _silent("metrics", repr(client.get("/metrics")))
    pid = client.get("/v1/status")["pid"]
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        _silent("a command line", " ".join(process.cmdline()))
    fifo.write_text("")
    wait_for(lambda: client.get(f"/v1/tasks/{stays}")["status"] == "succeeded", "its end")
    for file in pool.directory.rglob("*"):
        if file.is_file() and file.name != "pooljobs.py":
            _silent(str(file), file.read_bytes())


@task
def _says(secret: Secret, ctx: TaskContext) -> None:
    print(secret.reveal())
    ctx.progress(1, message=secret.reveal())
    raise ValueError(secret.reveal())


@pytest.mark.parametrize("isolation", ["inline", "thread", "process"])
def test_it_is_so_in_every_isolation(isolation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Security rule 3, E-05."""
    monkeypatch.setenv("CANARY_TOKEN", CANARY)
    events: list[Any] = []
    with TaskService(1, isolation=isolation, echo=None) as service:
        service.events.subscribe(events.append)
        tracker = service.submit(_says, Secret("env:CANARY_TOKEN"))
        with pytest.raises(Exception, match=r"\*\*\*") as raised:
            tracker.result(LONG)
        _silent("the exception", repr(raised.value) + repr(raised.value.__cause__) + str(raised.value))
        assert service.flush(LONG)
    said = " ".join(event.to_json().decode() for event in events)
    _silent("the events", said)
    assert {"log", "progress", "status"} == {event.kind for event in events} and said.count("***") >= 3
