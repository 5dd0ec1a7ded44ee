"""Named subscriptions, without a notebook."""

from __future__ import annotations

import pytest
import reactivex as rx
from reactivex.disposable import Disposable
from reactivex.subject import Subject

import rxtasks.jupyter as rxj
from rxtasks import SettingsError
from rxtasks.jupyter.frontend import CellRun
from rxtasks.jupyter.named import NamedSubscriptions


def test_the_old_one_is_disposed_before_the_new_one_subscribes() -> None:
    """N-01: at no time are there two."""
    order: list[str] = []
    names = NamedSubscriptions()
    for number in ("1", "2"):

        def subscribe(_: object, number: str = number) -> Disposable:
            order.append(f"subscribe {number}")
            return Disposable(lambda: order.append(f"dispose {number}"))

        names.replace("x", subscribe)
    assert ["subscribe 1", "dispose 1", "subscribe 2"] == order
    names.all()["x"].dispose()
    assert "dispose 2" == order[-1]
    assert {} == names.all()


def test_a_stream_that_ends_frees_its_name() -> None:
    """N-01: also one that ends while it is subscribed to."""
    source: Subject[int] = Subject()
    got: list[object] = []
    entry = rxj.subscribe(source, got.append, got.append, lambda: got.append("over"), name="ending")
    source.on_next(1)
    assert rxj.subscriptions()["ending"] is entry and not entry.over
    source.on_completed()
    assert [1, "over"] == got
    assert entry.over and "ending" not in rxj.subscriptions()
    rxj.subscribe(rx.of(1), got.append, name="at once")
    assert "at once" not in rxj.subscriptions()


def test_a_subscribe_that_raises_leaves_no_name() -> None:
    """The error is the caller's."""
    names = NamedSubscriptions()

    def bad(_: object) -> Disposable:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        names.replace("x", bad)
    assert {} == names.all()


def test_names_of_a_cell_begin_anew_with_each_run() -> None:
    """N-01: what the run before left is ended, other cells' are not."""
    names = NamedSubscriptions()

    def run(run_id: str, cell_id: str = "c") -> str:
        return names.replace(names.name_for(CellRun(cell_id, run_id)), lambda _: Disposable()).name

    assert ["cell c #1", "cell c #2", "cell d #1"] == [run("1"), run("1"), run("2", "d")]
    assert "cell c #1" == run("3")
    assert {"cell c #1", "cell d #1"} == set(names.all())


@pytest.mark.parametrize("cell", [None, CellRun(None, "run")])
def test_no_cell_no_name(cell: CellRun | None) -> None:
    """N-01: says what to do."""
    with pytest.raises(SettingsError, match="give it name="):
        NamedSubscriptions().name_for(cell)


def test_wrong_arguments_are_told() -> None:
    """A clear error for what cannot be subscribed to or watched."""
    with pytest.raises(SettingsError, match="a function for its values, not 3"):
        rxj.subscribe(rx.of(1), 3, name="x")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=r"watch\(\) shows a tracker, .* or an observable, not int"):
        rxj.watch(3)  # type: ignore[call-overload]
