"""The words between core and driver have all their readers."""

from __future__ import annotations

from typing import get_args

from rxtasks.config import Settings
from rxtasks.engine.core import Core
from rxtasks.engine.driver import Driver
from rxtasks.pool.info import WorkerSpec
from rxtasks.pool.words import Instruction, Stimulus


def test_every_stimulus_has_its_handler_in_the_core() -> None:
    """E-01: a stimulus that nobody takes cannot be added."""
    assert set(get_args(Stimulus)) == set(Core([WorkerSpec()], Settings())._handlers)


def test_every_instruction_is_done_by_the_driver() -> None:
    """E-01: an instruction that nobody carries out cannot be added."""
    assert set(get_args(Instruction)) == set(Driver._do)
