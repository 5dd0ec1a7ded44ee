"""The commands of `rxtasks config`, by name."""

from __future__ import annotations

from rxtasks.cli.codes import EPILOG
from rxtasks.cli.group import Lazy, lazy_group

__all__ = ["config"]

config = lazy_group(
    "config",
    {
        "show": Lazy("rxtasks.cli.config.show:show", "Show each setting with its value and where that comes from."),
        "check": Lazy("rxtasks.cli.config.check:check", "Say what is wrong with the configuration, or with FILE."),
        "path": Lazy("rxtasks.cli.config.path:path", "Show which configuration file is read."),
    },
    help="See which settings hold, and where each comes from.",
    epilog=EPILOG,
)
