"""A real IPython kernel, spoken to as a notebook speaks to it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

ROOT = Path(__file__).parents[2]

#: Seconds that anything may take at most.
SOON = 60.0

Message = dict[str, Any]


class Cell:
    """One run of a cell: the messages whose parent it is."""

    def __init__(self, kernel: Kernel, msg_id: str) -> None:
        self._kernel = kernel
        self.msg_id = msg_id

    @property
    def messages(self) -> list[Message]:
        return [message for message in self._kernel.messages if message["parent_header"].get("msg_id") == self.msg_id]

    def of_type(self, *kinds: str) -> list[Message]:
        return [message["content"] for message in self.messages if message["msg_type"] in kinds]

    @property
    def text(self) -> str:
        """What it printed."""
        return "".join(content["text"] for content in self.of_type("stream"))

    @property
    def shown(self) -> list[Message]:
        """The mime bundles that it displayed, its result included."""
        return [content["data"] for content in self.of_type("display_data", "execute_result")]

    @property
    def updates(self) -> list[Message]:
        """The mime bundles with which it changed what it had displayed."""
        return [content["data"] for content in self.of_type("update_display_data")]

    @property
    def error(self) -> str | None:
        """The name of the exception that ended it."""
        errors = self.of_type("error")
        return errors[0]["ename"] if errors else None

    @property
    def over(self) -> bool:
        return any(content["execution_state"] == "idle" for content in self.of_type("status"))

    def wait(self, until: Callable[[Cell], bool]) -> Cell:
        """Wait until `until` holds, for at most SOON."""
        self._kernel.wait(lambda: until(self), self)
        return self

    def done(self) -> Cell:
        """Wait for the end of the run; it must not have ended with an error."""
        self.wait(lambda cell: cell.over)
        assert self.error is None, self.of_type("error")[0]["traceback"]
        return self


class Kernel:
    """A kernel process and one client of it; a context manager."""

    def __init__(self, directory: Path, **environment: str) -> None:
        self._manager = KernelManager(kernel_name="python3")
        self._manager.start_kernel(
            cwd=str(directory),
            env={**os.environ, "PYTHONPATH": str(ROOT), "IPYTHONDIR": str(directory / ".ipython"), **environment},
        )
        self._client: BlockingKernelClient = self._manager.blocking_client()
        self._client.start_channels()
        #: Everything that came on the iopub channel.
        self.messages: list[Message] = []

    def __enter__(self) -> Kernel:
        self._client.wait_for_ready(timeout=SOON)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)

    def start(self, code: str, cell_id: str | None = None) -> Cell:
        """Send a cell to be run; `cell_id` is what a notebook says it is."""
        message = self._client.session.msg(
            "execute_request",
            {
                "code": code,
                "silent": False,
                "store_history": True,
                "user_expressions": {},
                "allow_stdin": False,
                "stop_on_error": False,
            },
            metadata={} if cell_id is None else {"cellId": cell_id},
        )
        self._client.shell_channel.send(message)
        return Cell(self, message["header"]["msg_id"])

    def run(self, code: str, cell_id: str | None = None) -> Cell:
        """Run a cell to its end; it must not fail."""
        return self.start(code, cell_id).done()

    def interrupt(self) -> None:
        """Do what the stop button does."""
        self._manager.interrupt_kernel()

    def descendants(self) -> list[int]:
        """Return the process ids of all that descends from the kernel."""
        found = [self._pid]
        for pid in found:
            for thread in Path(f"/proc/{pid}/task").iterdir():
                found += map(int, (thread / "children").read_text().split())
        return found[1:]

    def restart(self) -> None:
        """Do what the restart button does."""
        self._manager.restart_kernel(now=False)

    def shut_down(self) -> None:
        """Do what closing the notebook does."""
        self._manager.shutdown_kernel(now=False)

    def kill(self) -> None:
        """Do what the kernel's killer does when memory runs out."""
        os.kill(self._pid, signal.SIGKILL)

    @property
    def _pid(self) -> int:
        return int(self._manager.provisioner.pid)  # type: ignore[union-attr]

    def wait(self, until: Callable[[], bool], what: Any = None) -> None:
        """Take messages until `until` holds, for at most SOON."""
        end = time.monotonic() + SOON
        while not until():
            left = end - time.monotonic()
            assert left > 0, f"not within {SOON} s: {what}; the last messages: {self.messages[-5:]}"
            try:
                self.messages.append(self._client.get_iopub_msg(timeout=min(left, 1.0)))
            except Exception as error:  # queue.Empty, by a name of the client's own making
                assert type(error).__name__ == "Empty", error
