from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.worker.harness import Process, worker


@pytest.fixture
def process() -> Iterator[Process]:
    """A worker process that is ready."""
    with worker() as made:
        yield made


@pytest.fixture(scope="module")
def shared() -> Iterator[Process]:
    """A worker process for all tests of a module that leave it as it was."""
    with worker() as made:
        yield made
