from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.observe.support import Core


@pytest.fixture
def core() -> Iterator[Core]:
    made = Core()
    yield made
    made.close()
