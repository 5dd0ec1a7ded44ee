"""What the contexts of a worker's attempts lean on: directories, checkpoints, resources, the capture."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from rxtasks.clock import Clock
from rxtasks.wire.payload import PAYLOAD_LIMIT, dump_value, loads
from rxtasks.wire.steps import join_step, split_restored
from rxtasks.worker import capture
from rxtasks.worker.capture import Tap
from rxtasks.worker.context import TaskContext
from rxtasks.worker.equipment import Equipment
from rxtasks.worker.outbox import Outbox
from rxtasks.worker.tempdirs import TempRoot

if TYPE_CHECKING:
    from pathlib import Path

    from loguru import Logger

__all__ = ["Surroundings"]


class Surroundings:
    """The host of contexts (rxtasks.worker.hosting.Host), and the base of the executor.

    Args:
        outbox: where requests go.
        worker_id: what contexts and logs say.
        temp_root: where temp_dirs are made; None = the system's place.
        clock: measures run times.
        tap: the capture of this process, if it is set already.
        equipment: what outlives this; None = its own.
    """

    def __init__(
        self,
        outbox: Outbox,
        worker_id: str | None,
        temp_root: str | None,
        clock: Clock,
        tap: Tap | None,
        equipment: Equipment | None,
    ) -> None:
        self.outbox = outbox
        self.worker_id = worker_id
        self.monotonic_ns = clock.monotonic_ns
        #: Resources, and event loops.
        self.equipment = Equipment(worker_id) if equipment is None else equipment
        self._owns_equipment = equipment is None
        self.tap = tap
        #: Bytes that a result, an output or a checkpoint may take, pickled.
        self.max_payload = PAYLOAD_LIMIT
        #: The store outlives this process: what it keeps is tagged JSON.
        self.durable = False
        self._temp_root = temp_root
        #: Where temp_dirs are made.
        self.temp_dirs = TempRoot(temp_root)
        self._owns_tap = False
        self._lock = threading.Lock()

    def make_temp_dir(self, context: TaskContext) -> Path:
        """Make the directory of one attempt."""
        return self.temp_dirs.make(context.task_id, context.attempt)

    def keep_artifact(self, context: TaskContext, path: Path) -> Path:
        """Move a file out of an attempt's directory to where it stays."""
        from rxtasks.worker import tempdirs

        base = path if path.is_absolute() else context.temp_dir
        return tempdirs.keep(path, base, self._temp_root, context.task_id)

    def save_checkpoint(self, context: TaskContext, state: Any) -> None:
        """Send a checkpoint up, and return when it is durable."""
        self._keep(context, "checkpoint", self._dump(state, "checkpoint"))

    def restored(self, context: TaskContext) -> Any:
        """Return the checkpoint that came with the assignment."""
        blob = split_restored(context._assignment.restored)[0]
        return None if blob is None else self._load(blob, "checkpoint")

    def kept_steps(self, context: TaskContext) -> dict[str, bytes]:
        """Return the results of steps that came with the assignment, as they are kept."""
        return split_restored(context._assignment.restored)[1]

    def load_step(self, context: TaskContext, data: bytes) -> Any:
        """Return the result of a step."""
        return self._load(data, "result of a step")

    def save_step(self, context: TaskContext, name: str, value: Any) -> None:
        """Send the result of a step up, and return when it is durable."""
        self._keep(context, "step", join_step(name, self._dump(value, f"result of step {name!r}")))

    def _dump(self, value: Any, what: str) -> bytes:
        if self.durable:
            from rxtasks.wire.tagged import STORED_LIMIT, dump_tagged

            return dump_tagged(value, what=what, limit=min(self.max_payload, STORED_LIMIT))
        return dump_value(value, what=what, limit=self.max_payload)

    def _load(self, blob: bytes, what: str) -> Any:
        if self.durable:
            from rxtasks.wire.tagged import load_tagged

            return load_tagged(blob)
        return loads(blob, what=what)

    def _keep(self, context: TaskContext, what: str, blob: bytes) -> None:
        lane = self.outbox.lanes.get(context._assignment.token)
        if lane is not None:
            self.outbox.request(lane, what, blob)

    def resource(self, name: str) -> Any:
        """Return a resource of the worker."""
        return self.equipment.resources.get(name)

    def logger(self, context: TaskContext) -> Logger:
        """Return the logger of a context; once its attempt has ended and nothing is captured here, a plain one."""
        if self.tap is None and context._way.closed:
            from loguru import logger

            return logger.bind(task_id=context.task_id, worker_id=self.worker_id)
        return self.open_tap().logger(context)  # type: ignore[no-any-return]

    def open_tap(self) -> Tap:
        """Return the capture of this process, set for this worker if it is not yet."""
        with self._lock:
            if self.tap is None:
                self.tap = capture.acquire()
                self._owns_tap = True
            return self.tap

    def release_tap(self) -> None:
        """Take the capture out, as far as this worker had it set."""
        with self._lock:
            if self._owns_tap:
                self._owns_tap = False
                self.tap = None
                capture.release()
