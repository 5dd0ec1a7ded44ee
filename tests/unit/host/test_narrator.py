"""What a pool says on stderr."""

from __future__ import annotations

import os

from rxtasks.host import narrator
from rxtasks.host.narrator import Narrator


def test_lines_are_written_in_order_to_the_last_one() -> None:
    read, write = os.pipe()
    said = Narrator(write)
    for number in range(500):
        said.say(f"line {number} \udce9")
    said.close()
    os.close(write)
    with open(read, encoding="utf-8") as file:
        assert [f"line {number} \\udce9" for number in range(500)] == file.read().splitlines()


def test_a_reader_that_takes_nothing_holds_up_nobody_and_is_told_what_it_missed() -> None:
    """The oldest lines go; neither saying nor closing waits for the reader."""
    read, write = os.pipe()
    said = Narrator(write)
    for number in range(narrator.MAX_LINES + 20_000):
        said.say(f"line {number:06} {'x' * 100}")
    with open(read, "rb", buffering=0) as file:
        text = b""
        while b"line 029999" not in text:
            text += file.read(1 << 16)
        assert b" lines were not shown: this terminal was too slow\n" in text
        said.close()
        os.close(write)


def test_a_terminal_that_has_gone_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    said = Narrator(write)
    for number in range(3):
        said.say(str(number))
    said.close()
    os.close(write)
    assert not said._thread.is_alive()
