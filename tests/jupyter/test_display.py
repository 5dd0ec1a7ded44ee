"""Live displays as a frontend gets them: mime bundles, comm messages of the widget, updates of what was shown."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.jupyter.kernel import Kernel
from tests.jupyter.test_cells import open_gate

VIEW = "application/vnd.jupyter.widget-view+json"

STEPS = """
def steps(path, ctx: TaskContext):
    ctx.progress(1, 4, 'rows')
    print('<b>half</b>')
    open(path).close()
    return 'the result'
"""


def states(kernel: Kernel, model_id: str) -> list[dict[str, Any]]:
    """Return the cards that the widget was told to draw."""
    found = []
    for message in kernel.messages:
        content = message["content"]
        if message["msg_type"] in ("comm_open", "comm_msg") and content["comm_id"] == model_id:
            state = content["data"].get("state", {})
            if "card" in state:
                found.append(state["card"])
    return found


def test_a_tracker_is_shown_live(kernel: Kernel, gate: str) -> None:
    """N-01: text and HTML for whoever has no widgets, and a widget that follows the task to its end."""
    kernel.run(STEPS)
    cell = kernel.run(f"shown = service.submit(steps, {gate!r})\nshown")
    (bundle,) = cell.shown
    assert {"text/plain", "text/html", VIEW} == set(bundle)
    model = bundle[VIEW]["model_id"]
    kernel.wait(lambda: states(kernel, model)[-1]["fraction"] == 0.25)
    card = states(kernel, model)[-1]
    assert ("steps", "running", "1 of 4 rows") == (card["title"], card["status"], card["measure"])
    kernel.wait(lambda: bool(states(kernel, model)[-1]["lines"]))
    assert [{"level": "INFO", "text": "<b>half</b>"}] == states(kernel, model)[-1]["lines"]
    open_gate(gate)
    kernel.wait(lambda: states(kernel, model)[-1]["status"] == "succeeded")
    assert ["result", "'the result'"] in states(kernel, model)[-1]["facts"]


def test_shown_twice_it_is_one_widget_and_afterwards_none(kernel: Kernel, gate: str) -> None:
    """N-01: running a cell again does not double what follows the task."""
    kernel.run(STEPS)
    first = kernel.run(f"twice = service.submit(steps, {gate!r})\ntwice").shown[0]
    second = kernel.run("twice").shown[0]
    assert first[VIEW]["model_id"] == second[VIEW]["model_id"]
    open_gate(gate)
    over = kernel.run("twice.result(); twice").shown[0]
    assert {"text/plain", "text/html"} == set(over)
    assert "&lt;b&gt;half&lt;/b&gt;" in over["text/html"] and "<b>half" not in over["text/html"]


def test_a_service_shows_each_worker_and_what_it_runs(kernel: Kernel, gate: str) -> None:
    """N-01: busy with the task's name and progress, then idle; and that it has stopped, in what is kept too."""
    kernel.run(STEPS)
    cell = kernel.run("own = TaskService(workers=1, echo=None)\nrxj.watch(own)")
    (bundle,) = cell.shown
    model = bundle[VIEW]["model_id"]
    assert "not started" in bundle["text/plain"]
    kernel.run(f"job = own.submit(steps, {gate!r})")
    kernel.wait(lambda: any("1 of 4 rows" in row["cells"] for row in states(kernel, model)[-1]["rows"]))
    (row,) = states(kernel, model)[-1]["rows"]
    assert 0.25 == row["fraction"]
    assert {"busy", "steps"} <= set(row["cells"])
    open_gate(gate)
    kernel.wait(lambda: any("idle" in row["cells"] for row in states(kernel, model)[-1]["rows"]))
    kernel.run("own.stop()")
    cell.wait(lambda found: bool(found.updates))
    assert "service stopped" in cell.updates[-1]["text/plain"]


def test_a_map_shows_counts_and_rate(kernel: Kernel) -> None:
    """N-01: in the cell that subscribes; values pass unchanged."""
    kernel.run("def odd(n):\n    if n == 2: raise ValueError(n)\n    return n")
    cell = kernel.run(
        "stream = rxj.watch(service.map(odd, range(5), on_failure='emit'), title='odds')\n"
        "with iterate(stream) as values: print([str(value) for value in values])"
    )
    assert "['0', '1', '2', '3', '4']" in cell.text
    cell.wait(lambda found: bool(found.updates))
    text = cell.updates[-1]["text/plain"]
    assert text.startswith("odds succeeded  100 %  5 of 5\n  done: 4\n  failed: 1\n  rate: ")


def test_a_flood_of_progress_does_not_flood_the_frontend(kernel: Kernel) -> None:
    """N-01: at most ten cards a second, whatever the task does; the last one is shown."""
    kernel.run("def flood(ctx: TaskContext):\n    for n in range(300_000): ctx.progress(n + 1, 300_000)")
    cell = kernel.run("flooded = service.submit(flood)\nflooded")
    model = cell.shown[0][VIEW]["model_id"]
    begun = time.monotonic()
    kernel.run("flooded.result(60)")
    kernel.wait(lambda: states(kernel, model)[-1]["status"] == "succeeded")
    assert len(states(kernel, model)) <= 20 + 20 * (time.monotonic() - begun)
    assert "300,000 of 300,000" == states(kernel, model)[-1]["measure"]


def test_what_stands_for_a_service_is_shown_as_it(kernel: Kernel) -> None:
    """N-01: a view with options, an executor and an engine; one widget; watch() takes an executor."""
    kernel.run("held = TaskService(workers=1, echo=None)\nheld.start()\nexe = held.executor()")
    (shown,) = kernel.run("held").shown
    for same in ("held.with_options(priority=1)", "exe"):
        assert shown[VIEW]["model_id"] == kernel.run(same).shown[0][VIEW]["model_id"]
    assert "pool running" in kernel.run("held.engine").shown[0]["text/plain"]
    assert "service running" in kernel.run("rxj.watch(exe)").shown[0]["text/plain"]
    kernel.run("held.stop()")
    cell = kernel.run("print(held, held.pool, exe)")
    assert "<TaskService stopped> <WorkerPool stopped> <TaskExecutor on <TaskService stopped>>\n" == cell.text


def test_an_error_shows_what_it_knows(kernel: Kernel) -> None:
    """N-01: escaped, as the value of a cell."""
    kernel.run("def dies(): os._exit(3)")
    (shown,) = kernel.run("service.with_options(max_crashes=1).submit(dies).future.exception(20)").shown
    assert "exit code 3" in shown["text/html"] and "WORKER_CRASHED" in shown["text/html"]
    (shown,) = kernel.run("PayloadError('<script>', 'args[0]')").shown
    assert "&lt;script&gt;" in shown["text/html"] and "<script>" not in shown["text/html"]


@pytest.fixture(params=["anywidget", "ipywidgets"])
def plain_kernel(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    with Kernel(tmp_path) as started:
        started.run(f"import sys\nsys.modules[{request.param!r}] = None  # as if it were not installed")
        started.run("import rxtasks.jupyter as rxj\nfrom rxtasks import *\nservice = TaskService(workers=1, echo=None)")
        yield started


def test_without_anywidget_html_is_updated_in_place(plain_kernel: Kernel, gate: str) -> None:
    """N-01: the plain fallback."""
    plain_kernel.run(STEPS)
    cell = plain_kernel.run(f"shown = service.submit(steps, {gate!r})\nrxj.watch(shown)")
    assert {"text/plain", "text/html"} == set(cell.shown[0])
    cell.wait(lambda found: any("1 of 4 rows" in update["text/plain"] for update in found.updates))
    open_gate(gate)
    cell.wait(lambda found: any("succeeded" in update["text/html"] for update in found.updates))
    assert {"text/plain", "text/html"} == set(plain_kernel.run("shown").shown[0])


def test_what_ran_as_tables_and_a_timeline(kernel: Kernel) -> None:
    """N-01: a crash and a retry are attempts of their own, each in its worker's lane."""
    kernel.run(
        "busy = TaskService(workers=1, echo=None)\nrecorded = rxj.record(busy)\nassert rxj.record(busy) is recorded\n"
        "def dies(ctx: TaskContext):\n    if ctx.attempt == 1: os.kill(os.getpid(), 9)\n"
        "def fails(ctx: TaskContext):\n    if ctx.attempt == 1: raise OSError('again')\n"
        "busy.submit(dies).result(20)\n"
        "busy.with_options(retry=RetryPolicy(max_attempts=2, base=0.01)).submit(fails).result(20)\n"
        "busy.submit(len, 'abc').result(20)\nassert busy.flush(20)"
    )
    cell = kernel.run("print(rxj.attempts(busy)[['name', 'attempt', 'outcome']].values.tolist())")
    expected = [
        ["__main__:dies", 1, "crashed"],
        ["__main__:dies", 2, "succeeded"],
        ["__main__:fails", 1, "retrying"],
        ["__main__:fails", 2, "succeeded"],
        ["builtins:len", 1, "succeeded"],
    ]
    assert f"{expected}\n" == cell.text
    cell = kernel.run("table = rxj.frame(busy, status='succeeded'); print(table.name.tolist(), table.crashes.tolist())")
    assert "['__main__:dies', '__main__:fails', 'builtins:len'] [1, 0, 0]\n" == cell.text
    cell = kernel.run(
        "chart = rxj.timeline(busy).to_dict()\nvalues = chart['data']['values'] if 'values' in chart['data'] else "
        "chart['datasets'][chart['data']['name']]\n"
        "print([value['outcome'] for value in values], len({value['lane'] for value in values}), chart['mark']['type'])"
    )
    assert "['crashed', 'succeeded', 'retrying', 'succeeded', 'succeeded'] 2 bar\n" == cell.text
    # Without a recording: the last attempt of each task.
    kernel.run("recorded.dispose(); del recorded")
    cell = kernel.run(
        "other = TaskService(workers=1); other.submit(len, 'a').result(20); print(len(rxj.attempts(other)))"
    )
    assert "1\n" == cell.text
    kernel.run("busy.stop(); other.stop()")
