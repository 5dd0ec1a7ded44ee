"""The directory in which a user's pools are found: nobody else may look or write into it.

$XDG_RUNTIME_DIR/rxtasks where there is such a directory (https://specifications.freedesktop.org/basedir-spec), else the same
below /run/user/UID, else rxtasks-UID below the directory for temporary files. What another user could have put there, or could
put something else in place of, is refused: owner and mode are looked at through the open directory, and no link is followed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Mapping
from typing import Final

from rxtasks.errors import SettingsError

__all__ = ["find_directory", "opened", "reachable"]

_NAME: Final = "rxtasks"
#: Bytes that the path of a socket may have, with the zero behind it (sun_path, unix(7)).
_LONGEST: Final = 108


def find_directory(environ: Mapping[str, str] | None = None, *, make: bool = True) -> str:
    """Return the path of the directory; with `make` it is there, and nobody else's.

    Raises:
        SettingsError: it cannot be made, or is not safe; says why, and what to do.
    """
    words = os.environ if environ is None else environ
    path = _choose(words)
    if make:
        _make(path)
    return path


def _choose(environ: Mapping[str, str]) -> str:
    uid = os.geteuid()
    for runtime in (environ.get("XDG_RUNTIME_DIR", ""), f"/run/user/{uid}"):
        # The specification: a relative path is to be ignored. One of another user is what `su` leaves in the environment.
        if os.path.isabs(runtime) and _is_own(runtime, uid):
            return os.path.join(runtime, _NAME)
    temp = environ.get("TMPDIR", "")
    return os.path.join(temp if os.path.isabs(temp) and os.path.isdir(temp) else "/tmp", f"{_NAME}-{uid}")


def _is_own(path: str, uid: int) -> bool:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == uid


def _make(path: str) -> None:
    _check_parent(os.path.dirname(path))
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        with opened(path):
            pass
    except OSError as error:
        raise SettingsError(
            f"the directory of control sockets {path} cannot be made ({error}); set XDG_RUNTIME_DIR to a directory of your own"
        ) from error


def _check_parent(path: str) -> None:
    """Who may rename in the directory above may put another one in the place of ours."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise SettingsError(
            f"the directory {path}, where that of the control sockets is to be, cannot be looked at ({error});"
            " set XDG_RUNTIME_DIR to a directory of your own"
        ) from error
    others = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not found.st_mode & stat.S_ISVTX
    if others or found.st_uid not in (0, os.geteuid()):
        raise SettingsError(
            f"the directory {path} can be changed by other users, so no control socket is put below it;"
            " set XDG_RUNTIME_DIR to a directory of your own, of mode 0700"
        )


@contextlib.contextmanager
def opened(path: str) -> Iterator[int]:
    """Give the descriptor of the directory, which is surely this user's alone.

    Raises:
        SettingsError: it is a link, no directory, another user's, or others may use it.
        OSError: it is not there, or cannot be opened.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENOTDIR):
            raise
        raise SettingsError(
            f"{path} is a link or no directory, so no control socket is looked for there; see who made it, and remove it"
        ) from None
    try:
        found = os.fstat(fd)
        if found.st_uid != os.geteuid():
            raise SettingsError(
                f"the directory of control sockets {path} belongs to user {found.st_uid}, not to you ({os.geteuid()}):"
                " what is in it cannot be trusted; set XDG_RUNTIME_DIR to a directory of your own"
            )
        if stat.S_IMODE(found.st_mode) & 0o077:
            raise SettingsError(
                f"the directory of control sockets {path} has mode {stat.S_IMODE(found.st_mode):04o}: others may have"
                f" put something into it; look at what is in it, then: chmod 700 {path}"
            )
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def reachable(path: str) -> Iterator[str]:
    """Give a path for the same file that fits into the address of a socket, however long the real one is.

    Raises:
        OSError: its directory is not there.
    """
    if len(os.fsencode(path)) < _LONGEST:
        yield path
        return
    fd = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{os.path.basename(path)}"
    finally:
        os.close(fd)
