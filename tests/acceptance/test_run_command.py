"""`rxtasks run` as a real process (C-02)."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from rxtasks import LogEvent, StatusEvent, TaskEvent

ROOT = Path(__file__).parents[2]

JOBS = '''
import os, time
from rxtasks import TaskContext, task

def double(x): return 2 * x
def text(x): return f"{type(x).__name__} {x}"
def fail_at_3(x):
    if x == 3: raise ValueError("three is bad")
    return x
def pair(x): return {x, x + 1}
def chatty(x):
    print("one\\x1b[2J", "[red]two")
    return x
def tell(x, ctx: TaskContext):
    ctx.log.warning("value {}", x)
    ctx.log.debug("not shown")
    return os.getpid()
def gate(path):
    """Block until somebody opens the FIFO for writing."""
    with open(path) as file: return file.read()
def hang(x):
    print("hanging")
    while True: time.sleep(60)
def hang_at(path):
    """Return what is no path; else open the FIFO and never return."""
    if not isinstance(path, str): return path
    with open(path, "w") as file:
        while True: time.sleep(60)
def busy(x):
    end = time.perf_counter() + 0.04
    while time.perf_counter() < end: pass
    return x
def steps(x, ctx: TaskContext):
    for _ in ctx.track(range(40), message="steps"): busy(0)

def write_raw(x):
    os.write(1, b"raw to 1\\n"); os.system("echo child to 1")
def needs_two(x, y): return x
def many_lines(x):
    for number in range(20_000): print(x, "line", number)
def log_twice(x):
    import logging, loguru
    logging.getLogger("a").error("by logging\x1b[2J"); loguru.logger.warning("by loguru\x1b[2J")

def total(results):
    print("collected", len(results))
    return sum(results)
def show(results): return results
def breaks(results): return results[0] / 0

def default_inputs(): return ["[1]", "*.txt"]
default_exclude = ("b.txt",)
default_collect = show
'''

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., list[str]]:
    (tmp_path / "jobs.py").write_text(JOBS)
    return lambda *words: [sys.executable, "-m", "rxtasks", "run", *map(str, words)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "TERM": "xterm"}


@pytest.fixture
def run(command: Callable[..., list[str]], tmp_path: Path) -> Run:
    def call(*words: object, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*words),
            cwd=tmp_path,
            env=environment(),
            input=stdin or "",
            capture_output=True,
            text=True,
            timeout=60,
        )

    return call


@pytest.fixture
def start(command: Callable[..., list[str]], tmp_path: Path) -> Any:
    started: list[subprocess.Popen[bytes]] = []

    def call(*words: object, **more: Any) -> subprocess.Popen[bytes]:
        pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(command(*words), cwd=tmp_path, env=environment(), **{**pipes, **more})
        started.append(process)
        return process

    yield call
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def line_with(stream: Any, words: str) -> str:
    """Read lines until one has `words`; fails at the end of the stream."""
    seen = []
    for raw in stream:
        line = raw.decode()
        seen.append(line)
        if words in line:
            return line
    raise AssertionError(f"no line with {words!r} in {''.join(seen)!r}")


# -- what it runs and prints ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("isolation", ["process", "thread", "inline"])
def test_each_input_is_a_task_and_collect_gets_the_results_in_order(run: Run, isolation: str) -> None:
    """C-02: the main job, in each isolation; exit 0 when all succeeded."""
    done = run("jobs:double", *range(1, 51), "--collect", "jobs:show", "--isolation", isolation, "--workers", 2)
    assert done.returncode == 0, done.stderr
    report, tasks, time, ledger = done.stdout.splitlines()
    assert json.loads(report) == [2 * number for number in range(1, 51)]
    assert tasks == "tasks   50 tasks: 50 ok, 0 failed"
    assert time.startswith("time    ") and "CPU" in time
    assert ledger.startswith("ledger  100 events = 100 delivered") and ledger.endswith(": exact")


def test_inputs_are_paths_patterns_json_and_lines(run: Run, tmp_path: Path) -> None:
    """C-02: INPUT is an existing path, a quoted glob, a JSON value, or - for one per line on stdin."""
    for name in ("d/x.txt", "d/e/y.txt", "d/e/z.log"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    words = ("d", "d/**/*.txt", '{"a": 1}', "-", "--exclude", "y.*", "--collect", "jobs:show")
    done = run("jobs:text", *words, stdin="2\nd/e/z.log\nword\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == str(
        ["str d", "str d/x.txt", "dict {'a': 1}", "int 2", "str d/e/z.log", "str word"]
    )


def test_what_collect_prints_and_returns_is_shown(run: Run) -> None:
    """C-02: --collect module:function is called in the parent after all."""
    done = run("jobs:double", 1, 2, "--collect", "jobs:total")
    assert done.stdout.splitlines()[:2] == ["collected 2", "6"]


def test_results_that_are_no_json_are_collected_too(run: Run) -> None:
    """C-02: a result by reference in the event is fetched."""
    done = run("jobs:pair", 1, 2, "--collect", "jobs:show")
    assert done.stdout.splitlines()[0] == "[{1, 2}, {2, 3}]"


def test_a_failed_task_is_told_and_the_others_go_on(run: Run) -> None:
    """C-02: exit 1 if a task failed; collect gets the results of the others."""
    done = run("jobs:fail_at_3", 1, 2, 3, 4, "--collect", "jobs:total")
    assert done.returncode == 1
    assert "collected 3" in done.stdout and "tasks   4 tasks: 3 ok, 1 failed" in done.stdout
    assert "fail_at_3(3) | failed: ValueError: three is bad" in done.stderr
    assert "fail_at_3(3) traceback |" not in done.stderr and 'raise ValueError("three is bad")' in done.stderr


def test_a_collect_that_fails_is_one_sentence(run: Run) -> None:
    """C-02: no traceback; the line in the user's own code is named."""
    done = run("jobs:double", 1, "--collect", "jobs:breaks")
    assert done.returncode == 1
    assert "collecting with breaks failed: ZeroDivisionError: division by zero (" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_input_the_module_says_what_to_do(run: Run, tmp_path: Path) -> None:
    """C-02: default_inputs, default_exclude and default_collect make the shortest command line."""
    for name in "abc":
        (tmp_path / f"{name}.txt").touch()
    done = run("jobs:text")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "['list [1]', 'str a.txt', 'str c.txt']")


def test_logs_are_merged_with_their_source_and_filtered_by_level(run: Run) -> None:
    """C-06: merged logs, source tag, levels."""
    done = run("jobs:tell", 1, 2)
    assert sorted(line.split(" | ")[1] for line in done.stderr.splitlines()) == ["value 1", "value 2"]
    assert " tell(1) | value 1" in done.stderr and "WARNING " in done.stderr
    assert run("jobs:tell", 1, "--log-level", "error").stderr == ""
    assert "not shown" in run("jobs:tell", 1, "--log-level", "debug").stderr


def test_what_a_task_prints_cannot_touch_the_terminal(run: Run) -> None:
    """C-06: control characters are escaped, markup is text."""
    done = run("jobs:chatty", 1)
    assert "stdout | one\\x1b[2J [red]two" in done.stderr
    assert "\x1b" not in done.stderr + done.stdout


def test_a_file_gets_every_line(shell: Run, tmp_path: Path) -> None:
    """C-06: lines are dropped for a terminal that is slow, not for `2>file`."""
    done = shell("2>lines", "jobs:many_lines", 1, 2, 3)
    assert done.returncode == 0 and "not shown" not in done.stdout
    got = Counter(line.split(" | ")[1].split()[0] for line in (tmp_path / "lines").read_text().splitlines())
    assert got == {"1": 20_000, "2": 20_000, "3": 20_000}


@pytest.mark.parametrize("isolation", ["process", "thread", "inline"])
def test_what_a_task_logs_is_shown_once_and_escaped(run: Run, isolation: str) -> None:
    """C-06, E-05: also where the task shares this process with loggers that have handlers of their own."""
    done = run("jobs:log_twice", 1, "--isolation", isolation)
    assert [line.split(" | ")[1] for line in done.stderr.splitlines()] == ["by logging\\x1b[2J", "by loguru\\x1b[2J"]


# -- a user's mistakes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("jobs:double", "missing.txt"), "there is no path 'missing.txt', and it is no JSON"),
        (("jobs:double", "*.nothing"), "no path matches the pattern"),
        (("jobs:nothing", "1"), "jobs has no function 'nothing'"),
        (("nomodule:f", "1"), "no module 'nomodule'"),
        (("jobs", "1"), "TARGET is module:function"),
        (("jobs:double", "1", "--collect", "jobs:nothing"), "jobs has no function 'nothing'"),
        (("jobs:double", "1", "--workers", "0"), "--workers"),
        (("jobs:double", "1", "--isolation", "docker"), "--isolation"),
        (("jobs:double", "1", "--isolation", "thread", "--chaos", "1"), "--chaos kills worker processes"),
        (("os:getpid",), "INPUT is missing"),
        (("jobs:double", "jobs.py", "--exclude", "*.py"), "--exclude leaves out every input"),
        (("jobs:double", ""), "an INPUT is empty"),
        (("jobs:double", "-1"), "A negative number goes behind --, as in: rxtasks run ... -- -1"),
        (("jobs:double", "1", "--workers", "99999999"), "--workers"),
        (("jobs:needs_two", "1"), "one argument, the INPUT: missing a required argument: 'y'"),
        (("jobs:double", "1", "--collect", "jobs:needs_two"), "one argument, the list of results: missing"),
        ((), "TARGET"),
    ],
)
def test_a_mistake_is_exit_2_and_a_sentence(run: Run, words: tuple[str, ...], says: str) -> None:
    """C-02: else exit 2 with one sentence; no traceback for a user's mistake."""
    done = run(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr and "Traceback" not in done.stderr
    sentences = [line for line in done.stderr.splitlines() if line.startswith(("rxtasks: ", "Error: "))]
    assert len(sentences) == 1


def test_a_file_may_have_the_name_of_a_module_of_the_standard_library(
    command: Callable[..., list[str]], tmp_path: Path
) -> None:
    """C-02: what lies beside the target is no trap; the target itself has to be renamed, and that is said."""
    (tmp_path / "queue.py").write_text("def f(x): return x\n")
    (tmp_path / "selectors.py").write_text("raise RuntimeError('not mine')\n")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        # -P, as where the command is a script: the current directory is on the path from the target on only.
        python, *rest = command(*words)
        return subprocess.run(
            [python, "-P", *rest], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60
        )

    beside = run("jobs:double", "1", "--workers", "1")
    assert (beside.returncode, beside.stderr) == (0, "")
    itself = run("./queue.py:f", "1")
    assert itself.returncode == 2
    assert itself.stderr.count("\n") == 1 and "another module has the name 'queue'; rename the file" in itself.stderr


def test_without_rich_or_click_it_says_what_to_install(tmp_path: Path) -> None:
    """C-02: the command line is an extra; half of it (click is widely installed) is told too."""
    for name in ("click", "rich"):
        code = (
            f"import sys; sys.modules[{name!r}] = None; from rxtasks.cli.main import main;"
            "sys.exit(main(['run', 'os.path:basename', '1']))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.endswith("install them with: pip install 'rxtasks[cli]'\n") and done.stderr.count("\n") == 1


def test_an_interrupt_while_modules_are_loaded_is_no_traceback(tmp_path: Path) -> None:
    """C-02: Ctrl-C in the first moments, as if it came while click is imported."""
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt\n")
    done = subprocess.run(
        [sys.executable, "-m", "rxtasks", "run"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


# -- streams that are closed, full, or not UTF-8 --------------------------------------------------------------------


@pytest.fixture
def shell(command: Callable[..., list[str]], tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def call(redirection: str, *words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/bin/sh", "-c", f'exec "$@" {redirection}', "sh", *command(*words)],
            cwd=tmp_path,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return call


@pytest.mark.parametrize("more", [(), ("--json",)])
@pytest.mark.parametrize("redirection", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_standard_streams_may_be_closed(shell: Run, redirection: str, more: tuple[str, ...]) -> None:
    """C-02: as a service manager or a cron job may start it; what would be written is not."""
    done = shell(redirection, "jobs:double", 1, *more)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr


def test_standard_input_that_is_closed_cannot_be_read(shell: Run) -> None:
    """C-02: one sentence."""
    done = shell("<&-", "jobs:double", "-")
    assert (done.returncode, done.stdout) == (2, "")
    assert "standard input is closed" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_full_disk_is_told_and_is_no_success(shell: Run, more: tuple[str, ...]) -> None:
    """C-02: events or a summary that were lost are not passed over; no traceback."""
    done = shell(">/dev/full", "jobs:double", 1, *more)
    assert done.returncode == 1
    assert "No space left on device" in done.stderr and "Traceback" not in done.stderr


def test_lines_of_standard_input_need_not_be_utf_8(command: Callable[..., list[str]], tmp_path: Path) -> None:
    """C-02: names of files are bytes."""
    name = os.fsdecode(b"caf\xe9.txt")
    (tmp_path / name).touch()
    done = subprocess.run(
        command("jobs:text", "-", "--collect", "jobs:show"),
        cwd=tmp_path,
        env={**environment(), "PYTHONIOENCODING": "utf-8:strict"},
        input=os.fsencode(name) + b"\n1\n",
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == b"['str caf\\udce9.txt', 'int 1']"


def test_help_and_version_are_quick(tmp_path: Path) -> None:
    """C-02: nothing but click is loaded for them."""
    code = (
        "import sys; from rxtasks.cli.main import main; code = main(['run', '--help']);"
        "print([m for m in ('reactivex', 'rich', 'loguru', 'rxtasks.service') if m in sys.modules], code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60
    )
    assert "Usage: rxtasks run" in done.stdout and done.stdout.endswith("[] 0\n")
    shown = subprocess.run(
        [sys.executable, "-m", "rxtasks", "--version"], env=environment(), capture_output=True, text=True, timeout=60
    )
    assert shown.stdout == "rxtasks 0.1.0\n"


# -- --json ---------------------------------------------------------------------------------------------------------


def test_json_is_one_event_per_line_and_nothing_else(run: Run) -> None:
    """C-02: --json: each TaskEvent on a line of stdout; the summary and the report are on stderr."""
    done = run("jobs:tell", 1, 2, 3, "--json", "--collect", "jobs:show")
    events = [TaskEvent.from_json(line) for line in done.stdout.splitlines()]
    assert "tasks   3 tasks: 3 ok, 0 failed" in done.stderr
    by_task: dict[str, list[TaskEvent]] = {}
    for event in events:
        by_task.setdefault(event.task_id, []).append(event)
    assert len(by_task) == 3
    for story in by_task.values():
        assert [event.seq for event in story] == list(range(1, len(story) + 1))
        statuses = [event.status for event in story if isinstance(event, StatusEvent)]
        assert statuses == ["running", "succeeded"] and isinstance(story[-1], StatusEvent)
    assert Counter(event.level for event in events if isinstance(event, LogEvent)) == {"WARNING": 3, "DEBUG": 3}


@pytest.mark.parametrize("isolation", ["process", "thread", "inline"])
def test_nothing_else_gets_between_the_lines_of_json(run: Run, tmp_path: Path, isolation: str) -> None:
    """C-02: one event per line on stdout, whatever the module prints as it is imported and a task writes raw."""
    (tmp_path / "loud.py").write_text("from jobs import *\nprint('loud at import')\n")
    done = run("loud:write_raw", 1, "--json", "--isolation", isolation)
    assert done.returncode == 0, done.stderr
    events = [TaskEvent.from_json(line) for line in done.stdout.splitlines()]
    assert isinstance(events[-1], StatusEvent) and events[-1].status == "succeeded"
    assert "loud at import\n" in done.stderr and "raw to 1\n" in done.stderr and "child to 1\n" in done.stderr


@pytest.mark.parametrize("hangs", [False, True])
def test_a_reader_that_leaves_ends_the_run_quietly(start: Any, tmp_path: Path, hangs: bool) -> None:
    """C-02: `rxtasks run ... --json | head`; what still runs then is ended without a word."""
    process = start("jobs:hang_at", "-", "--json", "--workers", 2, stdin=subprocess.PIPE)
    if hangs:
        gate = tmp_path / "gate"
        os.mkfifo(gate)
        process.stdin.write(f"{gate}\n".encode())
        process.stdin.flush()
        gate.open("rb").close()
    process.stdin.write(b"1\n" * 20)
    process.stdin.flush()
    assert process.stdout.readline().startswith(b'{"v":1')
    process.stdout.close()
    try:
        while process.poll() is None:
            process.stdin.write(b"1\n" * 1000)
            process.stdin.flush()
    except BrokenPipeError:
        pass
    assert process.wait(30) == 141
    assert process.stderr.read() == b""


# -- many inputs ----------------------------------------------------------------------------------------------------


def test_there_are_no_more_workers_than_inputs(run: Run) -> None:
    """C-02: a worker that can have no task is not waited for."""
    done = run("jobs:double", 1, 2, "--workers", 8)
    assert done.returncode == 0 and " in 2 workers" in done.stdout


def test_memory_does_not_grow_with_the_number_of_inputs(start: Any) -> None:
    """C-02: inputs are read as they are needed, and nothing is kept of a task that has ended."""

    def peak(inputs: int) -> int:
        process = start("jobs:double", "-", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(inputs // 1000):
            process.stdin.write(b"1\n" * 1000)
        process.stdin.close()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        return usage.ru_maxrss // 1024

    few, many = peak(12_000), peak(60_000)
    assert many - few < 25, f"{few} MiB for 12,000 inputs, {many} MiB for 60,000"


# -- signals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_drains(start: Any, tmp_path: Path, number: signal.Signals) -> None:
    """W-05: Ctrl-C once, or SIGTERM, lets running tasks finish and drops the rest, and says so; exit 130."""
    gates = [tmp_path / f"gate{n}" for n in range(6)]
    for gate in gates:
        os.mkfifo(gate)
    process = start("jobs:gate", *gates, "--workers", 2, "--json", "--collect", "jobs:show")
    running = [TaskEvent.from_json(process.stdout.readline()) for _ in range(2)]
    assert all(isinstance(event, StatusEvent) and event.status == "running" for event in running)
    process.send_signal(number)
    assert "2 running tasks may finish, the rest is dropped" in line_with(process.stderr, "interrupted")
    for gate in gates[:2]:
        gate.write_text("open")
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"2 ok, 0 failed, 4 dropped before they ran" in err and b"were not collected" in err
    assert out.count(b'"status":"succeeded"') == 2


def test_two_signals_force(start: Any) -> None:
    """W-05: Ctrl-C twice ends at once, and no worker is left."""
    process = start("jobs:hang", 1, 2, 3, "--workers", 2)
    line_with(process.stderr, "hanging")
    workers = psutil.Process(process.pid).children(recursive=True)
    assert workers
    process.send_signal(signal.SIGINT)
    line_with(process.stderr, "interrupted")
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    assert b"dropped" in out
    assert psutil.wait_procs(workers, timeout=5)[1] == []


def test_a_signal_while_standard_input_is_awaited_ends_the_run(start: Any) -> None:
    """W-05: a run that waits for its next line is not deaf."""
    process = start("jobs:tell", "-", stdin=subprocess.PIPE)
    process.stdin.write(b"1\n")
    process.stdin.flush()
    line_with(process.stderr, "value 1")
    process.send_signal(signal.SIGINT)
    process.wait(30)
    assert process.returncode == 130
    assert b"1 task: 1 ok, 0 failed" in process.stdout.read()


def test_a_signal_in_an_inline_run_waits_for_the_task_the_second_does_not(start: Any) -> None:
    """W-05, W-18: inline tasks run on the thread that takes the signals."""
    process = start("jobs:hang", 1, 2, "--isolation", "inline")
    line_with(process.stderr, "hanging")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 130


# -- chaos ----------------------------------------------------------------------------------------------------------


def test_chaos_kills_two_busy_workers_and_nothing_is_lost(run: Run) -> None:
    """W-07: the same answer, and the summary says so."""
    done = run("jobs:busy", *range(40), "--chaos", 2, "--workers", 2, "--collect", "jobs:total")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == ["collected 40", str(sum(range(40)))]
    assert "workers 2 workers lost, 2 tasks run again, 0 lost" in done.stdout
    assert done.stderr.count("chaos: killing worker") == 2
    assert "ledger" in done.stdout and ": exact" in done.stdout


# -- a terminal -----------------------------------------------------------------------------------------------------


def test_a_terminal_shows_running_tasks_and_a_total(command: Callable[..., list[str]], tmp_path: Path) -> None:
    """C-02: a live line per running task and a total line; the summary stays."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command("jobs:steps", "1", "2", "--workers", "2"),
        cwd=tmp_path,
        env={**environment(), "COLUMNS": "120", "LINES": "30"},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = io.BytesIO()
    try:
        while data := os.read(ours, 65536):
            shown.write(data)
    except OSError:  # the other side is closed
        pass
    finally:
        os.close(ours)
    assert process.wait(30) == 0
    text = shown.getvalue().decode()
    assert "/40" in text and "steps" in text and "w1" in text and "w2" in text
    assert "total" in text and "2 running  0 failed" in text
    assert "tasks   2 tasks: 2 ok, 0 failed" in text
