"""The stop button ends a wait, and nothing else."""

from __future__ import annotations

import pytest

from tests.jupyter.kernel import SOON, Kernel
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
    "gather": ("import asyncio\nawait asyncio.gather(tracker, service.submit(wait_at, other))", "CancelledError"),
    "aiterate": ("async with aiterate(tracker) as events:\n    async for event in events: pass", "CancelledError"),
    "wait": ("import concurrent.futures\nconcurrent.futures.wait([tracker.future])", "KeyboardInterrupt"),
    "executor": ("list(service.executor().map(wait_at, [other]))", "KeyboardInterrupt"),
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


#: How a service is left, and the error of the cell whose wait for what runs in it was interrupted.
LEAVES = {
    "stop": ("held = run()\nown.stop()", "KeyboardInterrupt"),
    "with": ("with own: held = run()", "KeyboardInterrupt"),
    "with result": ("with own:\n    held = run()\n    held.result()", "KeyboardInterrupt"),
    # ipykernel cancels an await once: a second interrupt is not heard there.
    "async with": ("async with own:\n    held = run()\n    await held", "CancelledError"),
}


@pytest.mark.parametrize("leave", LEAVES)
def test_interrupts_while_a_service_is_left(kernel: Kernel, gate: str, leave: str) -> None:
    """N-01: the first begins the stop, which waits for what runs; another ends that wait, and the stop goes on by itself."""
    code, error = LEAVES[leave]
    kernel.run(
        "import select, anywidget, reactivex.operators as ops\n"
        "own = TaskService(workers=1, echo=None)\nown.start()\nleft = os.pidfd_open(own.workers()[0].pid)\n"
        "def wait_at(path):\n    open(path).close()\n    return 'through'\n"
        "def run():\n"
        f"    begun = own.submit(wait_at, {gate!r})\n    begun.statuses.pipe(ops.first()).run()\n"
        "    print('runs')\n    return begun"
    )
    cell = kernel.start(f"watched = own.pool.subscribe(lambda event: print(event.kind))\n{code}")
    cell.wait(lambda found: "runs" in found.text)
    if leave != "stop":
        kernel.interrupt()
    cell.wait(lambda found: "stopping" in found.text)
    if leave != "async with":
        kernel.interrupt()
        cell.wait(lambda found: found.over)
        assert "False\n" == kernel.run("print(bool(select.select([left], [], [], 0)[0]))").text
    open_gate(gate)
    cell.wait(lambda found: found.over)
    assert error == cell.error, cell.text
    assert "True\n" == kernel.run(f"print(bool(select.select([left], [], [], {SOON})[0]))").text
    cell.wait(lambda found: "pool_stopped" in found.text)
    assert "3\n" == kernel.run("print(service.submit(len, 'abc').result(20))").text
