"""Where a store's file lies, and whether it is still the one that was opened.

Looked at before opening, so that what is wrong is named instead of what SQLite makes of it; and before each group commit,
because a file that was deleted or replaced while it is open can be written to as before, and nobody will ever read it.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from rxtasks.errors import StoreError
from rxtasks.stores.sqlite.identity import Identity, identity_of

__all__ = ["Place", "network_of"]

#: File systems whose locks or shared memory other machines do not keep, by their names in mountinfo.
_NETWORK: Final = frozenset(
    {
        *("nfs", "nfs3", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "coda", "gfs", "gfs2", "glusterfs"),
        *("lustre", "gpfs", "beegfs", "orangefs", "pvfs2", "ocfs2", "ncpfs", "davfs", "fuse.sshfs", "fuse.s3fs"),
        *(
            "fuse.rclone",
            "fuse.gcsfuse",
            "fuse.glusterfs",
            "fuse.ceph",
            "fuse.ceph-fuse",
            "fuse.davfs",
            "fuse.curlftpfs",
        ),
        *("fuse.smbnetfs", "fuse.juicefs", "fuse.goofys", "fuse.mount-s3", "fuse.blobfuse", "fuse.vmhgfs-fuse"),
    }
)


class Place:
    """The file of a store, and its write-ahead log.

    Args:
        path: absolute path of the file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._path, self._wal = os.fsencode(path), os.fsencode(path + "-wal")
        self._file: Identity = None
        self._log: Identity = None

    def look(self, *, mounts: str = "/proc/self/mountinfo") -> None:
        """See whether a store can be opened here.

        Raises:
            StoreError: it cannot; says why, and what to do.
        """
        path, folder = self.path, os.path.dirname(self.path)
        try:
            mode = os.stat(folder).st_mode
        except FileNotFoundError:
            raise StoreError(f"the store's directory {folder} does not exist; create it") from None
        except NotADirectoryError:
            raise StoreError(
                f"{folder} is no directory, so the store {path} cannot be in it; give another path"
            ) from None
        except OSError as error:
            raise StoreError(
                f"the store's directory {folder} cannot be looked at ({error}); check owner and mode"
            ) from error
        if not stat.S_ISDIR(mode):
            raise StoreError(f"{folder} is no directory, so the store {path} cannot be in it; give another path")
        kind = network_of(os.path.realpath(path), mounts)
        if kind is not None:
            raise StoreError(
                f"the store {path} is on a network file system ({kind}), where locks and shared memory do not hold between"
                " machines and tasks could be lost; put it on a local disk"
            )
        try:
            mode = os.stat(path).st_mode
        except FileNotFoundError:
            if not os.access(folder, os.W_OK | os.X_OK):
                raise StoreError(
                    f"the store {path} cannot be made: {folder} cannot be written; check owner, mode, and how it is mounted"
                ) from None
            return
        except OSError as error:
            raise StoreError(f"the store {path} cannot be looked at ({error}); check owner and mode") from error
        if stat.S_ISDIR(mode):
            raise StoreError(f"the store {path} is a directory; give the path of a file, such as {path}/tasks.db")
        if not stat.S_ISREG(mode):
            raise StoreError(f"the store {path} is no regular file; give the path of one")
        for what, at in (("file", path), ("directory", folder)):
            if not _writable(at):
                raise StoreError(
                    f"the store {path} cannot be written: its {what} is read-only for this process;"
                    " check owner, mode, and how it is mounted"
                )

    def remember(self) -> None:
        """It has just been opened: this is the file, and this its log."""
        self._file, self._log = identity_of(self._path), identity_of(self._wal)

    def whole(self) -> bool:
        """Say whether both are still where they were."""
        return identity_of(self._wal) == self._log and identity_of(self._path) == self._file

    @property
    def log_only_gone(self) -> bool:
        """The file is there, and its log was deleted, with none in its place: what was in it can still be saved."""
        return identity_of(self._path) == self._file and identity_of(self._wal) is None

    @property
    def replaced(self) -> bool:
        """Another file is in its place, or none."""
        return identity_of(self._path) != self._file

    def error(self) -> StoreError:
        """Return what is to be said when it is not whole."""
        now = identity_of(self._path)
        if now is None:
            what = "was deleted or moved while it was open: put it back"
        elif now != self._file:
            what = "was replaced by another file while it was open: put the old one back, or stop and start to use the new one"
        else:
            what = (
                "has another write-ahead log (-wal) than the one that was open, because the old one was deleted: stop every"
                " service that uses it, start them again, and run service.check(); restore a backup if it finds damage"
            )
        return StoreError(f"the store {self.path} {what}. Nothing is written meanwhile")


def network_of(path: str, mounts: str = "/proc/self/mountinfo") -> str | None:
    """Return the kind of network file system that `path` is on; None: it is on none, or that cannot be told."""
    try:
        with open(mounts, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError:
        return None
    longest, kind = "", None
    for line in lines:
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(" "), after.split(" ")
        if len(fields) < 5:
            continue
        point = fields[4].encode("utf-8", "surrogateescape").decode("unicode_escape").encode("latin-1")
        at = os.fsdecode(point)
        inside = path == at or path.startswith(at.rstrip("/") + "/")
        if inside and len(at) >= len(longest):  # of two mounts at one place the later one covers the other
            longest, kind = at, kinds[0]
    return kind if kind in _NETWORK else None


def _writable(path: str) -> bool:
    try:
        return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)
    except OSError as error:
        return error.errno != errno.EROFS
