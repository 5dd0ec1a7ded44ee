"""Files by pattern: lazy, sorted, and without what was excluded.

`glob.iglob` yields in the order of the directory on disk, which differs between machines; here each directory is
sorted, so that the same tree gives the same order everywhere, with memory for one directory per level only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase, translate

__all__ = ["Excluder", "has_magic", "matches"]

_MAGIC = re.compile(r"[*?[]")


def has_magic(text: str) -> bool:
    """Say whether `text` has a wildcard: `*`, `?` or `[`."""
    return _MAGIC.search(text) is not None


class Excluder:
    """Decides what `--exclude` leaves out.

    A pattern with a slash is matched against the whole path, one without against the last name; `*` matches slashes
    too, as in `fnmatch`.
    """

    def __init__(self, patterns: Sequence[str] = ()) -> None:
        self._patterns = tuple(patterns)

    def file(self, path: str) -> bool:
        """Say whether `path` is excluded."""
        return any(
            fnmatchcase(path, pattern) if "/" in pattern else fnmatchcase(os.path.basename(path), pattern)
            for pattern in self._patterns
        )

    def tree(self, directory: str) -> bool:
        """Say whether everything below `directory` is excluded, so that it need not be read."""
        inside = directory.rstrip("/") + "/"
        return any(pattern.endswith("/*") and fnmatchcase(inside, pattern) for pattern in self._patterns)


def matches(pattern: str, exclude: Excluder | None = None) -> Iterator[str]:
    """Yield the paths that match `pattern`, sorted within each directory; `**` matches any depth of directories.

    Names that begin with a dot are matched only by a part of the pattern that does, as in a shell; `**` follows no
    symbolic links to directories. A pattern that ends with a slash matches directories only. A directory that cannot be
    read is passed over.
    """
    exclude = exclude or Excluder()
    root, parts = _split(os.path.expanduser(pattern))
    directories = pattern.endswith("/")
    for path in _expand(root, parts, exclude):
        if not exclude.file(path) and (not directories or os.path.isdir(path)):
            yield path


def _split(pattern: str) -> tuple[str, list[str]]:
    """Return the leading part without wildcards, and the parts after it."""
    parts = [part for part in pattern.split("/") if part]
    fixed = 0
    while fixed < len(parts) and not has_magic(parts[fixed]):
        fixed += 1
    root = ("/" if pattern.startswith("/") else "") + "/".join(parts[:fixed])
    rest: list[str] = []
    for part in parts[fixed:]:
        if part != "**" or not rest or rest[-1] != "**":
            rest.append(part)
    return root, rest


def _expand(base: str, parts: list[str], exclude: Excluder) -> Iterator[str]:
    if not parts:
        if base and os.path.lexists(base):
            yield base
        return
    part, rest = parts[0], parts[1:]
    if part == "**":
        yield from _descend(base, rest, exclude)
    elif not has_magic(part):
        yield from _expand(_join(base, part), rest, exclude)
    else:
        wanted = _matcher(part)
        for name, is_directory, _ in _entries(base):
            if not wanted(name):
                continue
            path = _join(base, name)
            if not rest:
                yield path
            elif is_directory and not exclude.tree(path):
                yield from _expand(path, rest, exclude)


def _descend(base: str, rest: list[str], exclude: Excluder) -> Iterator[str]:
    """Yield the matches of `rest` in `base` and every directory below; directories in depth-first order."""
    if rest:
        yield from _expand(base, rest, exclude)
    for name, is_directory, is_link in _entries(base):
        if name.startswith("."):
            continue
        path = _join(base, name)
        if not rest:
            yield path
        if is_directory and not is_link and not exclude.tree(path):
            yield from _descend(path, rest, exclude)


def _matcher(part: str) -> Callable[[str], bool]:
    found = re.compile(translate(part)).match
    hidden = part.startswith(".")
    return lambda name: (hidden or not name.startswith(".")) and found(name) is not None


def _entries(directory: str) -> list[tuple[str, bool, bool]]:
    """Return (name, is a directory, is a symbolic link) of all entries, sorted by name; none where it is unreadable."""
    try:
        with os.scandir(directory or ".") as entries:
            return sorted((entry.name, _is_directory(entry), entry.is_symlink()) for entry in entries)
    except OSError:
        return []


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _join(base: str, name: str) -> str:
    return f"{base}{name}" if not base or base.endswith("/") else f"{base}/{name}"
