from __future__ import annotations

from collections.abc import Iterator

import pytest

from rxtasks import TaskService
from tests.chaos.support import Witness, service

Pool = tuple[TaskService, Witness]


@pytest.fixture(scope="module")
def shared() -> Iterator[Pool]:
    """A service with two worker processes for all tests of a module."""
    with service(2) as made:
        yield made
