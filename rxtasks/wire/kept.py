"""Where a result is kept that a durable store cannot hold: a file beside the store, named after its task.

The worker names it in the task's error, and the store writes it, before the end of the task is committed.
"""

from __future__ import annotations

import hashlib
import os
from urllib.parse import quote

__all__ = ["kept_path"]

#: Characters of a file's name; a longer id is told by its hash.
_LONGEST = 200


def kept_path(folder: str, task_id: str) -> str:
    """Return the path of the file; any id gives a plain name within the folder."""
    name = quote(task_id, safe="", errors="backslashreplace").replace(".", "%2E")
    if len(name) > _LONGEST:
        name = "sha256-" + hashlib.sha256(name.encode()).hexdigest()
    return os.path.join(folder, f"{name}.pickle")
