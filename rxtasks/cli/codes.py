"""The exit codes of every command, in one place."""

from __future__ import annotations

__all__ = ["DONE", "EPILOG", "FAILED", "INTERRUPTED", "NOT_FOUND", "RUNS_ALREADY", "UNREAD", "USAGE"]

#: What was asked for has been done.
DONE = 0
#: It failed: a task failed, a check found damage, the output could not be written.
FAILED = 1
#: Wrong usage or configuration; nothing has been done.
USAGE = 2
#: No pool runs, or there is nothing of that id.
NOT_FOUND = 3
#: A pool runs on that store already.
RUNS_ALREADY = 4
#: Ctrl-C.
INTERRUPTED = 130
#: The reader of standard output left: what a shell reports of a program ended by a broken pipe (128 + SIGPIPE).
UNREAD = 141

EPILOG = """\b
Exit codes: 0 done; 1 it failed; 2 wrong usage or configuration; 3 no pool
runs, or nothing has that id; 4 a pool runs already; 130 interrupted; 141 the
reader of the output left.
"""
