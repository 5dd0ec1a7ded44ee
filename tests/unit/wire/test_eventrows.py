"""The check of event rows as they come in."""

from __future__ import annotations

from typing import Any

import pytest

from rxtasks.errors import ProtocolError
from rxtasks.wire.eventrows import check_rows
from rxtasks.wire.message import OUTPUTS, WHOLE

NOW = 1_700_000_000_000_000


def deep(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


def test_a_run_of_outputs_is_taken() -> None:
    """R25: a row of a newer worker may have more places; they are cut off."""
    row = [OUTPUTS, 1, 2, [NOW, NOW], [{"a": 1}, None], [7, 4], "newer"]
    assert 0 == check_rows([row])
    assert [OUTPUTS, 1, 2, [NOW, NOW], [{"a": 1}, None], [7, 4]] == row


def test_whole_attempts_are_taken() -> None:
    """R25: a row of a newer worker may have more places; they are cut off."""
    row = [WHOLE, [1, 2], [1, 4], [NOW, NOW], [NOW, NOW], [{"a": 1}, None], [7, 4], "newer"]
    assert 0 == check_rows([row])
    assert [WHOLE, [1, 2], [1, 4], [NOW, NOW], [NOW, NOW], [{"a": 1}, None], [7, 4]] == row


@pytest.mark.parametrize(
    "row",
    [
        [OUTPUTS, 1, 2, [], [], []],
        [OUTPUTS, 1, 2, [NOW], [5, 6], [1, 1]],
        [OUTPUTS, 1, 2, [NOW, NOW], [5, 6], [1]],
        [OUTPUTS, 1, 2, [NOW, NOW], [5], [1, 1]],
        [OUTPUTS, 1, 2, [NOW, "later"], [5, 6], [1, 1]],
        [OUTPUTS, 1, 2, [NOW, True], [5, 6], [1, 1]],
        [OUTPUTS, 1, 2, [NOW, NOW], [5, 6], [1, 1.0]],
        [OUTPUTS, 1, 2, NOW, [5], [1]],
        [OUTPUTS, 1, 2, [NOW], {"0": 5}, [1]],
        [OUTPUTS, "1", 2, [NOW], [5], [1]],
        [OUTPUTS, 1, None, [NOW], [5], [1]],
        [OUTPUTS, 1, 2, [NOW, NOW], [5, deep(300)], [1, 602]],
        [WHOLE, [], [], [], [], [], []],
        [WHOLE, 1, [1], [NOW], [NOW], [5], [3]],
        [WHOLE, ["1"], [1], [NOW], [NOW], [5], [3]],
        [WHOLE, [1], [True], [NOW], [NOW], [5], [3]],
        [WHOLE, [1], [1], [None], [NOW], [5], [3]],
        [WHOLE, [1], [1], [NOW], [1.5], [5], [3]],
        [WHOLE, [1], [1], [NOW], [NOW], {"0": 5}, [3]],
        [WHOLE, [1], [1], [NOW], [NOW], [5], ["3"]],
        [WHOLE, [1, 2], [1, 1], [NOW, NOW], [NOW, NOW], [5], [3, 3]],
        [WHOLE, [1, 2], [1], [NOW, NOW], [NOW, NOW], [5, 5], [3, 3]],
        [WHOLE, [1, 2], [1, 1], [NOW, NOW], [NOW, NOW], [5, 5], [3]],
        [WHOLE, [1], [1], [NOW], [NOW], [5]],
        [WHOLE, [1, 2], [1, 1], [NOW, NOW], [NOW, NOW], [5, deep(300)], [3, 3]],
    ],
)
def test_a_bundle_that_is_none_is_refused(row: list[Any]) -> None:
    """R3: whatever a worker sends, the core is given what it can unpack."""
    with pytest.raises(ProtocolError):
        check_rows([row])
