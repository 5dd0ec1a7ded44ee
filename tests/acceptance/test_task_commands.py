"""C-03: `rxtasks task` as real processes, on a real store with real workers."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rxtasks import TaskEvent, TaskRequest, TaskService
from tests.acceptance.command_jobs import EVIL
from tests.acceptance.commands import LONG, Shell, lines_of

JOBS = "tests.acceptance.command_jobs"


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """Commands on a store on which a service with two worker processes runs."""
    made = Shell(tmp_path_factory.mktemp("pool"))
    with TaskService(2, store=made.store, modules=[JOBS], echo=None, on_exit="force", keep_temp=False) as service:
        service.start()
        made.service = service  # type: ignore[attr-defined]
        yield made


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """Commands on a store on which nothing runs."""
    return Shell(tmp_path_factory.mktemp("quiet"))


def test_a_task_is_pushed_run_and_shown(shell: Shell) -> None:
    """C-03: its result on stdout with --wait, its defaults from its module, its id to find it again; no argument anywhere."""
    said = shell("task", "push", f"{JOBS}:add", "4321001", "b=7654", "--wait", "--tag", "mine", "--priority", "3")
    assert "4328655\n" == said.out
    assert "store: " in said.err and "(environment RXTASKS_STORE)" in said.err
    (task_id,) = shell.ids("--tag", "mine")
    assert task_id in said.err
    shown = shell("task", "show", task_id[-8:], "--json")
    record = shown.json
    assert ("succeeded", 3, ["mine"], 4328655) == tuple(record[n] for n in ("status", "priority", "tags", "result"))
    assert {"timeout": 30, "priority": 3, "tags": ["mine"]} == record["options"]
    people = shell.here("task", "show", task_id[:25])
    for word in (task_id, f"{JOBS}:add", "succeeded", "4328655", "timeout"):
        assert word in people.out
    for text in (said.err, shown.out, shown.err, people.out):
        assert "4321001" not in text and "7654" not in text


def test_a_task_that_fails_is_followed_to_its_end_and_retried(shell: Shell) -> None:
    """C-03 E-02: exit code 1; history, events and logs say how; the retry says what it repeats."""
    pushed = shell("task", "push", "commands.fail", "it broke", "--module", JOBS, "--id", "failing")
    assert ("failing\n", "failing\n") == (
        pushed.out,
        shell.here("task", "push", "commands.fail", "x", "--id", "failing").out,
    )
    said = shell("task", "track", "failing", code=1)
    assert "ValueError: it broke" in said.out and "has failed" in said.err
    assert "it broke" in shell.here("task", "show", "failing").out
    steps = shell.here("task", "history", "failing", "--json").lines
    assert ["created", "pending", "running", "failed"] == [step["target"] for step in steps]
    assert all(step["time"].endswith("+00:00") for step in steps)
    new = shell("task", "retry", "failing", "--reason", "try again", "--json").json
    assert "failing" == new["retry_of"]
    assert "retry of failing: try again" in shell.here("task", "history", new["task_id"]).out
    again = shell.here("task", "retry", "failing").out
    assert "is a retry of failing" in again
    assert f"retried as:  {again.split()[0]}" in shell.here("task", "show", "failing").out
    shell.here("task", "track", again.split()[0], code=1)


def test_events_and_logs_are_shown_escaped_and_resumed(shell: Shell) -> None:
    """C-03, security rule 6: --from, --level, --since; control characters, direction marks and line ends are escaped."""
    task_id = shell("task", "push", f"{JOBS}:chat", "5").out.strip()
    followed = shell("task", "events", task_id, "--follow", "--json")
    events = [TaskEvent.from_json(line) for line in followed.out.splitlines()]
    assert list(range(1, len(events) + 1)) == [event.seq for event in events]
    assert ("succeeded", 5) == (
        events[-1].status,
        sum(event.kind == "log" and event.level == "INFO" for event in events) - 1,
    )
    later = shell.here("task", "events", task_id, "--from", "4", "--json")
    assert followed.out.splitlines()[3:] == later.out.splitlines()
    people = shell.here("task", "events", task_id).out
    assert len(events) == len(people.splitlines()) and "\x1b" not in people and "\u202e" not in people
    assert "red \\x1b[31m\\u202egnp.exe\\nsecond line" in people
    warned = shell("task", "logs", task_id, "--level", "warning", "--json").lines
    assert [EVIL] == [line["message"] for line in warned]
    assert 7 == len(shell.here("task", "logs", task_id, "--since", "1h").out.splitlines())
    assert "" == shell.here("task", "logs", task_id, "--until", "1h", "--follow").out
    assert "[stdout] printed" in shell.here("task", "logs", task_id).out


def test_a_running_task_is_followed_cancelled_and_left_alone_by_ctrl_c(shell: Shell, tmp_path: Path) -> None:
    """C-03 Q-06: lines come as they are said; Ctrl-C ends the following only; a cancel has its reason and its actor."""
    there = tmp_path / "there"
    task_id = shell("task", "push", f"{JOBS}:wait_for", str(there)).out.strip()
    process = shell.start("task", "track", task_id)
    try:
        assert any("waiting" in line for line in lines_of(process))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=LONG)
        assert 130 == process.returncode
        assert "the task goes on" in err and "Traceback" not in err
    finally:
        process.kill()
        process.wait()
    assert [task_id] == shell.ids("--status", "running", "--name", f"{JOBS}:wait_for")
    waiting = shell.start("task", "push", "nothing:known", "--depends-on", task_id[-10:], "--wait")
    try:
        said = shell("task", "cancel", task_id, "--reason", "enough of it")
        assert task_id in said.out
        assert "enough of it" in shell.here("task", "track", task_id, code=1).out
        assert "was cancelled before" in shell.here("task", "cancel", task_id).out
        assert ("operator", "cancel asked for: enough of it") in [
            (step["actor"], step["reason"]) for step in shell.here("task", "history", task_id, "--json").lines
        ]
        _, err = waiting.communicate(timeout=LONG)
        assert 1 == waiting.returncode and "was cancelled" in err
    finally:
        waiting.kill()
        waiting.wait()


def test_list_filters_pages_and_survives_a_reader_who_leaves(quiet: Shell) -> None:
    """C-03: every filter, both orders, --after, and 141 without a traceback when the reader is gone."""
    with TaskService(0, store=quiet.store, echo=None) as service:
        service.push_all([TaskRequest("many.of_them", task_id=f"many-{number:05}") for number in range(3000)])
        odd = TaskRequest(EVIL, task_id="odd one")
        service.with_options(tags=["a\x1bb"]).push(odd)
    assert ["many-00000", "many-00001"] == quiet.ids("--limit", "2")
    assert ["odd one", "many-02999"] == quiet.ids("--limit", "2", "--newest")
    assert ["many-02998", "many-02997"] == quiet.ids("--limit", "2", "--newest", "--after", "many-02999")
    more = quiet("task", "list", "--limit", "2", "--after", "02998")
    assert "many-02999" in more.out and "--after" not in more.err
    assert "\x1b" not in more.out and "\u202e" not in more.out and 3 == len(more.out.splitlines())
    assert "there are more: --after many-00000" in quiet.here("task", "list", "--limit", "1").err
    assert ["odd one"] == quiet.ids("--tag", "a\x1bb")
    assert [] == quiet.ids("--older-than", "1d") == quiet.ids("--status", "failed") == quiet.ids("--worker", "w")
    process = quiet.start("task", "list", "--json", "--limit", "5000")
    assert process.stdout is not None and process.stderr is not None
    try:
        assert "many-00000" in process.stdout.readline()
        process.stdout.close()
        assert 141 == process.wait(LONG)
        assert "Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.wait()


def test_many_are_cancelled_retried_and_purged_by_filters(quiet: Shell) -> None:
    """C-03: --dry-run does nothing; counts say what was done; ids and filters do not mix."""
    with TaskService(0, store=quiet.store, echo=None) as service:
        service.push_all([TaskRequest("bulk.them", task_id=f"bulk-{number:03}") for number in range(130)])
    assert "would be cancelled: 130 tasks" in quiet.here("task", "cancel", "--name", "bulk.them", "--dry-run").out
    said = quiet("task", "cancel", "--status", "pending", "--name", "bulk.them", "--limit", "30", "--yes", "--json")
    assert (30, 0, 0) == tuple(said.json[word] for word in ("done", "skipped", "refused"))
    assert "cancelled: 100 tasks" in quiet.here("task", "cancel", "--name", "bulk.them", "--reason", "x").out
    retried = quiet.here("task", "retry", "--status", "cancelled", "--name", "bulk.them", "--limit", "20")
    assert "retried: 20 tasks" in retried.out and "no pool runs on this store" in retried.err
    assert 20 == len(quiet.ids("--status", "pending", "--name", "bulk.them"))
    assert "forgotten: 130 tasks" in quiet("task", "purge", "--name", "bulk.them", "--yes").out
    assert "forgotten: 0 tasks" in quiet.here("task", "purge", "--older-than", "7d").out
    for words in (["cancel"], ["retry"], ["purge"], ["cancel", "bulk-001", "--name", "x"]):
        assert (
            "Give ids" in quiet.here("task", *words, code=2).err or "not both" in quiet.here("task", *words, code=2).err
        )


def test_short_ids_stand_for_one_task_or_for_none(quiet: Shell) -> None:
    """C-03: the end or the beginning of an id; several candidates are named; unknown ones are exit code 3."""
    one = quiet.here("task", "push", "some:thing", "--id", "01M82RAAAAAAAAAAAAAAAAAAX1", "--json").json["task_id"]
    quiet.here("task", "push", "some:thing", "--id", "01M82RAAAAAAAAAAAAAAAAAAX2")
    assert one == quiet.here("task", "show", "aaax1", "--json").json["task_id"]
    said = quiet.here("task", "show", "01M82RAA", code=2)
    assert one in said.err and "X2" in said.err and "several" in said.err
    assert "too short" in quiet.here("task", "show", "X1", code=2).err
    assert "there is no task" in quiet.here("task", "cancel", "nothing-like-it", code=3).err
    assert "deleted" not in quiet.here("task", "delete", one, code=1).out
    assert "cancel it first" in quiet.here("task", "delete", one, code=1).err
    quiet.here("task", "cancel", one, "aaax2")
    assert f"deleted {one}\n" == quiet("task", "delete", one).out
    assert [] == [each for each in quiet.ids() if each == one]


def test_arguments_come_from_words_files_and_standard_input(quiet: Shell) -> None:
    """C-03, rule 3: JSON where it is; what a mistake says has no value of an argument in it."""
    file = quiet.folder / "kwargs.json"
    file.write_text('{"width": [1, 2]}')
    task_id = quiet(
        "task", "push", "take:them", "1", '"2"', "three=3", "--kwargs", f"@{file}", "--args", "-", input='["x"]'
    )
    with TaskService(0, store=quiet.store, echo=None) as service:
        stored = service._store.request(task_id.out.strip())
        assert stored is not None
        assert [["x", 1, "2"], {"width": [1, 2], "three": 3}] == json.loads(stored.payload)
    for words, message in (
        (["--kwargs", '{"hush": 1'], "--kwargs is no valid JSON"),
        (["--kwargs", '["hush"]'], "takes a JSON object"),
        (["--args", '{"hush": 1}'], "takes a JSON list"),
        (["a=hush", "--kwargs", '{"a": "hush"}'], "given twice"),
        (["--args", "@/no/such"], "cannot be read"),
        (["--at", "soon"], "--at takes a time"),
        (["--delay", "soon"], "no span of time"),
        (["--timeout", "0"], "seconds above 0"),
        (["--cron", "every day"], "cron"),
    ):
        said = quiet.here("task", "push", "take:them", *words, code=2)
        assert message in said.err and "hush" not in said.err, said.err
    refused = quiet.here("task", "push", f"{JOBS}:add", "1", "hush", "c=hush", code=2)
    assert "cannot be called with these arguments" in refused.err and "hush" not in refused.err
    assert "put @task on it" in quiet.here("task", "push", f"{JOBS}:plain", "1", code=2).err
    assert "did you mean chat" in quiet.here("task", "push", f"{JOBS}:chatt", "1", code=2).err
    assert "pushed by name" in quiet.here("task", "push", "no.such.module:f", "1", "--id", "byname").err
    assert "there is a task byname already (pending)" in quiet.here("task", "push", "no:f", "--id", "byname").err
    assert "names the task" in quiet.here("task", "push", "no:f", "--id", "", code=2).err
    assert "TARGET is the name of a handler" in quiet.here("task", "push", ":", code=2).err
    assert "" == quiet.here("task", "events", "byname", "--from", str(10**30)).out


def test_what_needs_a_pool_says_that_there_is_none(quiet: Shell) -> None:
    """C-03: stack is told clearly, explain falls back to what the store knows."""
    task_id = quiet.here("task", "push", "wait:here", "--delay", "2h").out.strip()
    assert "no pool runs" in quiet("task", "stack", task_id, code=3).err
    said = quiet("explain", task_id)
    assert "is scheduled: it is not to run before" in said.out and "stuck: no pool runs on this store" in said.out
    assert any("scheduled" in line for line in quiet.here("explain", "--json").json["sentences"])


def test_a_store_that_is_not_there_or_cannot_be_used_is_told_in_a_sentence(tmp_path: Path) -> None:
    """C-03: no such store, another program's, a text, a directory, one in memory, a newer schema, no permission."""
    shell = Shell(tmp_path)
    assert "there is no store at" in shell.here("task", "list", code=3).err
    assert not (tmp_path / "tasks.db").exists()
    text = tmp_path / "text.db"
    text.write_text("this is no database" * 100)
    for store, code, message in (
        (f"sqlite:///{text}", 1, "text.db"),
        (f"sqlite:///{tmp_path}", 1, "is a directory"),
        ("memory", 2, "durable"),
        ("nonsense", 2, "store"),
    ):
        said = shell.here("task", "list", "--store", store, code=code)
        assert message in said.err, said.err
    shell.here("task", "push", "a:b")
    import apsw

    db = apsw.Connection(str(tmp_path / "tasks.db"))
    db.execute("pragma user_version = 999")
    db.close()
    for words in (["task", "list"], ["task", "push", "a:b"], ["store", "migrate"], ["store", "info"]):
        assert "upgrade rxtasks" in shell.here(*words, code=1).err


def test_colours_are_for_terminals_only(quiet: Shell) -> None:
    """C-03: none in a pipe, some on a terminal, none there with NO_COLOR; and the table fits the terminal."""
    quiet.here("task", "cancel", quiet.here("task", "push", "colour:ful", "--name", "n" * 200).out.strip())
    words = ["task", "list", "--status", "cancelled"]
    assert "\x1b" not in quiet(*words).out
    for more, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        out = _on_a_terminal(quiet, words, {"TERM": "xterm", "COLUMNS": "100", **more})
        assert coloured is ("\x1b[33m" in out), out
        assert all(len(line.replace("\x1b[33m", "").replace("\x1b[0m", "")) <= 100 for line in out.splitlines()), out


def _on_a_terminal(shell: Shell, words: list[str], environment: dict[str, str]) -> str:
    ours, theirs = pty.openpty()
    process = shell.start(*words, stdout=theirs, stderr=subprocess.DEVNULL, env={**shell.environment, **environment})
    os.close(theirs)
    out = b""
    until = time.monotonic() + LONG
    try:
        while time.monotonic() < until:
            if not select.select([ours], [], [], 1.0)[0]:
                continue
            try:
                data = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if not data:
                break
            out += data
        assert 0 == process.wait(LONG)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    return out.decode()


def test_every_command_has_help_with_an_example(quiet: Shell) -> None:
    """C-03: --help of each command, without a store; examples begin with the command itself."""
    from rxtasks.cli.store.commands import COMMANDS as STORE
    from rxtasks.cli.task.commands import COMMANDS as TASK

    for group, commands in (("task", TASK), ("store", STORE)):
        for name, lazy in commands.items():
            command = lazy.load()
            assert f"rxtasks {group} {name}" in (command.help or ""), name
            assert command.get_short_help_str(200)
    assert "push" in quiet.here("task", "--help").out
    assert "Did you mean list" in quiet.here("task", "lst", code=2).err
