"""Peers beside us: what is not installed is named and fails nothing, and what is declared can run."""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks.__main__ import NAMES, load, main
from benchmarks.figures import at_least
from benchmarks.handlers import noop
from benchmarks.harness import OURS, Benchmark, Contender, Row, render, run_benchmark
from benchmarks.machine import describe_versions
from benchmarks.map import counted
from benchmarks.peers import PEER_LABELS, PEERS
from rxtasks import TaskService

_ABSENT = "no_such_module_anywhere"
_IMPORT = {"statement": "pass", "times": 1}


def _beside_an_absent_peer() -> Benchmark:
    return Benchmark(
        "imports",
        "how fast?",
        contenders=(
            Contender(OURS, "benchmarks.imports:measure"),
            Contender("Absent.submit", f"{_ABSENT}:measure", needs=_ABSENT),
        ),
        rows=(
            Row("import", "import_ms", peer="Absent.submit", bar=at_least(3)),
            Row("theirs", "import_ms", ours="Absent.submit", bar=at_least(3)),
        ),
        full=_IMPORT,
        quick=_IMPORT,
    )


def test_a_peer_that_is_not_installed_is_left_out_and_said_so_once() -> None:
    lines: list[str] = []
    measured = run_benchmark(_beside_an_absent_peer(), runs=2, quick=False, progress=lines.append)

    assert {"Absent.submit": _ABSENT} == measured.missing
    assert {} == measured.crashes
    assert 2 == len(measured.samples[OURS])
    assert 1 == sum("Absent.submit is not installed" in line for line in lines)


def test_the_table_says_not_installed_and_misses_no_bar_by_it() -> None:
    measured = run_benchmark(_beside_an_absent_peer(), runs=1, quick=False)
    rows = render([measured]).splitlines()[2:]

    assert all("not installed" in row for row in rows)
    assert not any("NO" in row or "crashed" in row for row in rows)


def test_a_missing_peer_is_named_at_the_end_and_the_exit_code_is_0(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(command, "load", lambda name: _beside_an_absent_peer())

    assert 0 == main(["imports", "latency", "--quick", "--json", str(tmp_path / "figures.json")])
    named = [line for line in capsys.readouterr().out.splitlines() if line.startswith("not installed")]
    assert 1 == len(named) and f": {_ABSENT};" in named[0] and "pip install" in named[0]
    figures = json.loads((tmp_path / "figures.json").read_text("utf-8"))
    assert [{"Absent.submit": _ABSENT}] * 2 == [benchmark["missing"] for benchmark in figures["benchmarks"]]


def test_what_needs_nothing_or_what_is_there_is_installed() -> None:
    assert Contender("ours", "m:f").installed
    assert Contender("json", "m:f", needs="json").installed
    assert not Contender("absent", "m:f", needs=_ABSENT).installed


def test_a_peer_is_not_imported_to_find_out_whether_it_is_installed() -> None:
    """A measurement of ours, or of another peer, pays for none of them."""
    script = (
        "import sys\n"
        "from benchmarks.__main__ import NAMES, load\n"
        "[contender.installed for name in NAMES for contender in load(name).contenders]\n"
        f"print([name for name in {list(PEERS)!r} if name in sys.modules])"
    )
    root = Path(command.__file__).parent.parent

    assert (
        "[]\n"
        == subprocess.run(
            [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True, timeout=60
        ).stdout
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_contender_has_a_function_that_takes_its_parameters(name: str) -> None:
    benchmark = load(name)
    for contender in benchmark.contenders:
        module, _, function = contender.target.partition(":")
        signature = inspect.signature(getattr(importlib.import_module(module), function))
        for parameters in (benchmark.full, benchmark.quick):
            signature.bind(**parameters, **contender.parameters)


@pytest.mark.parametrize("name", ["throughput", "latency", "map"])
def test_a_contender_that_opens_a_peer_needs_it(name: str) -> None:
    peers = [contender for contender in load(name).contenders if contender.target.endswith(":peer")]

    assert peers
    assert [contender.parameters["name"] for contender in peers] == [contender.needs for contender in peers]
    assert {contender.needs for contender in peers} <= set(PEERS)


@pytest.mark.parametrize("name", ["throughput", "latency"])
def test_every_peer_has_a_row(name: str) -> None:
    assert set(PEER_LABELS) <= {row.peer for row in load(name).rows}


def test_every_contender_is_in_a_row() -> None:
    for name in NAMES:
        benchmark = load(name)
        shown = {row.ours for row in benchmark.rows} | {row.peer for row in benchmark.rows}
        assert [] == [contender.name for contender in benchmark.contenders if contender.name not in shown]


def test_versions_name_every_peer() -> None:
    assert set(PEERS) <= {name.lower() for name in describe_versions()}


def test_a_pass_of_ours_counts_every_event() -> None:
    """An event that is not seen, or that is seen twice, is no figure but a failure."""
    with TaskService(workers=1, isolation="thread", echo=None) as service:

        def run(count: int) -> list[int]:
            return [tracker.result(30) for tracker in [service.submit(noop, number) for number in range(count)]]

        with counted(service, lambda count: 2 * count) as every_event:
            assert [0, 1, 2] == every_event(run)(3)
            assert [0, 1] == every_event(run)(2)
        for wrong in (5, 7):
            with (
                counted(service, lambda count, wrong=wrong: wrong) as every_event,
                pytest.raises(AssertionError, match=f"6 events observed of 3 items, not {wrong}"),
            ):
                every_event(run)(3)
