"""The logs of all workers as one: live, in memory, in files, and queried later (C-06).

::

    merger = LogMerger.of(service)
    merger.lines.subscribe(RotatedFiles("logs"))
    merger.follow(LogFilter(level="warning"), last=10).subscribe(lambda line: print(render(line)))
    for line in LogFiles("logs").query(LogFilter(task="resize", since="1h")): ...
"""

from __future__ import annotations

from rxtasks.logs.export import export
from rxtasks.logs.filter import LogFilter
from rxtasks.logs.line import LogLine
from rxtasks.logs.merger import LogCounts, LogMerger
from rxtasks.logs.reading import LogFiles, LogQuery
from rxtasks.logs.render import choose_format, render
from rxtasks.logs.rotated import RotatedFiles

__all__ = [
    "LogCounts",
    "LogFiles",
    "LogFilter",
    "LogLine",
    "LogMerger",
    "LogQuery",
    "RotatedFiles",
    "choose_format",
    "export",
    "render",
]
