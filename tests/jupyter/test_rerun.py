"""A cell that is run again replaces its subscriptions."""

from __future__ import annotations

from tests.jupyter.kernel import SOON, Kernel

PREPARE = """
from rxtasks.operators import outputs
def one(ctx: TaskContext): ctx.emit('x')
stream = service.events.pipe(outputs())
"""
SUBMIT = "service.submit(one).result(); assert service.flush(20)"


def heard(kernel: Kernel) -> None:
    """Let one value be emitted and delivered; everything printed for it is there."""
    kernel.run(SUBMIT)
    kernel.run("sys.stdout.flush()")


def test_a_named_subscription_is_replaced(kernel: Kernel) -> None:
    """N-01: the old one is disposed; the output goes to the cell that ran last."""
    kernel.run(PREPARE)
    first = kernel.run("sub = rxj.subscribe(stream, lambda event: print('one', event.value), name='mine')")
    heard(kernel)
    second = kernel.run("sub = rxj.subscribe(stream, lambda event: print('two', event.value), name='mine')")
    heard(kernel)
    assert "one x\n" == first.text
    assert "two x\n" == second.text
    assert "['mine'] True\n" == kernel.run("print(list(rxj.subscriptions()), rxj.subscriptions()['mine'] is sub)").text
    kernel.run("sub.dispose()")
    heard(kernel)
    assert "two x\n" == second.text
    assert "[]\n" == kernel.run("print(list(rxj.subscriptions()))").text


def test_without_a_name_the_cell_is_the_name(kernel: Kernel) -> None:
    """N-01: an edited cell too, with fewer subscriptions than before, and two cells side by side."""
    kernel.run(PREPARE)
    cell = "for word in {words}: rxj.subscribe(stream, lambda event, word=word: print(word, event.value))"
    first = kernel.run(cell.format(words=["a", "b"]), cell_id="cell-1")
    other = kernel.run(cell.format(words=["c"]), cell_id="cell-2")
    heard(kernel)
    again = kernel.run(cell.format(words=["d"]), cell_id="cell-1")
    heard(kernel)
    assert ["a x", "b x"] == first.text.splitlines()
    assert ["d x"] == again.text.splitlines()
    assert ["c x", "c x"] == other.text.splitlines()
    # With the extension loaded also if the new text does not subscribe at all.
    kernel.run("pass", cell_id="cell-1")
    assert "['cell cell-2 #1']\n" == kernel.run("print(list(rxj.subscriptions()))").text
    kernel.run("pass", cell_id="cell-2")


def test_without_a_name_and_a_cell_it_says_what_to_do(kernel: Kernel) -> None:
    """N-01: a frontend that does not say which cell runs needs a name."""
    cell = kernel.start("rxj.subscribe(service.events, print)")
    cell.wait(lambda found: found.over)
    assert "SettingsError" == cell.error
    assert "give it name=" in cell.of_type("error")[0]["evalue"]


def test_an_error_without_handler_is_printed_to_the_cell(kernel: Kernel) -> None:
    """N-01: escaped, and the name is free again."""
    kernel.run(r"def bad(): raise ValueError('no \x1b[31m')")
    cell = kernel.run("rxj.subscribe(service.submit(bad).outcome, print, name='bad')")
    cell.wait(lambda found: found.text.endswith("\n"))
    assert "bad: the stream failed: ValueError: no \\x1b[31m\n" == cell.text
    assert "False\n" == kernel.run("print('bad' in rxj.subscriptions())").text


def test_a_subscription_needs_an_observable_and_a_name_that_is_text(kernel: Kernel) -> None:
    """N-01: said at once, and the cells that follow are not disturbed."""
    for call, words in (
        ("rxj.subscribe(5, print, name='x')", "takes an observable and a function"),
        ("rxj.subscribe(service.events, 'print', name='x')", "takes an observable and a function"),
        ("rxj.subscribe(service.events, print, name=5)", "name is a text, not 5"),
    ):
        cell = kernel.start(call, cell_id="cell-3")
        cell.wait(lambda found: found.over)
        assert "SettingsError" == cell.error
        assert words in cell.of_type("error")[0]["evalue"]
    assert "[]\n" == kernel.run("print(list(rxj.subscriptions()))", cell_id="cell-3").text


def test_what_a_subscriber_raises_is_told_in_the_cell_that_subscribed(kernel: Kernel) -> None:
    """N-01: its traceback, not in the cell that happens to run; also of a subscriber behind a strategy."""
    kernel.run(PREPARE)
    kernel.run("from rxtasks.operators import buffer_bounded\ndef bad(event): raise ValueError('mine')")
    plain = kernel.run("a = stream.subscribe(bad)")
    behind = kernel.run("b = stream.pipe(buffer_bounded(10)).subscribe(bad)")
    submits = kernel.run(SUBMIT)
    for cell in (plain, behind):
        cell.wait(lambda found: "ValueError: mine" in found.text)
    assert "" == submits.text


def test_a_service_that_is_made_again_leaves_no_pool_behind(kernel: Kernel) -> None:
    """N-01: though it was watched, recorded and subscribed to, and the tracker of its task is still there."""
    make = (
        "import select\nagain = TaskService(workers=1, echo=None)\nrxj.record(again)\nrxj.watch(again)\n"
        "sub = rxj.subscribe(again.events, lambda event: None, name='again')\n"
        "kept = {*globals().get('kept', ()), again.submit(len, 'abc')}\n"
        "for one in kept: assert one.result(20) == 3\n"
        "pid = os.pidfd_open(again.workers()[0].pid)"
    )
    kernel.run(make, cell_id="makes")
    kernel.run("old = pid")
    kernel.run(make, cell_id="makes")
    assert "True\n" == kernel.run(f"print(bool(select.select([old], [], [], {SOON})[0]))").text
    kernel.run("again.stop()")
