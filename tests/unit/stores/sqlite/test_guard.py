"""One SQLite library a file and process (fact 7): other ways to an open store are barred; it opens beside none."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from rxtasks.errors import StoreError
from rxtasks.stores.sqlite.holders import is_held_here
from tests.unit.stores.sqlite.parts import envelope, store_at


def locks_of(path: Path) -> int:
    """How many locks the kernel knows on the file (seen from a process that holds none of them)."""
    inode = os.stat(path).st_ino
    return sum(f":{inode} " in line for line in Path("/proc/locks").read_text().splitlines())


@pytest.mark.parametrize("form", ["{}", "file:{}", "file:{}?mode=ro"])
def test_the_standard_library_cannot_open_the_file_of_an_open_store(tmp_path: Path, form: str) -> None:
    path = tmp_path / "my tasks.db"
    store, _ = store_at(path)
    store.enqueue([envelope()])
    with pytest.raises(StoreError, match=r"a second SQLite library .* service\.backup\(path\)"):
        sqlite3.connect(form.format(path), uri=form.startswith("file:"))
    store.release()
    sqlite3.connect(path).close()


@pytest.mark.parametrize("suffix", ["", "-shm"])
def test_open_and_close_of_the_file_do_not_take_its_locks_away(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "tasks.db"
    store, _ = store_at(path)
    store.enqueue([envelope()])
    link = tmp_path / "another name"
    link.symlink_to(f"{path}{suffix}")
    held = locks_of(Path(f"{path}{suffix}"))
    assert held > 0
    for name in (f"{path}{suffix}", link):
        with pytest.raises(StoreError, match="would take the store's locks away"):
            Path(name).read_bytes()
        with pytest.raises(StoreError, match="would take the store's locks away"):
            os.open(name, os.O_RDONLY)
    assert held == locks_of(Path(f"{path}{suffix}"))
    store.release()
    assert path.read_bytes().startswith(b"SQLite format 3")


OPEN = """
import apsw, sys
other = apsw.Connection(sys.argv[1])
other.execute("select count(*) from tasks").fetchall()
print("open", flush=True)
sys.stdin.readline()
other.close()
"""


@pytest.mark.parametrize("alone", [True, False])
def test_locks_that_were_taken_away_by_what_nobody_sees_are_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: bool
) -> None:
    """Fact 7: ATTACH raises no audit event; when its connection is closed, the kernel knows no lock of ours any more.

    If no other process has the file open, the other library has deleted the log, too.
    """
    monkeypatch.setattr("rxtasks.stores.sqlite.keeper._LOOK_AT_LOCKS", 0.0)
    path, shm = tmp_path / "tasks.db", tmp_path / "tasks.db-shm"
    store, said = store_at(path)
    store.enqueue([envelope()])
    assert 1 == len(store.list())
    held = locks_of(shm)
    command = [sys.executable, "-c", "pass" if alone else OPEN, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert ("" if alone else "open\n") == process.stdout.readline()
        other = sqlite3.connect(tmp_path / "other.db")
        other.execute("attach ? as ours", (str(path),))
        assert [(1,)] == other.execute("select count(*) from ours.tasks").fetchall()
        other.close()
        assert alone is not shm.exists()
        assert alone or not is_held_here(str(path))
        assert [None] == store.enqueue([envelope()])
        assert 1 == len(said) and ("log" if alone else "locks") + " of the store" in said[0]
        assert is_held_here(str(path))
        assert 2 == len(store.list())
        assert [None] == store.enqueue([envelope()]) and 1 == len(said)
        process.communicate("go\n" if not alone else None)
    assert held == locks_of(shm)
    assert [] == store.check()
    store.release()


def test_two_stores_of_one_file_in_one_process_guard_it_until_both_are_released(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    stores = [store_at(path)[0] for _ in range(2)]
    for store in stores:
        store.enqueue([envelope()])
    stores[0].release()
    with pytest.raises(StoreError):
        path.read_bytes()
    stores[1].release()
    path.read_bytes()


def test_a_store_does_not_open_a_file_that_something_else_in_the_process_has_open(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    store, _ = store_at(path)
    store.enqueue([envelope()])
    store.release()
    other = sqlite3.connect(path)
    other.execute("select count(*) from tasks").fetchall()
    with pytest.raises(StoreError, match=r"open already .* Close it before"):
        store.enqueue([envelope()])
    other.close()
    assert [None] == store.enqueue([envelope()])
    store.release()


def test_a_forked_child_is_refused_and_told_why(tmp_path: Path) -> None:
    store, _ = store_at(tmp_path / "tasks.db")
    store.enqueue([envelope()])
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            store_at(tmp_path / "tasks.db")[0].enqueue([envelope()])
            os.write(write, b"taken")
        except StoreError as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read, "rb") as file:
        said = file.read().decode()
    os.waitpid(child, 0)
    assert "was open when this process was forked" in said
    assert [None] == store.enqueue([envelope()]), "the parent's goes on"
    store.release()


HOLD = """
import apsw, sys
held = apsw.Connection(sys.argv[1])
held.execute("begin immediate")
print("held", flush=True)
sys.stdin.readline()
held.execute("commit")
held.close()
"""


def test_a_write_lock_held_by_another_process_is_waited_for_and_its_holder_named(tmp_path: Path) -> None:
    """The lock is let go when the store has said who has it: then what waited is done."""
    path = tmp_path / "tasks.db"
    store, said = store_at(path)
    store.enqueue([envelope()])
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdin is not None and holder.stdout is not None
    assert "held\n" == holder.stdout.readline()

    def report(message: str) -> None:
        said.append(message)
        assert holder.stdin is not None
        holder.stdin.write("go\n")
        holder.stdin.flush()

    store.report = report
    assert [None] == store.enqueue([envelope()])
    holder.wait(20)
    assert 1 == len(said) and f"process {holder.pid} (python" in said[0], said
    assert "has held the write lock" in said[0]
    store.release()


def test_a_stopped_holder_of_the_lock_is_said_to_be_stopped_when_the_wait_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fact 8: a SIGSTOPped writer holds the write lock."""
    monkeypatch.setattr("rxtasks.stores.sqlite.store._WRITE_WAIT", 0.2)
    path = tmp_path / "tasks.db"
    store, _ = store_at(path)
    store.enqueue([envelope()])
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert "held\n" == holder.stdout.readline()
    os.kill(holder.pid, signal.SIGSTOP)
    os.waitpid(holder.pid, os.WUNTRACED)
    with pytest.raises(StoreError, match=rf"process {holder.pid} \(python.*which is stopped: continue it"):
        store.enqueue([envelope()])
    os.kill(holder.pid, signal.SIGCONT)
    holder.communicate("go\n", timeout=20)
    assert [None] == store.enqueue([envelope()])
    store.release()
