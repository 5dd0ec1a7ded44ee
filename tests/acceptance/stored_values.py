"""Handlers and classes of the tests of what a durable store carries; imported by the workers."""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass
from typing import Any

import attrs

from rxtasks import Secret, TaskContext, task


class Colour(enum.Enum):
    RED = "r"


@dataclass
class Point:
    x: int
    y: Any = None


@attrs.frozen
class Box:
    items: tuple[Any, ...]


class Unknown:
    """No class that a store knows how to write down."""

    def __init__(self, word: str) -> None:
        self.word = word


@task("values.echo")
def echo(value: Any, ctx: TaskContext) -> Any:
    ctx.emit(value)
    return value


@task("values.said")
def said(text: str, ctx: TaskContext) -> int:
    ctx.log.info("said {}", text)
    print(text)
    ctx.progress(1, 2, text)
    return len(text)


@task("values.boom")
def boom(text: str) -> None:
    raise ValueError(text)


@task("values.unknown")
def unknown(word: str) -> Any:
    return {"deep": [Unknown(word)]}


@task("values.unpicklable")
def unpicklable() -> Any:
    return open(os.devnull)


@task("values.large")
def large(size: int) -> str:
    return "x" * size


@task("values.uses_secret")
def uses_secret(secret: Secret, ctx: TaskContext) -> int:
    value = secret.reveal()
    ctx.emit({"secret": secret})
    ctx.log.info("signed with {}", secret)
    return len(value)


@task("values.fails_with_secret")
def fails_with_secret(secret: Secret) -> int:
    key = secret.reveal()
    return len(key) // 0
