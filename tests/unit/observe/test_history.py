"""What a tracker keeps of logs and outputs: the last ones, within both bounds, and which one had to go last."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from rxtasks.lifecycle.events import LogEvent, OutputEvent, TaskEvent
from rxtasks.observe import history
from rxtasks.observe.history import BYTES, LINES, Tail

NOW = datetime(2026, 1, 1, tzinfo=UTC)
#: Light ones, ones at the border, heavy ones, and one that fills everything.
SIZES = st.sampled_from([0, 10, history._LIGHT, history._LIGHT + 1, 20_000, BYTES // 3, 2 * BYTES])


def made(seq: int, log: bool) -> TaskEvent:
    if log:
        return LogEvent("t", seq, 1, "w", NOW, "INFO", "x")
    return OutputEvent("t", seq, 1, "w", NOW, 1)


def model(runs: list[tuple[int, int, bool]], log: bool) -> tuple[list[int], int]:
    """Return the seqs that may be held at most, and the heaviest reading of the bound in bytes, one by one."""
    held: list[tuple[int, int]] = []
    lost = seq = 0
    for count, size, of_log in runs:
        for _ in range(count):
            seq += 1
            if of_log is log:
                held.append((seq, 200 + size))
                while len(held) > LINES or (sum(weight for _, weight in held) > BYTES and len(held) > 1):
                    lost = held.pop(0)[0]
    return [number for number, _ in held], lost


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([1, 2, 60, 400]), SIZES, st.booleans()), max_size=9))
def test_what_is_kept_is_within_bounds_and_the_same_in_runs_as_one_by_one(runs: list[tuple[int, int, bool]]) -> None:
    """R6, R19: the newest are kept, without a gap; the last that had to go is known, so that a later one is not missed."""
    single, batched = Tail(), Tail()
    seq = 0
    for count, size, log in runs:
        events = [made(seq + 1 + index, log) for index in range(count)]
        seq += count
        for event in events:
            single.add(event, size)
        batched.add_run(events, [size] * count)
    for log in (True, False):
        kept, lost = model(runs, log)
        for tail in (single, batched):
            ring = tail.logs if log else tail.outputs
            seqs = [event.seq for event in ring.events]
            assert len(seqs) <= LINES
            # Light ones are counted as if each were as heavy as a light one may be, once a heavy one has come.
            assert seqs == kept[len(kept) - len(seqs) :]
            assert ring.lost == lost or len(seqs) < len(kept)
            assert not seqs or ring.lost < seqs[0]
            if all(size > history._LIGHT for _, size, of_log in runs if of_log is log):
                assert (seqs, ring.lost) == (kept, lost)
        assert [e.seq for e in (single.logs if log else single.outputs).events] == [
            e.seq for e in (batched.logs if log else batched.outputs).events
        ]
    assert single.lost == batched.lost


def test_light_events_are_bounded_by_their_number_alone() -> None:
    """R6: LINES of them cannot be more than BYTES."""
    tail = Tail()
    tail.add_run([made(seq, False) for seq in range(1, 2501)], [history._LIGHT] * 2500)
    assert [event.seq for event in tail.outputs.events] == list(range(1501, 2501))
    assert tail.lost == 1500
    assert LINES * (history._LIGHT + 200) <= BYTES
