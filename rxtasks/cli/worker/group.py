"""The commands of `rxtasks worker`, by name."""

from __future__ import annotations

from rxtasks.cli.codes import EPILOG
from rxtasks.cli.group import Lazy, lazy_group

__all__ = ["worker"]

worker = lazy_group(
    "worker",
    {
        "start": Lazy("rxtasks.cli.worker.start:start", "Start the pool of a store."),
        "status": Lazy("rxtasks.cli.worker.status:status", "Show the pool, what each worker does, and the queue."),
        "list": Lazy("rxtasks.cli.worker.listing:listing", "List the workers, one a line."),
        "scale": Lazy("rxtasks.cli.worker.steer:scale", "Have so many workers."),
        "restart": Lazy("rxtasks.cli.worker.steer:restart", "Replace a worker when it has ended what it runs."),
        "kill": Lazy("rxtasks.cli.worker.steer:kill", "Kill a worker; what it runs is run again by another."),
        "pause": Lazy("rxtasks.cli.worker.steer:pause", "Begin no new tasks; those that run go on."),
        "resume": Lazy("rxtasks.cli.worker.steer:resume", "Begin new tasks again."),
        "stop": Lazy("rxtasks.cli.worker.stop:stop", "Stop the pool and wait until it has gone."),
        "logs": Lazy("rxtasks.cli.worker.logs:logs", "Show the merged logs of the pool, or of one worker."),
        "unit": Lazy("rxtasks.cli.worker.unit:unit", "Print a systemd unit for the pool."),
    },
    help="Start, watch and steer the pool of a store.",
    epilog=EPILOG,
)
