"""Answers to several questions that are asked at once, and are answered by another thread one by one."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

from rxtasks.engine.parts import ANSWER

__all__ = ["Answers"]

T = TypeVar("T")


class Answers(Generic[T]):
    """Collects `count` answers, each an error or a value, in the order of the questions."""

    def __init__(self, count: int) -> None:
        self._found: dict[int, T | BaseException] = {}
        self._count = count
        self._whole = threading.Event()
        if not count:
            self._whole.set()

    def take(self, at: int, answer: T | BaseException) -> None:
        """Take the answer to question `at` (from 0). Any thread."""
        self._found[at] = answer
        if len(self._found) == self._count:
            self._whole.set()

    def wait(self) -> list[T]:
        """Return all answers, when they are there.

        Raises:
            TimeoutError: one is missing for too long.
            Exception: the first answer that is an error.
        """
        if not self._whole.wait(ANSWER):
            raise TimeoutError("the store has not answered in time")
        answers: list[T] = []
        for at in range(self._count):
            answer = self._found[at]
            if isinstance(answer, BaseException):
                raise answer
            answers.append(answer)
        return answers
