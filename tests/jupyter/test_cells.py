"""Functions, classes and output of cells, in a real kernel."""

from __future__ import annotations

from tests.jupyter.kernel import Kernel


def open_gate(path: str) -> None:
    """Let the task go on that waits at the gate; waits for it to come."""
    with open(path, "w", encoding="utf-8"):
        pass


def test_functions_from_cells_run_in_process_workers(kernel: Kernel) -> None:
    """N-01: with their helpers and globals, in another process, without a module."""
    kernel.run("factor = 3\ndef helper(x): return x * factor\ndef pid_and(x): return os.getpid(), helper(x)")
    cell = kernel.run("pid, value = service.submit(pid_and, 2).result(); print(pid != os.getpid(), value)")
    assert "True 6\n" == cell.text


def test_an_edited_cell_takes_effect_on_the_next_submit(kernel: Kernel) -> None:
    """N-01: the function itself, a helper and a global, each edited by itself."""
    kernel.run("step = 1\ndef inner(x): return x + step\ndef outer(x): return ('old', inner(x))")
    ask = "print(service.submit(outer, 1).result())"
    assert "('old', 2)\n" == kernel.run(ask).text
    kernel.run("step = 10")
    assert "('old', 11)\n" == kernel.run(ask).text
    kernel.run("def inner(x): return x - step")
    assert "('old', -9)\n" == kernel.run(ask).text
    kernel.run("def outer(x): return ('new', inner(x))")
    assert "('new', -9)\n" == kernel.run(ask).text
    kernel.run("@task\ndef handler(): return 1")
    assert "1\n" == kernel.run("print(service.submit(handler).result())").text
    kernel.run("@task\ndef handler(): return 2")
    assert "2\n" == kernel.run("print(service.submit(handler).result())").text


def test_results_of_classes_from_cells_are_instances_of_them(kernel: Kernel) -> None:
    """N-01: plain classes, dataclasses, enums and exceptions come back as the kernel's own."""
    kernel.run(
        "import dataclasses, enum\n"
        "class Point:\n    def __init__(self, x): self.x = x\n"
        "@dataclasses.dataclass\nclass Pair:\n    a: int\n    b: int\n"
        "class Colour(enum.Enum):\n    RED = 1\n"
        "class Bad(Exception): pass\n"
        "def point(x): return Point(x)\n"
        "def colour(): return Colour.RED\n"
        "def bad(): raise Bad('no')\n"
    )
    cell = kernel.run("p = service.submit(point, 5).result(); print(type(p) is Point, p.x)")
    assert "True 5\n" == cell.text
    assert "True\n" == kernel.run("print(service.submit(Pair, 1, 2).result() == Pair(1, 2))").text
    assert "True\n" == kernel.run("print(service.submit(colour).result() is Colour.RED)").text
    cell = kernel.run("try:\n    service.submit(bad).result()\nexcept Bad as error:\n    print('Bad', error)")
    assert "Bad no\n" == cell.text


def test_an_edited_class_is_that_of_the_next_submit(kernel: Kernel, gate: str) -> None:
    """N-01: a result is of the class as it was at its submit, as every object of the kernel is of that of its making."""
    edit = (
        "class Made:\n    version = {}\n"
        "def make(): return Made()\n"
        "def late(path):\n    open(path).close()\n    return Made()"
    )
    kernel.run(edit.format(1))
    kernel.run(f"before = Made; waiting = service.submit(late, {gate!r})")
    kernel.run(edit.format(2))
    assert "True 2\n" == kernel.run("v = service.submit(make).result(); print(type(v) is Made, v.version)").text
    open_gate(gate)
    assert "True 1\n" == kernel.run("v = waiting.result(); print(type(v) is before, v.version)").text


def test_output_appears_in_the_cell_that_subscribed(kernel: Kernel, gate: str) -> None:
    """N-01: also when that cell is over and another one runs and prints, and for values, errors and the end."""
    kernel.run(
        "def two_steps(path, ctx: TaskContext):\n"
        "    ctx.emit('first')\n    open(path).close()\n    ctx.emit('second')\n    return 'the result'"
    )
    subscribed = kernel.run(
        f"told = service.submit(two_steps, {gate!r})\n"
        "told.outputs.subscribe(lambda event: print('output', event.value), None, lambda: print('over'))\n"
        "told.outcome.subscribe(lambda value: print('outcome', value))"
    )
    subscribed.wait(lambda cell: "first" in cell.text)
    other = kernel.start("print('other'); told.result(); service.flush(20)")
    other.wait(lambda cell: "other" in cell.text)
    open_gate(gate)
    other.done()
    subscribed.wait(lambda cell: "over" in cell.text and "outcome" in cell.text)
    assert {"output first", "output second", "over", "outcome the result"} == set(subscribed.text.splitlines())
    assert "other\n" == other.text


def test_a_callback_of_a_future_prints_in_its_cell(kernel: Kernel, gate: str) -> None:
    """N-01: not in the cell that runs when the task ends."""
    kernel.run("def wait_at(path): open(path).close()")
    cell = kernel.run(
        f"called = service.submit(wait_at, {gate!r})\n"
        "called.future.add_done_callback(lambda future: print('called', future.result()))"
    )
    other = kernel.start("print('other'); called.result(); service.flush(20)")
    other.wait(lambda found: "other" in found.text)
    open_gate(gate)
    other.done()
    cell.wait(lambda found: found.text.endswith("\n"))
    assert ("called None\n", "other\n") == (cell.text, other.text)


def test_output_of_two_cells_is_not_mixed(kernel: Kernel) -> None:
    """N-01: two subscriptions to one stream, made in two cells, and one behind a strategy in a third."""
    kernel.run(
        "from rxtasks.operators import outputs, buffer_bounded\n"
        "def speak(n, ctx: TaskContext):\n    for i in range(n): ctx.emit(i)"
    )
    one = kernel.run("here = service.events.pipe(outputs()); a = here.subscribe(lambda e: print('a', e.value))")
    two = kernel.run("b = here.subscribe(lambda e: print('b', e.value))")
    three = kernel.run("c = here.pipe(buffer_bounded(10)).subscribe(lambda e: print('c', e.value))")
    last = kernel.run("service.submit(speak, 3).result(); service.flush(20); a.dispose(); b.dispose(); c.dispose()")
    for cell, name in ((one, "a"), (two, "b"), (three, "c")):
        cell.wait(lambda found: found.text.count("\n") >= 3)
        assert [f"{name} {i}" for i in range(3)] == cell.text.splitlines()
    assert "" == last.text


def test_workers_of_a_notebook_import_neither_rx_nor_the_notebook(kernel: Kernel) -> None:
    """N-01: nor do they know of IPython, pandas or the display."""
    kernel.run(
        "def loaded():\n    import sys\n"
        "    heavy = ('reactivex', 'IPython', 'pandas', 'anywidget', 'altair', 'rxtasks.jupyter')\n"
        "    return [name for name in heavy if name in sys.modules]"
    )
    assert "[]\n" == kernel.run("print(service.submit(loaded).result())").text
