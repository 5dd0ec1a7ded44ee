"""What goes wrong between a command and a pool."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rxtasks.errors import RxTasksError

if TYPE_CHECKING:
    from rxtasks.control.place import PoolInfo

__all__ = ["ControlError", "PoolRuns"]


class PoolRuns(RxTasksError):
    """A pool of this store runs already; `pid` is its process (None: it has not said yet), `info` all that it has told."""

    code = "POOL_RUNS"

    def __init__(self, pid: int | None, store: str, info: PoolInfo | None = None) -> None:
        who = "another process" if pid is None else f"process {pid}"
        super().__init__(
            f"a pool of the store {store} runs already, in {who}; use that one (rxtasks worker status), stop it"
            " (rxtasks worker stop), or give another store"
        )
        self.pid = pid
        self.store = store
        self.info = info


class ControlError(RxTasksError):
    """A pool could not be reached, or refused.

    `status` is that of HTTP, 0 where no answer came; `code` a stable word for programs; `hint` what to try, "" if nothing.
    """

    def __init__(self, status: int, code: str, message: str, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(f"{message}; {hint}" if hint else message)
        self.status = status
        self.code = code
        self.message = message
        self.hint = hint
        #: Seconds after which to ask again, where the pool said so.
        self.retry_after = retry_after
