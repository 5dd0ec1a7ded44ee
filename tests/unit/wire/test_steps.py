"""Results of steps on their way."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxtasks.errors import ProtocolError
from rxtasks.wire.steps import join_restored, join_step, split_restored, split_step

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(NAMES, st.binary())
def test_a_step_comes_back(name: str, data: bytes) -> None:
    """R25 E-14: any name, any result, the empty one too."""
    assert split_step(join_step(name, data)) == (name, data)


@given(st.none() | st.binary().map(lambda data: pickle.dumps(data)), st.dictionaries(NAMES, st.binary()))
def test_what_was_kept_comes_back(checkpoint: bytes | None, steps: dict[str, bytes]) -> None:
    """R25 E-14: with a checkpoint and without; without steps the checkpoint travels as it is."""
    joined = join_restored(checkpoint, steps)
    assert split_restored(joined) == (checkpoint, steps)
    assert list(split_restored(joined)[1]) == list(steps)
    if not steps:
        assert joined is checkpoint


@given(st.dictionaries(NAMES, st.binary(), min_size=1), st.data())
def test_what_is_cut_short_is_an_error(steps: dict[str, bytes], data: st.DataObject) -> None:
    """R21: never other steps than were kept."""
    joined = join_restored(b"5", steps) or b""
    cut = joined[: data.draw(st.integers(7, len(joined) - 1))]
    try:
        checkpoint, found = split_restored(cut)
    except ProtocolError:
        return
    assert checkpoint == b"5" and found.items() <= steps.items()


def test_garbage_is_no_step() -> None:
    """R21: too short, a length beyond the end, a name that is no text."""
    for garbage in (b"", b"\1", b"\5\0\0\0ab", b"\1\0\0\0\xff"):
        with pytest.raises(ProtocolError):
            split_step(garbage)
