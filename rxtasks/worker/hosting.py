"""What a TaskContext needs of what runs it; for type checkers only, nothing imports it at run time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from loguru import Logger

    from rxtasks.worker.context import TaskContext

__all__ = ["Host", "Way"]


class Way(Protocol):
    """Where a context's events go: a Lane, or nowhere for a detached context."""

    closed: bool

    def log(self, level: str, message: str, stream: str, fields: dict[str, Any] | None = None) -> bool: ...

    def progress(
        self, current: float, total: float | None, message: str | None, data: dict[str, Any] | None
    ) -> None: ...

    def output(self, value: Any) -> None: ...

    def revealed(self, value: str) -> None: ...


class Host(Protocol):
    """What a context needs of what runs it."""

    worker_id: str | None

    def monotonic_ns(self) -> int: ...

    def make_temp_dir(self, context: TaskContext) -> Path: ...

    def keep_artifact(self, context: TaskContext, path: Path) -> Path: ...

    def save_checkpoint(self, context: TaskContext, state: Any) -> None: ...

    def restored(self, context: TaskContext) -> Any: ...

    def kept_steps(self, context: TaskContext) -> dict[str, bytes]: ...

    def load_step(self, context: TaskContext, data: bytes) -> Any: ...

    def save_step(self, context: TaskContext, name: str, value: Any) -> None: ...

    def resource(self, name: str) -> Any: ...

    def logger(self, context: TaskContext) -> Logger: ...
