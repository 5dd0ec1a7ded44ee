"""Generated handlers: programs of small steps, and the hypothesis strategy that makes them.

A program is a list of tuples, the first place of each says what to do. `perform` is run in the worker and imports
nothing of hypothesis.
"""

from __future__ import annotations

import logging
import sys
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from rxtasks.worker.context import TaskContext

__all__ = ["Broken", "Shown", "perform", "programs"]

Step = tuple[Any, ...]

#: What a program may raise.
ERRORS: dict[str, type[Exception]] = {
    "ValueError": ValueError,
    "KeyError": KeyError,
    "OSError": OSError,
    "ZeroDivisionError": ZeroDivisionError,
}


class Broken(Exception):
    """An exception with code and details."""

    def __init__(self, message: str, code: Any, details: Any) -> None:
        super().__init__(message, code, details)
        self.code = code
        self.details = details


class Shown:
    """An object that is no JSON: it travels by pickle."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shown) and repr(other.value) == repr(self.value)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Shown({self.value!r})"


def perform(step: Step, ctx: TaskContext) -> tuple[bool, Any]:
    """Do one step; return (True, result) if the program returns here."""
    match step:
        case ("print", text, end):
            print(text, end=end)
        case ("stderr", text):
            sys.stderr.write(text)
        case ("log", level, text, fields):
            ctx.log.bind(**fields).log(level, "{}", text)
        case ("logging", level, text):
            logging.getLogger("rxtasks.testing.programs.said").log(level, "%s", text)
        case ("loguru", level, text):
            from loguru import logger

            logger.log(level, "{}", text)
        case ("warn", text):
            # With a registry of its own: shown every time, not once for each text.
            warnings.warn_explicit(text, UserWarning, __file__, 1)
        case ("emit", value):
            ctx.emit(value)
        case ("emit object", value):
            ctx.emit(Shown(value))
        case ("progress", current, total, text, data):
            ctx.progress(current, total, text, **data)
        case ("advance", by):
            ctx.advance(by)
        case ("return", value):
            return True, value
        case ("return object", value):
            return True, Shown(value)
        case ("raise", name, text):
            raise ERRORS[name](text)
        case ("raise broken", text, code, details):
            raise Broken(text, code, details)
        case ("raise from", text, cause):
            try:
                raise ValueError(cause)
            except ValueError as error:
                raise Broken(text, None, None) from error
        case _:
            raise AssertionError(f"there is no step {step!r}")
    return False, None


def programs(max_steps: int = 12) -> SearchStrategy[list[Step]]:
    """Make programs; most end by returning or raising something."""
    from hypothesis import strategies as st

    from rxtasks.testing.strategies import json_objects, json_values, numbers, texts

    levels = st.sampled_from(["TRACE", "DEBUG", "INFO", "SUCCESS", "WARNING", "ERROR", "CRITICAL"])
    data = st.dictionaries(st.sampled_from(["a", "b", "rows"]), json_values(4), max_size=3)
    bytes_or_tuple = (
        st.binary(max_size=20)
        | st.tuples(numbers(), texts())
        | st.frozensets(st.integers(), max_size=1)
        | json_values(4)
    )
    step = st.one_of(
        st.tuples(st.just("print"), texts(), st.sampled_from(["\n", "", "\r\n", "\n\n"])),
        st.tuples(st.just("stderr"), texts()),
        st.tuples(st.just("log"), levels, texts(), data),
        st.tuples(st.just("logging"), st.sampled_from([10, 20, 25, 30, 40, 50]), texts()),
        st.tuples(st.just("loguru"), levels, texts()),
        st.tuples(st.just("warn"), texts()),
        st.tuples(st.just("emit"), json_values()),
        st.tuples(st.just("emit object"), bytes_or_tuple),
        st.tuples(st.just("progress"), numbers(), numbers() | st.none(), texts() | st.none(), data),
        st.tuples(st.just("advance"), st.integers(-5, 5)),
    )
    end = st.one_of(
        st.just([]),
        st.tuples(st.just("return"), json_values()).map(lambda s: [s]),
        st.tuples(st.just("return"), bytes_or_tuple).map(lambda s: [s]),
        st.tuples(st.just("return object"), bytes_or_tuple).map(lambda s: [s]),
        st.tuples(st.just("raise"), st.sampled_from(sorted(ERRORS)), texts()).map(lambda s: [s]),
        st.tuples(st.just("raise broken"), texts(), texts() | st.integers(-9, 9) | st.none(), json_objects()).map(
            lambda s: [s]
        ),
        st.tuples(st.just("raise from"), texts(), texts()).map(lambda s: [s]),
    )
    return st.tuples(st.lists(step, max_size=max_steps), end).map(lambda parts: parts[0] + parts[1])
