"""The stop button ends a wait, and nothing else."""

from __future__ import annotations

import pytest

from tests.jupyter.kernel import Kernel
from tests.jupyter.test_cells import open_gate

#: What is waited for in the cell that is interrupted, and the exception that ends it.
WAITS = {
    "result": ("tracker.result()", "KeyboardInterrupt"),
    "await": ("await tracker", "CancelledError"),
    "future": ("tracker.future.result()", "KeyboardInterrupt"),
    "as_completed": ("list(as_completed([tracker]))", "KeyboardInterrupt"),
    "iterate": ("with iterate(tracker.outputs) as values: list(values)", "KeyboardInterrupt"),
    "map": ("with iterate(service.map(wait_at, [other])) as values: list(values)", "KeyboardInterrupt"),
    "run": ("service.map(wait_at, [other]).run()", "KeyboardInterrupt"),
    "watched": ("with iterate(rxj.watch(service.map(wait_at, [other]))) as values: list(values)", "KeyboardInterrupt"),
    "flush": ("service.flush(); tracker.result()", "KeyboardInterrupt"),
}


@pytest.mark.parametrize("wait", WAITS)
def test_an_interrupt_ends_the_wait_and_not_the_pool(
    kernel: Kernel, gate: str, wait: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """N-01: the running task goes on in the same worker, and the next cell gets its result."""
    code, error = WAITS[wait]
    other = str(tmp_path_factory.mktemp("other") / "gate")
    # Not while it is imported: IPython cannot format every traceback from there, and prints it instead of reporting it.
    kernel.run("import anywidget")
    kernel.run(
        f"gate, other = {gate!r}, {other!r}\nos.mkfifo(other)\n"
        "def wait_at(path):\n    open(path).close()\n    return os.getpid()"
    )
    kernel.run(
        "service.start(); pids = {info.pid for info in service.workers()}\ntracker = service.submit(wait_at, gate)"
    )
    interrupted = kernel.start(f"print('waiting')\n{code}")
    interrupted.wait(lambda cell: "waiting" in cell.text)
    kernel.interrupt()
    interrupted.wait(lambda cell: cell.over)
    assert error == interrupted.error, interrupted.text
    assert "False True\n" == kernel.run("print(tracker.done, {info.pid for info in service.workers()} == pids)").text
    open_gate(gate)
    assert "True\n" == kernel.run("print(tracker.result(20) in pids)").text
    # What a disposed map had started is cancelled; what waits for run() goes on.
    kernel.run(
        "fd = os.open(other, os.O_RDWR | os.O_NONBLOCK)\nassert service.submit(len, 'abc').result(20) == 3\nos.close(fd)"
    )
    assert "3\n" == kernel.run("print(service.submit(len, 'abc').result(20))").text
