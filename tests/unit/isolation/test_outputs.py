"""Whose it is what a worker's process writes to its descriptors 1 and 2."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from rxtasks.isolation.base import Host, Reader
from rxtasks.isolation.outputs import Outputs
from rxtasks.pool.words import Stimulus


class FakeHost(Host):
    """Keeps what is to be read and what is to be called later."""

    def __init__(self) -> None:
        self.readers: dict[int, Reader] = {}
        self.due: list[Callable[[], list[Stimulus]]] = []

    def watch(self, fd: int, events: int, reader: Reader) -> None:
        self.readers[fd] = reader

    def unwatch(self, fd: int) -> None:
        self.readers.pop(fd, None)

    def later(self, seconds: float, call: Callable[[], list[Stimulus]]) -> None:
        self.due.append(call)

    def pass_time(self) -> None:
        """Call what was due until now."""
        due, self.due = self.due, []
        for call in due:
            call()


class Pipes:
    """The outputs of a worker, and what was said by whom: (whether a task was known to run, stream, line)."""

    def __init__(self) -> None:
        self.host = FakeHost()
        self.said: list[tuple[bool, str, str]] = []
        self.runs = self.awaits = False
        self.read, self.write = os.pipe()
        self.error_read, self.error_write = os.pipe()
        self.outputs = Outputs(self.read, self.error_read, self._written, lambda: self.runs, lambda: [], self.host)
        self.outputs.awaits = lambda: self.awaits

    def _written(self, stream: str, lines: list[str]) -> list[Stimulus]:
        self.said += [(self.runs, stream, line) for line in lines]
        return []

    def put(self, text: str) -> None:
        """Write to descriptor 1, and have the parent see it."""
        os.write(self.write, text.encode())
        self.host.readers[self.read](1)


@pytest.fixture
def pipes() -> Iterator[Pipes]:
    made = Pipes()
    yield made
    made.outputs.close()
    os.close(made.write)
    os.close(made.error_write)


def test_what_a_task_writes_before_it_is_known_to_run_waits_for_that(pipes: Pipes) -> None:
    """E-10: on a loaded machine the report that a task has begun may be long after what it wrote: it is the task's."""
    pipes.awaits = True
    pipes.put("one\n")
    for _ in range(20):
        pipes.host.pass_time()
    assert [] == pipes.said
    pipes.runs = True
    pipes.host.pass_time()
    assert [(True, "stdout", "one")] == pipes.said
    pipes.put("two\n")
    assert [(True, "stdout", "one"), (True, "stdout", "two")] == pipes.said


def test_what_is_written_while_no_task_is_expected_is_the_worker_s(pipes: Pipes) -> None:
    """E-10: nobody waits for a task that was not assigned."""
    pipes.put("one\n")
    pipes.host.pass_time()
    assert [(False, "stdout", "one")] == pipes.said
    assert not pipes.host.due


def test_a_report_that_never_comes_is_waited_for_once(pipes: Pipes) -> None:
    """E-10: C code that holds the interpreter from the start of its task, and fills the pipe, is not held up for long."""
    pipes.awaits = True
    pipes.put("one\n")
    turns = 0
    while not pipes.said:
        pipes.host.pass_time()
        turns += 1
        assert turns < 1000
    pipes.put("two\n")
    pipes.host.pass_time()
    assert [(False, "stdout", "one"), (False, "stdout", "two")] == pipes.said
    pipes.runs = True
    pipes.put("three\n")
    pipes.runs = False
    pipes.put("four\n")
    pipes.host.pass_time()
    assert (True, "stdout", "three") == pipes.said[-1]


def test_what_the_next_attempt_writes_while_the_pipe_is_read_is_not_the_last_one_s(
    pipes: Pipes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E-10: as soon as the pipe is empty the worker may begin the next task; its output is read behind the reports."""
    pipes.runs = True
    read = os.read

    def read_and_be_overtaken(fd: int, count: int) -> bytes:
        data = read(fd, count)
        if data == b"first\n":
            os.write(pipes.write, b"second\n")
        return data

    monkeypatch.setattr(os, "read", read_and_be_overtaken)
    pipes.put("first\n")
    assert pipes.said == [(True, "stdout", "first")]
    pipes.host.readers[pipes.read](1)
    assert pipes.said[1:] == [(True, "stdout", "second")]
