"""The command line of a worker process."""

from __future__ import annotations

import errno
import site
import subprocess
import sys
from pathlib import Path
from typing import Final

__all__ = ["command_line"]

#: Where the package lies: a worker must find the same one.
_ROOT: Final = str(Path(__file__).resolve().parents[2])

_BOOT: Final = "import sys; sys.path.insert(0, sys.argv.pop(1)); from {} import main; main(sys.argv[1:])"


def command_line(*arguments: str, module: str = "rxtasks.worker.__main__") -> list[str]:
    """Return the command of a worker: `python -P -m rxtasks.worker ARGUMENTS`, with this interpreter's own flags.

    `module` is another one to run, whose main() takes the arguments.

    Where the package is not installed (a source tree), its directory is handed over on the command line: -P keeps the
    working directory out of sys.path.

    Raises:
        FileNotFoundError: nobody knows where this interpreter's program is.
    """
    if not sys.executable:
        text = (
            f"no program to start a worker with: sys.executable is {sys.executable!r}; a program that embeds Python sets it"
            ' to the path of a python of the same version, or uses isolation="thread"'
        )
        raise FileNotFoundError(errno.ENOENT, text)
    flags = [flag for flag in subprocess._args_from_interpreter_flags() if flag != "-P"]  # type: ignore[attr-defined]
    installed = [*site.getsitepackages(), site.getusersitepackages()]
    if _ROOT in installed:
        return [sys.executable, *flags, "-P", "-m", module.removesuffix(".__main__"), *arguments]
    return [sys.executable, *flags, "-P", "-c", _BOOT.format(module), _ROOT, *arguments]
