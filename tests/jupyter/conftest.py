"""One kernel for the tests of a file: each uses names of its own in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.jupyter.kernel import Kernel


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with Kernel(tmp_path_factory.mktemp("kernel")) as started:
        started.run("import os, sys\nimport rxtasks.jupyter as rxj\nfrom rxtasks import *")
        started.run("%load_ext rxtasks.jupyter")
        started.run("service = TaskService(workers=2, echo=None)")
        yield started


@pytest.fixture
def gate(tmp_path: Path) -> str:
    """A FIFO that a task waits at by opening it to read."""
    path = tmp_path / "gate"
    os.mkfifo(path)
    return str(path)
