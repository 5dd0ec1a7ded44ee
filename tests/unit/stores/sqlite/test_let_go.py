"""What a store leaves behind: nothing, whether it was released or only dropped."""

from __future__ import annotations

import fcntl
import gc
import os
import threading
import time
from pathlib import Path

import pytest

from rxtasks import SettingsError, TaskService
from rxtasks.stores.sqlite.store import SqliteStore
from rxtasks.testing.store_suite import ANY, NOW, envelope
from tests.acceptance import jobs
from tests.acceptance.support import SOON, service


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "rxtasks-store"]


def opened(path: Path) -> list[str]:
    """Return the files of the store that this process has open."""
    found = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
    return [name for name in found if name.startswith(str(path))]


def test_a_store_that_is_dropped_ends_its_thread_and_closes_the_file(tmp_path: Path) -> None:
    """W-10: without release(), after reads, writes and claims."""
    path = tmp_path / "tasks.db"
    before = threads()
    store = SqliteStore(str(path))
    store.enqueue([envelope("a"), envelope("b", lock="l")])
    assert len(store.claim(ANY, 2, NOW)) == 2 and len(store.list()) == 2 and store.update("a", priority=1) is False
    (thread,) = [thread for thread in threads() if thread not in before]
    assert opened(path)
    del store
    gc.collect()
    thread.join(SOON)
    assert not thread.is_alive() and opened(path) == []
    again = SqliteStore(str(path))
    assert [record.task_id for record in again.list()] == ["a", "b"]
    again.release()


def test_a_service_that_never_started_leaves_nothing_when_it_is_dropped(tmp_path: Path) -> None:
    """W-10: it has looked at the store, and changed it."""
    path = tmp_path / "tasks.db"
    before = threads()
    made = TaskService(0, store=f"sqlite:///{path}")
    assert made.list() == [] and made.prune(0) == 0
    (thread,) = [thread for thread in threads() if thread not in before]
    del made
    gc.collect()
    thread.join(SOON)
    assert not thread.is_alive() and opened(path) == []


def test_a_store_object_serves_one_service_at_a_time(tmp_path: Path) -> None:
    """Q-03: the second that starts is told what to do, and disturbs the first by nothing, also by its stop."""
    store = SqliteStore(str(tmp_path / "tasks.db"))
    one, two, three = (service(store=store, on_exit="drain") for _ in range(3))
    with one:
        assert one.submit(jobs.double, 1).result(SOON) == 2
        with pytest.raises(SettingsError, match=r"used by another service that runs: .* store='sqlite:///"):
            two.start()
        with pytest.raises(SettingsError, match="used by another service"):
            two.submit(jobs.double, 1)
        assert len(three.list()) == 1 and three.engine.store is store
        two.stop()
        three.stop()
        assert len(list((tmp_path / "tasks.db-services").glob("*.lock"))) == 1
        assert one.submit(jobs.double, 2).result(SOON) == 4
    with service(store=store, on_exit="drain") as after:
        assert after.submit(jobs.double, 3).result(SOON) == 6
        assert len(after.list()) == 3


@pytest.mark.parametrize("content", [b"", b"{}"])
def test_a_lock_file_that_was_never_finished_is_swept_at_the_next_registration(tmp_path: Path, content: bytes) -> None:
    """W-10: of a service that was killed while it made it; not one that is locked, young, or a link."""
    folder = tmp_path / "tasks.db-services"
    folder.mkdir(mode=0o700)
    names = ("dead", "locked", "young", "link")
    dead, locked, young, link = (folder / f"{name}.new" for name in names)
    precious = tmp_path / "precious"
    for path in (dead, locked, young, precious):
        path.write_bytes(content)
    link.symlink_to(precious)
    old = time.time() - 3600
    for path in (dead, locked, precious):
        os.utime(path, (old, old))
    with open(locked, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with service(store=f"sqlite:///{tmp_path / 'tasks.db'}") as made:
            made.start()
            assert [path.exists() for path in (dead, locked, young, link, precious)] == [False, True, True, True, True]
