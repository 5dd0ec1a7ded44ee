"""The pure parts of the benchmark harness: figures, tables and verdicts."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.__main__ import NAMES, load, main
from benchmarks.figures import at_least, at_most, compare, percentile
from benchmarks.harness import OURS, Benchmark, Contender, Crash, Measured, Row, render, run_measurement
from benchmarks.table import align, bar_text, figure_text

_FIGURES = st.floats(min_value=0.001, max_value=1e9)


def _measured(row: Row, ours: list[float], peer: list[float], crashes: dict[str, str] | None = None) -> Measured:
    sides = (Contender(OURS, "m:f"), Contender("peer", "m:g"))
    benchmark = Benchmark("speed", "how fast?", sides, (row,), full={}, quick={})
    samples = {OURS: [{"rate": value} for value in ours], "peer": [{"rate": value} for value in peer]}
    return Measured(benchmark, samples, crashes or {})


def _only_row(text: str) -> list[str]:
    return [cell for cell in text.splitlines()[2].split("  ") if cell.strip()]


def test_the_median_of_pair_ratios_ignores_a_drift_that_both_sides_share() -> None:
    both = compare([100.0, 200.0, 400.0], [50.0, 100.0, 200.0])

    assert (both.ours, both.peer) == (200.0, 100.0)
    assert both.ratio_of_medians == both.median_ratio == both.lowest_ratio == both.highest_ratio == 2.0


def test_the_two_ratios_differ_where_a_round_was_disturbed() -> None:
    both = compare([300.0, 10.0, 300.0], [100.0, 100.0, 50.0])

    assert both.ratio_of_medians == 3.0
    assert both.median_ratio == 3.0
    assert (both.lowest_ratio, both.highest_ratio) == (0.1, 6.0)


@given(st.lists(st.tuples(_FIGURES, _FIGURES), min_size=1))
def test_the_median_ratio_lies_between_the_lowest_and_the_highest(pairs: list[tuple[float, float]]) -> None:
    both = compare([ours for ours, _ in pairs], [peer for _, peer in pairs])

    assert both.lowest_ratio <= both.median_ratio <= both.highest_ratio


@pytest.mark.parametrize(("ours", "peer"), [([], []), ([1.0], []), ([1.0], [1.0, 2.0])])
def test_samples_without_their_partner_are_refused(ours: list[float], peer: list[float]) -> None:
    with pytest.raises(ValueError, match="pairs are needed"):
        compare(ours, peer)


def test_a_peer_of_zero_gives_no_finite_ratio() -> None:
    assert compare([1.0], [0.0]).median_ratio == math.inf
    assert math.isnan(compare([0.0], [0.0]).median_ratio)


def test_a_percentile_is_a_sample_by_nearest_rank() -> None:
    samples = [5.0, 1.0, 4.0, 2.0, 3.0]

    assert [percentile(samples, percent) for percent in (1, 50, 80, 99, 100)] == [1.0, 3.0, 4.0, 5.0, 5.0]


@given(st.lists(_FIGURES, min_size=1), st.floats(min_value=0.1, max_value=100))
def test_at_least_the_percent_of_the_samples_do_not_exceed_the_percentile(samples: list[float], percent: float) -> None:
    figure = percentile(samples, percent)

    assert figure in samples
    assert sum(sample <= figure for sample in samples) >= len(samples) * percent / 100


@pytest.mark.parametrize(("samples", "percent"), [([], 50.0), ([1.0], 0.0), ([1.0], 101.0)])
def test_a_percentile_of_nothing_or_beyond_all_is_refused(samples: list[float], percent: float) -> None:
    with pytest.raises(ValueError, match="percent"):
        percentile(samples, percent)


def test_a_bar_is_met_at_its_limit_and_never_by_no_number() -> None:
    assert at_least(3).met(3.0) and not at_least(3).met(2.99)
    assert at_most(0.6).met(0.6) and not at_most(0.6).met(0.61)
    assert not at_least(3).met(math.nan) and not at_most(3).met(math.nan)


@pytest.mark.parametrize(
    ("figure", "unit", "text"),
    [
        (12345.6, "", "12,346"),
        (99.96, "us", "100.0 us"),
        (12.345, "ms", "12.3 ms"),
        (1.5, "", "1.50"),
        (0.01234, "%", "0.0123 %"),
        (0.0, "MB", "0 MB"),
        (math.nan, "MB", "-"),
    ],
)
def test_figures_are_shown_with_three_digits_and_their_unit(figure: float, unit: str, text: str) -> None:
    assert figure_text(figure, unit) == text


def test_bars_are_shown_with_their_direction() -> None:
    assert bar_text(at_least(3, 6), "x") == ">= 3x"
    assert bar_text(at_least(3, 6), "x", aim=True) == ">= 6x"
    assert bar_text(at_most(300), "ms") == "<= 300 ms"
    assert bar_text(at_most(300), "ms", aim=True) == bar_text(None, "ms") == "-"


def test_columns_are_aligned_with_figures_to_the_right() -> None:
    assert align(("name", "value"), [("a", "1"), ("longer", "1,000")]) == (
        "name    value\n"
        "------  -----\n"
        "a           1\n"
        "longer  1,000"
    )  # fmt: skip


@given(st.lists(st.tuples(st.text("abc", min_size=1), st.text("019,", min_size=1)), min_size=1))
def test_every_row_of_a_table_begins_its_columns_at_the_same_place(rows: list[tuple[str, str]]) -> None:
    lines = align(("name", "value"), rows).splitlines()
    width = max(len("name"), *(len(name) for name, _ in rows))

    assert len(lines) == len(rows) + 2
    assert {line[width : width + 2] for line in lines} == {"  "}


def test_a_row_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="2 cells"):
        align(("one",), [("a", "b")])


def test_a_row_shows_both_sides_both_ratios_the_bar_and_the_verdict() -> None:
    row = Row("tasks/s", "rate", peer="peer", bar=at_least(3, 6))
    cells = _only_row(render([_measured(row, [30.0, 40.0, 90.0], [10.0, 10.0, 10.0])]))

    assert [cell.strip() for cell in cells] == [
        "speed", "tasks/s", "40.0", "peer", "10.0", "4.00x", "4.00x", ">= 3x", "yes", ">= 6x",
    ]  # fmt: skip


def test_a_missed_bar_is_said_loudly_and_by_the_ratio_of_pairs() -> None:
    row = Row("tasks/s", "rate", peer="peer", bar=at_least(3))

    assert " NO " in render([_measured(row, [20.0], [10.0])])
    assert " NO " not in render([_measured(row, [20.0], [10.0])], judge=False)


def test_a_figure_without_a_peer_is_judged_by_itself() -> None:
    row = Row("ready", "rate", bar=at_most(300), unit="ms")

    assert " yes " in render([_measured(row, [100.0, 200.0, 900.0], [])])
    assert " NO " in render([_measured(row, [100.0, 400.0, 900.0], [])])


def test_a_side_that_crashed_is_shown_and_meets_nothing() -> None:
    row = Row("tasks/s", "rate", peer="peer", bar=at_least(3))
    text = render([_measured(row, [30.0], [10.0], {"peer": "Traceback"})])

    assert "crashed" in text and " NO " in text


def test_a_measurement_runs_in_a_process_of_its_own() -> None:
    samples = run_measurement("benchmarks.imports:measure", {"statement": "pass", "times": 1})

    assert list(samples) == ["import_ms"]


def test_a_measurement_that_fails_says_what_it_wrote() -> None:
    with pytest.raises(Crash, match="no_such_module"):
        run_measurement("no_such_module:measure", {})


def test_a_measurement_that_takes_too_long_ends_with_its_stacks() -> None:
    with pytest.raises(Crash, match=r"Timeout \(0:00:00\.2"):
        run_measurement("signal:pause", {}, timeout=0.2)


def test_every_named_benchmark_is_complete() -> None:
    for name in NAMES:
        benchmark = load(name)
        sides = {contender.name for contender in benchmark.contenders}
        assert benchmark.name == name
        assert {row.ours for row in benchmark.rows} | {row.peer for row in benchmark.rows if row.peer} <= sides


@pytest.mark.parametrize("arguments", [["nonsense"], ["--runs", "0"], ["--runs", "x"]])
def test_wrong_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)

    assert exit_.value.code == 2
    assert "python -m benchmarks" in capsys.readouterr().err
