"""What is wrong with the file of a store is said by name, before or while it is open, and nothing is written meanwhile."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from rxtasks.errors import StoreError
from rxtasks.stores.sqlite.place import network_of
from tests.unit.stores.sqlite.parts import claim, envelope, store_at


def test_a_missing_directory_is_named_and_when_it_is_there_the_store_goes_on(tmp_path: Path) -> None:
    store, _ = store_at(tmp_path / "data" / "tasks.db")
    with pytest.raises(
        StoreError, match=re.escape(f"the store's directory {tmp_path / 'data'} does not exist; create it")
    ):
        store.enqueue([envelope()])
    assert "does not exist" in (store.trouble or "")
    (tmp_path / "data").mkdir()
    assert [None] == store.enqueue([envelope()])
    assert store.trouble is None
    store.release()


def test_a_directory_in_the_place_of_the_file_or_a_file_in_that_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    for path, said in (
        (tmp_path / "folder", "is a directory; give the path of a file"),
        (tmp_path / "file" / "t.db", "no directory"),
    ):
        with pytest.raises(StoreError, match=said):
            store_at(path)[0].enqueue([envelope()])


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    path.write_bytes(b"these are my notes, and no database at all\n" * 100)
    before = path.read_bytes()
    with pytest.raises(StoreError, match="no SQLite database: give the store a file of its own"):
        store_at(path)[0].enqueue([envelope()])
    assert before == path.read_bytes()
    assert ["tasks.db"] == os.listdir(tmp_path)


def test_a_database_of_another_program_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    other = sqlite3.connect(path)
    other.execute("create table mine (x)")
    other.commit()
    other.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="a database of another program; give the store a file of its own"):
        store_at(path)[0].enqueue([envelope()])
    assert before == path.read_bytes(), "not even its journal mode is changed"
    assert ["tasks.db"] == os.listdir(tmp_path)


def test_a_newer_schema_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    store, _ = store_at(path)
    store.enqueue([envelope()])
    store.release()
    newer = sqlite3.connect(path)
    newer.execute("pragma user_version = 999")
    newer.close()
    with pytest.raises(
        StoreError, match=r"has version 999 of the schema and this rxtasks knows up to \d+: upgrade rxtasks"
    ):
        store.enqueue([envelope()])


def test_a_deleted_log_is_saved_and_nothing_that_was_acknowledged_is_lost(tmp_path: Path) -> None:
    """Fact 7: the log is deleted by another hand while the store is open."""
    path = tmp_path / "tasks.db"
    store, said = store_at(path)
    tasks = [envelope() for _ in range(50)]
    store.enqueue(tasks)
    os.unlink(f"{path}-wal")
    more = envelope()
    store.enqueue([more])
    assert any("was deleted while it was open; all that was in it is in the file now" in text for text in said)
    store.release()
    copy = tmp_path / "copy.db"
    shutil.copy(path, copy)
    again, _ = store_at(copy)
    assert [task.task_id for task in [*tasks, more]] == [record.task_id for record in again.list()]
    again.release()


def test_a_replaced_file_is_not_written_to_and_neither_is_the_new_one(tmp_path: Path) -> None:
    """Fact 7: a backup is put in the place of the open file."""
    path, other = tmp_path / "tasks.db", tmp_path / "other.db"
    replacement, _ = store_at(other)
    mine = envelope()
    replacement.enqueue([mine])
    replacement.release()
    store, _ = store_at(path)
    first = envelope()
    store.enqueue([first])
    os.rename(path, tmp_path / "old.db")
    os.rename(other, path)
    with pytest.raises(
        StoreError, match=r"was replaced by another file while it was open: .* stop and start to use the new one"
    ):
        store.enqueue([envelope()])
    os.rename(path, other)
    os.rename(tmp_path / "old.db", path)
    second = envelope()
    assert [None] == store.enqueue([second]), "put back, it goes on"
    os.rename(path, tmp_path / "old.db")
    os.rename(other, path)
    store.release()
    assert [mine.task_id] == [record.task_id for record in store.list()], "released and opened anew: the new one"
    store.release()


def test_a_file_that_was_deleted_is_not_written_to(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    store, _ = store_at(path)
    store.enqueue([envelope()])
    os.rename(path, tmp_path / "away.db")
    with pytest.raises(StoreError, match="was deleted or moved while it was open: put it back"):
        store.enqueue([envelope()])
    os.rename(tmp_path / "away.db", path)
    store.enqueue([envelope()])
    assert 2 == len(claim(store))
    store.release()


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "9p"])
def test_a_network_file_system_is_told_by_the_mount_that_holds_the_path(tmp_path: Path, kind: str) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw\n"
        f"30 22 0:50 / /mnt/my\\040share rw,relatime shared:9 - {kind} server:/export rw\n"
        "31 30 0:51 / /mnt/my\\040share/local rw - tmpfs none rw\n"
    )
    assert kind == network_of("/mnt/my share/a/tasks.db", str(mounts))
    assert network_of("/mnt/my share/local/tasks.db", str(mounts)) is None
    assert network_of("/mnt/my shared.db", str(mounts)) is None
    assert network_of("/tasks.db", str(mounts)) is None


def in_namespace(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script as root of a user and mount namespace of its own; skip where that is not allowed."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("no user and mount namespaces here")
    return subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", *arguments], capture_output=True, text=True, timeout=60
    )


TRY = """
import sys
from pathlib import Path
from rxtasks.errors import StoreError
from tests.unit.stores.sqlite.parts import envelope, store_at
try:
    store_at(Path(sys.argv[1]))[0].enqueue([envelope()])
except StoreError as error:
    print(error)
"""


def test_a_read_only_file_system_is_named(tmp_path: Path) -> None:
    """A real read-only mount: root, too, can write nothing there."""
    store, _ = store_at(tmp_path / "tasks.db")
    store.enqueue([envelope()])
    store.release()
    done = in_namespace(
        'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && "$2" -c "$3" "$1/tasks.db" && "$2" -c "$3" "$1/new.db"',
        str(tmp_path),
        sys.executable,
        TRY,
    )
    assert 0 == done.returncode, done.stderr
    said = done.stdout.splitlines()
    assert f"the store {tmp_path}/tasks.db cannot be written" in said[0] and "how it is mounted" in said[0]
    assert f"the store {tmp_path}/new.db cannot be made" in said[1]


FUSE = """
import ctypes, os, struct, sys, threading
from pathlib import Path
from rxtasks.errors import StoreError
from tests.unit.stores.sqlite.parts import envelope, store_at

folder, kind = sys.argv[1:]
try:
    fd = os.open("/dev/fuse", os.O_RDWR)
except OSError:
    sys.exit(77)
options = f"fd={fd},rootmode=40000,user_id=0,group_id=0".encode()
if ctypes.CDLL(None, use_errno=True).mount(b"server:/export", folder.encode(), kind.encode(), 0, options):
    sys.exit(77)


def serve():
    # A file system of one empty directory: INIT (26) and GETATTR (3) are answered, all else is not there.
    while True:
        message = os.read(fd, 1 << 17)
        _, what, number = struct.unpack("<IIQ", message[:16])
        body, error = b"", 0
        if what == 26:
            body = struct.pack("<IIIIHHIIHHI", 7, 31, 65536, 0, 12, 12, 65536, 1, 0, 0, 0) + bytes(24)
        elif what == 3:
            body = struct.pack("<QII", 1, 0, 0) + struct.pack("<QQQQQQ10I", 1, *[0] * 8, 0o40755, 2, 0, 0, 0, 4096, 0)
        elif what in (2, 42):
            continue
        else:
            error = -2
        os.write(fd, struct.pack("<IiQ", 16 + len(body), error, number) + body)


threading.Thread(target=serve, daemon=True).start()
try:
    store_at(Path(folder) / "tasks.db")[0].enqueue([envelope()])
except StoreError as error:
    print(error)
sys.stdout.flush()
os._exit(0)
"""


def test_a_store_on_a_real_mount_that_goes_over_the_network_is_refused(tmp_path: Path) -> None:
    """Fact 8: mounted by the kernel as an sshfs is."""
    done = in_namespace('"$1" -c "$2" "$3" fuse.sshfs', sys.executable, FUSE, str(tmp_path))
    if done.returncode == 77:
        pytest.skip("no FUSE here")
    assert 0 == done.returncode, done.stderr
    assert f"the store {tmp_path}/tasks.db is on a network file system (fuse.sshfs)" in done.stdout
    assert "put it on a local disk" in done.stdout
