"""The control API of a pool that runs: what an operator's commands ask of it."""

from __future__ import annotations

import gc
import http.client
import json
import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rxtasks import SettingsError, TaskRequest
from rxtasks.control.client import ControlClient, ControlError, ServerSentEvent, quoted
from rxtasks.control.directory import reachable
from rxtasks.control.mailbox import Mailbox
from rxtasks.control.place import Place
from rxtasks.control.server import ControlServer
from rxtasks.logs import LogMerger
from tests.acceptance.controlled import LONG, Pool, ask, pool, threads_of_control

SECRET = "kanarienvogel"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    with pool(tmp_path_factory.mktemp("run"), listen="127.0.0.1:0", token="right-token\n") as made:
        yield made


@pytest.fixture(scope="module")
def client(shared: Pool) -> ControlClient:
    return shared.client


def refused(call: Any, *args: Any, **more: Any) -> ControlError:
    with pytest.raises(ControlError) as caught:
        call(*args, **more)
    return caught.value


def events_of(stream: Iterator[ServerSentEvent]) -> list[ServerSentEvent]:
    return list(stream)


# -- the pool ----------------------------------------------------------------------------------------------------------


def test_the_socket_is_the_users_alone(shared: Pool) -> None:
    """Rule 4."""
    found = os.stat(shared.held.socket)
    assert stat.S_ISSOCK(found.st_mode)
    assert 0o600 == stat.S_IMODE(found.st_mode)


def test_status_shows_the_process_the_pool_and_its_workers(shared: Pool, client: ControlClient) -> None:
    """C-04, C-09."""
    found = client.get("/v1/status")
    assert (os.getpid(), "thread", "memory", True, False) == tuple(
        found[name] for name in ("pid", "mode", "store", "processing", "stopping")
    )
    assert 2 == found["pool"]["workers"] == len(found["workers"])
    assert found["workers"] == client.get("/v1/workers")["workers"]
    first = found["workers"][0]
    assert first == client.get(f"/v1/workers/{first['worker_id']}")


def test_health_says_whether_all_is_well(client: ControlClient) -> None:
    """C-07, C-09."""
    assert client.get("/health")["ok"] is True


def test_metrics_are_the_hosts_or_a_hint(shared: Pool, client: ControlClient) -> None:
    error = refused(client.get, "/metrics")
    assert (404, "NO_METRICS") == (error.status, error.code)
    assert "pip install" in error.hint
    shared.host.metrics = b"workers_active 2\n"
    try:
        assert "workers_active 2\n" == client.get("/metrics")
    finally:
        shared.host.metrics = None


def test_the_pool_is_scaled_paused_and_resumed(tmp_path: Path) -> None:
    with pool(tmp_path) as made:
        assert {"count": 3} == made.client.post("/v1/scale", {"count": 3})
        assert 3 == len(made.client.get("/v1/workers")["workers"])
        assert made.client.post("/v1/processing/pause")["pool"]["paused"] is not None
        assert made.client.post("/v1/processing/resume")["pool"]["paused"] is None


def test_processing_is_stopped_and_started_while_the_server_answers(tmp_path: Path) -> None:
    """C-09: start processing, stop processing."""
    with pool(tmp_path) as made:
        assert made.client.post("/v1/processing/stop", {"force": True})["pool"]["running"] is False
        assert made.client.get("/v1/status")["processing"] is False
        assert 503 == refused(made.client.get, "/health").status
        error = refused(made.client.post, "/v1/tasks", {"task": "control.add", "args": [1]})
        assert (503, "SERVICE_STOPPED", 5.0) == (error.status, error.code, error.retry_after)
        assert "processing/start" in error.hint
        assert made.client.post("/v1/processing/start")["pool"]["running"] is True
        assert made.client.get("/health")["ok"] is True
        pushed = made.client.post("/v1/tasks", {"task": "control.add", "args": [1, 2]})
        assert 3 == made.wait_for(pushed["task_id"])["result"]


def test_shutdown_is_asked_of_the_host(shared: Pool, client: ControlClient) -> None:
    assert {"stopping": True} == client.post("/v1/shutdown", {"force": True, "timeout": 2.5})
    assert (True, 2.5) == shared.host.asked[-1]
    client.post("/v1/shutdown")
    assert (False, None) == shared.host.asked[-1]
    shared.host.stopping = False


def test_a_worker_is_restarted_and_killed_by_its_id(tmp_path: Path) -> None:
    with pool(tmp_path, isolation="process") as made:
        first, second = (worker["worker_id"] for worker in made.client.get("/v1/workers")["workers"])
        replaced = made.client.post(f"/v1/workers/{first}/restart")["replaced_by"]
        assert replaced not in (None, first)
        assert {"killed": True} == made.client.post(f"/v1/workers/{second}/kill")
        assert made.client.post(f"/v1/workers/{second}/kill")["killed"] in (True, False)
        for what in ("restart", "kill"):
            error = refused(made.client.post, f"/v1/workers/nobody/{what}")
            assert (404, "UNKNOWN_WORKER") == (error.status, error.code)
        assert 404 == refused(made.client.get, "/v1/workers/nobody").status


def test_a_thread_that_runs_a_task_cannot_be_killed(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with pool(tmp_path, workers=1) as made:
        pushed = made.client.post("/v1/tasks", {"task": "control.wait", "args": [str(gate)]})
        for event in made.client.stream(f"/v1/tasks/{pushed['task_id']}/events"):
            if event.event == "output":
                break
        worker = made.client.get("/v1/workers")["workers"][0]
        assert [pushed["task_id"]] == [one["task_id"] for one in worker["running"]]
        error = refused(made.client.post, f"/v1/workers/{worker['worker_id']}/kill")
        assert (409, "WRONG_STATE") == (error.status, error.code)
        assert 409 == refused(made.client.delete, f"/v1/tasks/{pushed['task_id']}").status
        assert "open(path" in made.client.get(f"/v1/tasks/{pushed['task_id']}/stack")["stack"]
        assert made.client.get(f"/v1/tasks/{pushed['task_id']}/explain")["explain"]
        gate.write_text("done")
        assert "done" == made.wait_for(pushed["task_id"])["result"]


# -- tasks -------------------------------------------------------------------------------------------------------------


def test_a_task_is_pushed_by_name_and_seen_to_its_end(shared: Pool, client: ControlClient) -> None:
    """C-09: queue task, get task, events."""
    pushed = client.post(
        "/v1/tasks",
        {
            "task": "control.echo",
            "args": [1, "ü", None],
            "kwargs": {"deep": {"x": [2**50]}},
            "options": {"tags": ["t"]},
        },
    )
    found = shared.wait_for(pushed["task_id"])
    assert [[1, "ü", None], {"deep": {"x": [2**50]}}] == found["result"]
    assert ("succeeded", ["t"], "control.echo") == (found["status"], found["tags"], found["name"])
    listed = client.get("/v1/tasks", tag="t")["tasks"]
    assert [pushed["task_id"]] == [record["task_id"] for record in listed]
    assert "result" not in listed[0]
    steps = client.get(f"/v1/tasks/{pushed['task_id']}/history")["history"]
    assert ["created", "pending", "running", "succeeded"] == [step["target"] for step in steps]
    assert {"deleted": pushed["task_id"]} == client.delete(f"/v1/tasks/{pushed['task_id']}")
    assert 404 == refused(client.get, f"/v1/tasks/{pushed['task_id']}").status


def test_a_number_of_any_size_arrives_as_it_is(shared: Pool, client: ControlClient) -> None:
    """JSON's numbers have no bound: none is made a float on the way."""
    for number in (2**53 + 1, 2**64 + 1, -(2**70) + 1, 0.1, 1e300):
        pushed = client.post("/v1/tasks", {"task": "control.is", "args": [number, repr(number)]})
        assert shared.wait_for(pushed["task_id"])["result"] is True


def test_a_name_that_nothing_is_registered_under_is_refused_and_nothing_is_imported(client: ControlClient) -> None:
    """Rule 1."""
    import sys

    for name in ("this:that", "antigravity:geohash", "os:system", "rxtasks.cli.main:main"):
        error = refused(client.post, "/v1/tasks", {"task": name})
        assert (422, "UNKNOWN_HANDLER") == (error.status, error.code)
    assert "antigravity" not in sys.modules


def test_a_task_that_failed_is_retried(tmp_path: Path) -> None:
    """C-09, E-02: as a task of its own; who wanted it is in the history."""
    with pool(tmp_path, store=f"sqlite:///{tmp_path}/tasks.db") as made:
        pushed = made.client.post("/v1/tasks", {"task": "control.fail", "args": [SECRET]})
        assert "failed" == made.wait_for(pushed["task_id"])["status"]
        again = made.client.post(f"/v1/tasks/{pushed['task_id']}/retry", {"reason": "repaired"})
        assert pushed["task_id"] == again["retry_of"]
        assert "failed" == made.wait_for(again["task_id"])["status"]
        steps = made.client.get(f"/v1/tasks/{pushed['task_id']}/history")["history"]
        assert ("operator", True) == (steps[-1]["actor"], "repaired" in steps[-1]["reason"])


def test_an_id_that_is_known_answers_with_the_task_that_has_it(client: ControlClient) -> None:
    body = {"task": "control.add", "args": [1], "task_id": "my-own.id"}
    first = client.post("/v1/tasks", body)
    assert "my-own.id" == first["task_id"] == client.post("/v1/tasks", body)["task_id"]


def test_options_go_with_the_task(client: ControlClient) -> None:
    options = {
        "priority": 7.0,
        "run_at": "2099-01-01T00:00:00Z",
        "retry": {"max_attempts": 3, "retry_on": ["builtins:OSError"]},
        "limits": {"memory_bytes": 10**9},
        "queue": "mail",
        "grace": 0,
        "depends_on": [],
    }
    pushed = client.post("/v1/tasks", {"task": "control.add", "args": [1], "options": options})
    assert ("scheduled", 7, "mail") == (pushed["status"], pushed["priority"], pushed["queue"])
    cancelled = client.post(f"/v1/tasks/{pushed['task_id']}/cancel", {"reason": "not needed"})
    assert "cancelled" == cancelled["status"]
    steps = client.get(f"/v1/tasks/{pushed['task_id']}/history")["history"]
    assert "not needed" in str(steps[-1]["reason"])
    error = refused(client.post, f"/v1/tasks/{pushed['task_id']}/cancel")
    assert (409, "WRONG_STATE") == (error.status, error.code)
    assert 409 == refused(client.get, f"/v1/tasks/{pushed['task_id']}/stack").status


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"prioritty": 1}, "has no 'prioritty'; it has name, priority"),
        ({"priority": "high"}, "options.priority is a whole number, not 'high'"),
        ({"priority": True}, "options.priority is a whole number, not true"),
        ({"timeout": 0}, "options.timeout is above 0, not 0"),
        ({"timeout": -1}, "options.timeout is above 0, not -1"),
        ({"run_at": "tomorrow"}, "options.run_at is a time with its zone"),
        ({"run_at": "2030-01-01T00:00:00"}, "options.run_at is a time with its zone"),
        ({"retry": {"backoff": "none"}}, "options.retry.backoff is one of exponential, fixed, not 'none'"),
        ({"retry": {"retry_on": ["OSError"]}}, "retry_on takes exception classes, or their names"),
        ({"tags": "a"}, "options.tags is a list, not 'a'"),
        ({"tags": [1]}, r"options.tags\[0\] is text, not 1"),
        ({"isolation": "docker"}, "options.isolation is one of inline, thread, process, not 'docker'"),
        ({"isolation": "process"}, "no worker takes isolation='process'"),
        ({"cron": "never"}, "never"),
        ({"cron": "* * * * *", "tz": "Mars/Olympus"}, "Mars"),
        ({"rate": "many"}, 'options.rate is a number of tasks a unit of time, as "100/s"'),
        ({"delay": 1, "run_at": "2030-01-01T00:00:00Z"}, "delay or run_at"),
    ],
)
def test_an_option_that_is_wrong_is_named(client: ControlClient, options: dict[str, Any], said: str) -> None:
    error = refused(client.post, "/v1/tasks", {"task": "control.add", "args": [1], "options": options})
    assert 422 == error.status
    assert pytest.raises(AssertionError, match=said).matches(AssertionError(error.message)), error.message


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "the body lacks task"),
        ({"task": 1}, "task is text, not 1"),
        ({"task": ""}, "task has 1 to 1000 characters"),
        ({"task": "control.add", "args": SECRET}, "args is a list, not text"),
        ({"task": "control.add", "kwargs": [SECRET]}, "kwargs is an object, not a list"),
        ({"task": "control.add", "args": [SECRET], "kwargs": 1}, "kwargs is an object, not a whole number"),
        ({"task": "control.add", "module": "os"}, "has no 'module'"),
        ({"task": "control.add", "task_id": "../../x"}, "task_id begins with a letter or digit"),
        ({"task": "control.add", "task_id": "x\n"}, "task_id begins with a letter or digit"),
        ({"task": "control.add", "task_id": ""}, "task_id has 1 to 200 characters"),
    ],
)
def test_a_body_that_is_wrong_is_named(client: ControlClient, body: dict[str, Any], said: str) -> None:
    error = refused(client.post, "/v1/tasks", body)
    assert 422 == error.status
    assert said in error.message
    assert SECRET not in str(error)  # rule 3


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"status": "lost"}, "status is one of created, pending"),
        ({"limit": "many"}, "limit is a whole number"),
        ({"limit": 0}, "limit is 1 or more"),
        ({"limit": 10**6}, "limit is 1000 or less"),
        ({"stauts": "failed"}, "no parameter 'stauts' here; /v1/tasks takes status, name"),
        ({"older_than": "nan"}, "older_than is a number"),
        ({"older_than": "-1"}, "older_than is 0 or more"),
        ({"older_than": "1e999"}, "older_than is 1000000000.0 or less"),
    ],
)
def test_a_parameter_that_is_wrong_is_named(client: ControlClient, query: dict[str, Any], said: str) -> None:
    error = refused(client.get, "/v1/tasks", **query)
    assert 422 == error.status
    assert said in error.message


def test_tasks_are_listed_a_page_at_a_time(tmp_path: Path) -> None:
    with pool(tmp_path) as made:
        pushed = [made.client.post("/v1/tasks", {"task": "control.add", "args": [n]})["task_id"] for n in range(7)]
        found, after, pages = list[str](), None, 0
        while True:
            page = made.client.get("/v1/tasks", limit=3, after=after)
            found += [record["task_id"] for record in page["tasks"]]
            pages += 1
            after = page["next"]
            if after is None:
                break
        assert pushed == found
        assert 3 == pages
        assert 404 == refused(made.client.get, "/v1/tasks", after="nobody").status


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_a_task_with_any_id_can_be_reached(tmp_path: Path, store: str) -> None:
    """Ids that were chosen in Python: they need not be fit for a path."""
    with pool(tmp_path, store="memory" if store == "memory" else f"sqlite:///{tmp_path}/tasks.db") as made:
        for task_id in ("order/42", "../..", "a b", "ü%2Fß", "?x=1#y", ".", "%", "a/cancel", "日本"):
            made.service.push(TaskRequest("control.add", (1,), task_id=task_id)).result(LONG)
            path = f"/v1/tasks/{quoted(task_id)}"
            assert task_id == made.client.get(path)["task_id"]
            assert made.client.get(f"{path}/history")["history"]
            assert 409 == refused(made.client.post, f"{path}/cancel").status
            assert "succeeded" == [event for event in made.client.stream(f"{path}/events")][-1].data["status"]
            assert {"deleted": task_id} == made.client.delete(path)
        assert 404 == refused(made.client.get, "/v1/tasks/%00").status


def test_a_full_queue_says_when_to_come_again(tmp_path: Path) -> None:
    with pool(tmp_path, max_queue=2) as made:
        made.client.post("/v1/processing/pause")
        for number in range(2):
            made.client.post("/v1/tasks", {"task": "control.add", "args": [number]})
        error = refused(made.client.post, "/v1/tasks", {"task": "control.add", "args": [3]})
        assert (429, "QUEUE_FULL", 1.0) == (error.status, error.code, error.retry_after)


def test_what_is_not_there_is_404(client: ControlClient) -> None:
    for path in ("/v1/tasks/nobody", "/v1/tasks/nobody/history", "/v1/tasks/nobody/stack", "/v1/tasks/nobody/explain"):
        error = refused(client.get, path)
        assert (404, "UNKNOWN_TASK") == (error.status, error.code)
    for what in ("cancel", "retry"):
        assert refused(client.post, f"/v1/tasks/nobody/{what}").status in (404, 409)
    assert 404 == refused(client.delete, "/v1/tasks/nobody").status
    with pytest.raises(ControlError, match="no task 'nobody'"):
        next(client.stream("/v1/tasks/nobody/events"))
    assert 404 == refused(client.get, "/v1/tasks/%2e%2e%2f%2e%2e").status
    assert "NO_PATH" == refused(client.get, "/v2").code
    assert "NO_PATH" == refused(client.get, "/v1/tasks/").code


def test_no_argument_of_a_task_is_ever_told(shared: Pool, client: ControlClient) -> None:
    """Rule 3."""
    pushed = client.post("/v1/tasks", {"task": "control.fail", "args": [SECRET]})
    task_id = pushed["task_id"]
    stream = [repr(event) for event in client.stream(f"/v1/tasks/{task_id}/events")]
    told = [pushed, stream, client.get(f"/v1/tasks/{task_id}"), client.get(f"/v1/tasks/{task_id}/history")]
    told += [client.get(path) for path in ("/v1/tasks", "/v1/status", "/v1/explain", "/health")]
    assert "failed" == shared.wait_for(task_id)["status"]
    assert SECRET not in json.dumps(told)


# -- streams -----------------------------------------------------------------------------------------------------------


def test_a_tasks_stream_has_all_of_its_events_and_ends(client: ControlClient) -> None:
    """C-09: events as server-sent events, id = seq."""
    pushed = client.post("/v1/tasks", {"task": "control.count", "args": [50]})
    found = events_of(client.stream(f"/v1/tasks/{pushed['task_id']}/events"))
    seqs = [int(event.id or 0) for event in found]
    assert seqs == sorted(set(seqs))
    assert [event.data["seq"] for event in found] == seqs
    assert [f"line {number}" for number in range(50)] == [e.data["message"] for e in found if e.event == "log"]
    assert ("status", "succeeded", 50) == (found[-1].event, found[-1].data["status"], found[-1].data["result"])


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_a_stream_goes_on_from_any_event_without_gap_or_duplicate(tmp_path: Path, store: str) -> None:
    """C-09: resume by Last-Event-ID."""
    store = "memory" if store == "memory" else f"sqlite:///{tmp_path}/tasks.db"
    with pool(tmp_path, store=store) as made:
        pushed = made.client.post("/v1/tasks", {"task": "control.count", "args": [20]})
        path = f"/v1/tasks/{pushed['task_id']}/events"
        whole = [(event.id, event.event, event.data) for event in made.client.stream(path)]
        for at in range(1, len(whole)):
            rest = [(e.id, e.event, e.data) for e in made.client.stream(path, last_event_id=whole[at - 1][0])]
            expected = [one for one in whole[at:] if store != "memory" or one[1] != "progress"]
            assert expected == [one for one in rest if store != "memory" or one[1] != "progress"]
        seq = int(whole[5][0] or 0)
        assert whole[5][0] == next(made.client.stream(path, from_seq=seq)).id
        # What a browser asks when it had everything: it is told not to come again.
        assert [] == events_of(made.client.stream(path, last_event_id=whole[-1][0]))
        assert [] == events_of(made.client.stream(path, from_seq=10**6))


def test_a_stream_that_was_cut_in_the_middle_goes_on_while_the_task_runs(tmp_path: Path) -> None:
    with pool(tmp_path) as made:
        pushed = made.client.post("/v1/tasks", {"task": "control.count", "args": [900]})
        path, last, lines = f"/v1/tasks/{pushed['task_id']}/events", None, list[str]()
        over = False
        while not over:
            stream = made.client.stream(path, last_event_id=last)
            for number, event in enumerate(stream):
                assert last is None or int(event.id or 0) > int(last)
                last = event.id
                if event.event == "log":
                    lines.append(event.data["message"])
                over = event.data.get("status") == "succeeded"
                if number == 50:
                    break
            stream.close()
        assert [f"line {number}" for number in range(900)] == lines


def test_a_stream_of_a_task_that_nobody_else_follows_goes_on_after_its_end(tmp_path: Path) -> None:
    """In memory its events are held by who follows it: the server does, for a client whose connection broke."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with pool(tmp_path) as made:
        task_id = made.service.push(TaskRequest("control.wait", (str(gate),))).task_id
        stream = made.client.stream(f"/v1/tasks/{task_id}/events")
        last = next(stream).id
        stream.close()
        gate.write_text("done")
        for _ in range(3):  # the delivery holds the last call that it has made, and a tracker with it
            made.wait_for(made.client.post("/v1/tasks", {"task": "control.add", "args": [1]})["task_id"])
        while made.client.get(f"/v1/tasks/{task_id}")["status"] == "running":
            threading.Event().wait(0.01)
        gc.collect()
        rest = events_of(made.client.stream(f"/v1/tasks/{task_id}/events", last_event_id=last))
        assert [("output", "waits"), ("status", "done")] == [
            (event.event, event.data.get("value", event.data.get("result"))) for event in rest
        ]


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_what_a_stream_was_too_slow_for_is_read_again(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C-09: what waits for a client is bounded, and nothing that is still held is missed."""
    monkeypatch.setattr("rxtasks.control.mailbox._MOST", 5000)
    opened = []
    follow = Mailbox.follow
    monkeypatch.setattr(Mailbox, "follow", lambda box, stream: (opened.append(box), follow(box, stream))[1])
    with pool(tmp_path, store="memory" if store == "memory" else f"sqlite:///{tmp_path}/tasks.db") as made:
        pushed = made.client.post("/v1/tasks", {"task": "control.count", "args": [800]})
        path = f"/v1/tasks/{pushed['task_id']}/events"
        made.service.track(pushed["task_id"]).result(LONG)
        found = events_of(made.client.stream(path))
        assert [f"line {number}" for number in range(800)] == [e.data["message"] for e in found if e.event == "log"]
        assert "succeeded" == found[-1].data["status"]
        assert len(opened) > 10
        if store != "memory":
            assert [str(seq) for seq in range(1, len(found) + 1)] == [event.id for event in found]


def test_a_durable_tasks_stream_goes_on_after_the_pool_was_restarted(tmp_path: Path) -> None:
    """C-09: resume, also by another process's pool."""
    store = f"sqlite:///{tmp_path}/tasks.db"
    with pool(tmp_path, store=store) as made:
        pushed = made.client.post("/v1/tasks", {"task": "control.count", "args": [700]})
        path = f"/v1/tasks/{pushed['task_id']}/events"
        whole = [(event.id, event.event, event.data) for event in made.client.stream(path)]
    with pool(tmp_path, store=store) as made:
        for at in (1, 2, 300, len(whole) - 1):
            rest = [(e.id, e.event, e.data) for e in made.client.stream(path, last_event_id=whole[at - 1][0])]
            assert whole[at:] == rest


def test_events_that_are_no_longer_held_are_410(tmp_path: Path) -> None:
    with pool(tmp_path) as made:
        pushed = made.client.post("/v1/tasks", {"task": "control.count", "args": [1500]})
        path = f"/v1/tasks/{pushed['task_id']}/events"
        assert "succeeded" == made.wait_for(pushed["task_id"])["status"]
        with pytest.raises(ControlError) as caught:
            made.client.stream(path, from_seq=2)
        assert (410, "LOG_TRUNCATED") == (caught.value.status, caught.value.code)
        first = int(caught.value.hint.rpartition("=")[2])
        rest = events_of(made.client.stream(path, from_seq=first))
        assert first <= int(rest[0].id or 0) <= first + 1  # of its progress only the latest is held


def test_of_a_task_that_was_forgotten_its_end_is_told_and_that_the_rest_is_not(tmp_path: Path) -> None:
    """What cannot be given is said, not passed over."""
    with pool(tmp_path) as made:
        pushed = made.client.post("/v1/tasks", {"task": "control.count", "args": [5]})
        path = f"/v1/tasks/{pushed['task_id']}/events"
        assert "succeeded" == made.wait_for(pushed["task_id"])["status"]
        for number in range(110):  # the server holds the last 100 for clients that come again
            other = made.client.post("/v1/tasks", {"task": "control.add", "args": [number]})
        made.wait_for(other["task_id"])  # the delivery holds the last call that it has made
        gc.collect()
        found = events_of(made.client.stream(path))
        assert ["truncated", "status"] == [event.event for event in found]
        assert "succeeded" == found[1].data["status"]
        with pytest.raises(ControlError) as caught:
            next(made.client.stream(path, last_event_id=1))
        assert (410, "LOG_TRUNCATED") == (caught.value.status, caught.value.code)


def test_a_wrong_last_event_id_is_named(shared: Pool, client: ControlClient) -> None:
    pushed = client.post("/v1/tasks", {"task": "control.add", "args": [1]})
    for wrong in ("x", "-1", "1.5", "9" * 30):
        with pytest.raises(ControlError, match="last-event-id"):
            next(client.stream(f"/v1/tasks/{pushed['task_id']}/events", last_event_id=wrong))


def test_the_stream_of_all_tasks_goes_on_where_it_was(shared: Pool, client: ControlClient) -> None:
    """C-09: GET /v1/events, with a cursor."""
    stream = client.stream("/v1/events", kind="status,output")
    seen: dict[str, list[str]] = {}
    last: str | None = None

    def push() -> str:
        made: str = client.post("/v1/tasks", {"task": "control.add", "args": [1]})["task_id"]
        return made

    waiter = threading.Thread(target=lambda: None)
    waiter.start()
    opened = threading.Event()
    ids: list[str] = []

    def feed() -> None:
        opened.wait(LONG)
        ids.append(push())

    feeder = threading.Thread(target=feed)
    feeder.start()
    # The first event of a hot stream comes when it is open: pushed until one is seen.
    opened.set()
    first = push_until(push, stream, ids)
    last = first.id
    stream.close()
    missed = [push() for _ in range(3)]
    for task_id in missed:
        shared.wait_for(task_id)
    again = client.stream("/v1/events", last_event_id=last, kind="status")
    for event in again:
        assert event.event == "status", event
        seen.setdefault(event.data["task_id"], []).append(event.data["status"])
        if all("succeeded" in seen.get(task_id, ()) for task_id in missed):
            break
    again.close()
    assert all(["running", "succeeded"] == seen[task_id] for task_id in missed)
    feeder.join(LONG)


def push_until(push: Any, stream: Iterator[ServerSentEvent], ids: list[str]) -> ServerSentEvent:
    """Push tasks until the stream shows an event."""
    found: list[ServerSentEvent] = []
    over = threading.Event()

    def read() -> None:
        found.append(next(stream))
        over.set()

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(1000):
        ids.append(push())
        if over.wait(0.05):
            break
    reader.join(LONG)
    assert found
    return found[0]


def test_a_cursor_of_another_stream_is_told_of_the_gap(client: ControlClient) -> None:
    """What cannot be given is said, not passed over."""
    for cursor in ("deadbeef-5", "1", "x", "-"):
        stream = client.stream("/v1/events", last_event_id=cursor)
        assert "gap" == next(stream).event
        stream.close()


def test_the_stream_of_all_tasks_outlives_a_stop_and_a_start(tmp_path: Path) -> None:
    with pool(tmp_path) as made:
        stream = made.client.stream("/v1/events")
        ids: list[str] = []
        push_until(lambda: made.client.post("/v1/tasks", {"task": "control.add", "args": [1]})["task_id"], stream, ids)
        made.client.post("/v1/processing/stop", {"force": True})
        made.client.post("/v1/processing/start")
        last = made.client.post("/v1/tasks", {"task": "control.add", "args": [1]})["task_id"]
        kinds = list[str]()
        for event in stream:
            kinds.append(event.event)
            if event.data.get("task_id") == last and event.data.get("status") == "succeeded":
                break
        stream.close()
        assert "stopped" in kinds


def test_a_stream_without_events_shows_that_it_lives(shared: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rxtasks.control.streaming.SILENCE", 0.01)
    pushed = shared.client.post("/v1/tasks", {"task": "control.add", "args": [1], "options": {"delay": 3600}})
    for path in ("/v1/events", f"/v1/tasks/{pushed['task_id']}/events"):
        with shared.connect() as sock:
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            found = b""
            while found.count(b": beat\n\n") < 2:
                part = sock.recv(65536)
                assert part
                found += part
    shared.client.post(f"/v1/tasks/{pushed['task_id']}/cancel")


def test_the_merged_logs_are_asked_for_and_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """C-06, C-09; the server follows before it answers."""
    with pool(tmp_path) as made:
        merger = LogMerger.of(made.service)
        made.host.query_logs = lambda wanted: merger.query(wanted, 10_000)  # type: ignore[method-assign]
        made.host.follow_logs = merger.follow  # type: ignore[method-assign,assignment]
        stream = made.client.stream("/v1/logs/follow", level="info", text="line")
        pushed = made.client.post("/v1/tasks", {"task": "control.count", "args": [20]})
        lines = [next(stream) for _ in range(20)]
        stream.close()
        assert ["line"] * 20 == [event.event for event in lines]
        assert [f"line {number}" for number in range(20)] == [event.data["message"] for event in lines]
        made.wait_for(pushed["task_id"])
        kept = made.client.get("/v1/logs", task=pushed["task_id"])["lines"]
        assert [event.data for event in lines] == kept
        monkeypatch.setattr("rxtasks.control.log_routes._MOST", 1000)
        cut = made.client.get("/v1/logs", task=pushed["task_id"])
        assert cut["cut"]
        assert 1 < len(cut["lines"]) < 10
        assert kept[-len(cut["lines"]) :] == cut["lines"]
        monkeypatch.undo()
        assert kept[-3:] == made.client.get("/v1/logs", limit=3, since="10m")["lines"]
        assert [] == made.client.get("/v1/logs", level="error")["lines"]
        for query, said in (
            ({"level": "loud"}, "level is one of"),
            ({"since": "soon"}, "since is a time"),
            ({"until": ""}, "until is empty"),
        ):
            assert said in refused(made.client.get, "/v1/logs", **query).message
            assert 422 == refused(made.client.stream, "/v1/logs/follow", **query).status
        merger.close()


# -- by TCP ------------------------------------------------------------------------------------------------------------


def tcp(shared: Pool, headers: dict[str, str], path: str = "/health") -> tuple[int, dict[str, Any], dict[str, str]]:
    host, _, port = str(shared.server.listens).rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=LONG)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read()), {name.lower(): value for name, value in answer.getheaders()}
    finally:
        connection.close()


RIGHT = {"Authorization": "Bearer right-token"}


def test_tcp_takes_whoever_has_the_token(shared: Pool) -> None:
    """Rule 4."""
    assert ControlClient(str(shared.server.listens), token="right-token").get("/health")["ok"] is True
    assert 200 == tcp(shared, RIGHT)[0]


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Bearer right-toke",
        "Bearer right-token2",
        "Basic cmlnaHQ=",
        "right-token",
    ],
)
@pytest.mark.parametrize("path", ["/health", "/v1/status", "/openapi.json", "/nothing", "/v1/events"])
def test_tcp_without_the_right_token_is_refused_everywhere(shared: Pool, header: str | None, path: str) -> None:
    """Rule 4."""
    status, body, headers = tcp(shared, {} if header is None else {"Authorization": header}, path)
    assert (401, "TOKEN") == (status, body["error"]["code"])
    assert "Bearer" == headers["www-authenticate"]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "localhost.evil"])
def test_tcp_by_a_name_of_somebody_else_is_refused(shared: Pool, host: str) -> None:
    """Rule 4: no page of another site can lead a browser here by its own name (DNS rebinding)."""
    status, body, _ = tcp(shared, {**RIGHT, "Host": host})
    assert (421, "HOST") == (status, body["error"]["code"])


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1", "[::1]", socket.gethostname()])
def test_tcp_by_an_address_or_the_machines_name_is_taken(shared: Pool, host: str) -> None:
    assert 200 == tcp(shared, {**RIGHT, "Host": host})[0]


def test_requests_of_other_origins_are_refused_and_nothing_invites_them(shared: Pool) -> None:
    """Rule 4: no CORS."""
    own = f"http://{shared.server.listens}"
    for origin in ("http://evil.example", "null", "https" + own[4:]):
        status, body, headers = tcp(shared, {**RIGHT, "Origin": origin})
        assert (403, "ORIGIN") == (status, body["error"]["code"])
        assert not [name for name in headers if name.startswith("access-control")]
    assert 200 == tcp(shared, {**RIGHT, "Origin": own})[0]


def test_tcp_without_a_token_is_not_offered(tmp_path: Path) -> None:
    """Rule 4: TCP always needs a token."""
    with pool(tmp_path) as made:
        for token in (None, "", " \n"):
            with pytest.raises(SettingsError, match="has no token"):
                ControlServer(made.service, made.held, host=made.host, listen="127.0.0.1:0", token=token)
        for listen in ("8080", "localhost", ":80", "host:port", "127.0.0.1:99999"):
            with pytest.raises(SettingsError, match="listen is an address and a port"):
                ControlServer(made.service, made.held, host=made.host, listen=listen, token="x")


def test_an_address_that_is_taken_is_told(tmp_path: Path, shared: Pool) -> None:
    with pool(tmp_path) as made:
        server = ControlServer(made.service, made.held, host=made.host, listen=shared.server.listens, token="x")
        with pytest.raises(SettingsError, match="cannot listen on"):
            server.start()


# -- its life ----------------------------------------------------------------------------------------------------------


def test_a_stop_cuts_off_open_streams_and_leaves_nothing(tmp_path: Path) -> None:
    before = set(threads_of_control())
    made = Pool(tmp_path)
    pushed = made.client.post("/v1/tasks", {"task": "control.add", "args": [1], "options": {"delay": 3600}})
    streams = [made.client.stream(f"/v1/tasks/{pushed['task_id']}/events"), made.client.stream("/v1/events")]
    raw = made.connect()
    raw.sendall(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
    assert raw.recv(10)
    ended: list[list[str]] = []
    opened = threading.Barrier(len(streams) + 1)

    def read(stream: Iterator[ServerSentEvent]) -> None:
        opened.wait(LONG)
        ended.append([event.event for event in stream])

    readers = [threading.Thread(target=read, args=(stream,)) for stream in streams]
    for reader in readers:
        reader.start()
    opened.wait(LONG)
    # Both are open when the server counts three streams.
    while len(made.server._desk.streams._open) < 3:
        threading.Event().wait(0.01)
    made.close()
    for reader in readers:
        reader.join(LONG)
    assert [["closed"], ["closed"]] == ended
    raw.close()
    for thread in threading.enumerate():
        if thread.name.startswith("rxtasks-control") and thread.name not in before:
            thread.join(LONG)
    assert set(threads_of_control()) <= before
    error = refused(made.client.get, "/health")
    assert (0, "NO_POOL") == (error.status, error.code)
    assert "rxtasks worker start" in error.hint


def test_a_socket_with_a_long_path_serves(tmp_path: Path) -> None:
    """108 bytes of sun_path."""
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    with pool(deep) as made:
        assert len(made.held.socket) > 200
        assert made.client.get("/health")["ok"] is True


def test_what_a_killed_pool_left_is_in_nobodys_way(tmp_path: Path) -> None:
    place = Place.of("memory", {"XDG_RUNTIME_DIR": str(tmp_path)})
    for name in (place.socket, place.socket + ".new"):
        with socket.socket(socket.AF_UNIX) as stale, reachable(name) as short:
            stale.bind(short)
    with pool(tmp_path) as made:
        assert made.client.get("/health")["ok"] is True


def test_the_description_is_served(client: ControlClient) -> None:
    found = client.get("/openapi.json")
    assert "3.1.0" == found["openapi"]
    assert {"get", "delete"} == set(found["paths"]["/v1/tasks/{id}"])


def test_other_methods_are_405_and_say_which_there_are(shared: Pool) -> None:
    for method, path, allowed in (
        (b"PUT", b"/v1/tasks/x", b"GET, DELETE"),
        (b"HEAD", b"/health", b"GET"),
        (b"OPTIONS", b"/v1/tasks", b"GET, POST"),
        (b"BREW", b"/openapi.json", b"GET"),
    ):
        with shared.connect() as sock:
            answer = ask(sock, method + b" " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 405"), answer
        assert b"allow: " + allowed in answer.lower().replace(allowed.lower(), allowed)
