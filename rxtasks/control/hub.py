"""All events of all tasks, once for any number of readers."""

from __future__ import annotations

from rxtasks.service import TaskService

__all__ = ["Hub"]


class Hub:
    def __init__(self, service: TaskService) -> None:
        self._service = service

    def close(self) -> None:
        pass
