"""A measurement leaves no process behind, however it ended."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import psutil
import pytest

from benchmarks.harness import Crash, run_measurement
from benchmarks.leftovers import end_leftovers

_SLEEP = shutil.which("sleep") or "sleep"
_NO_SESSION = -1
#: Says that it runs, waits until nobody holds the other end of its stdin, and leaves a file.
_TIDY = "import pathlib, sys; print('runs', flush=True); sys.stdin.read(); pathlib.Path(sys.argv[1]).touch()"


def _running(mark: str) -> list[int]:
    return [
        process.pid
        for process in psutil.process_iter(["cmdline", "status"])
        if mark in (process.info["cmdline"] or []) and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


def _unlike_any_other() -> str:
    """Return seconds to sleep by which a process is known."""
    return f"600.{uuid.uuid4().int}"


@pytest.mark.parametrize("how", ["in a session of its own", "without its environment"])
def test_a_process_that_outlives_its_measurement_is_ended(how: str) -> None:
    mark = _unlike_any_other()
    own = how == "in a session of its own"
    arguments = [_SLEEP, mark] if own else ["env", "-i", _SLEEP, mark]

    with pytest.raises(Crash, match="not JSON serializable"):
        run_measurement("subprocess:Popen", {"args": arguments, "start_new_session": own})

    assert [] == _running(mark)


def test_the_temporary_files_of_a_measurement_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    with pytest.raises(Crash, match="gave no samples"):  # but the folder's name
        run_measurement("tempfile:mkdtemp", {"prefix": "of-a-peer-"})

    assert [] == list(tmp_path.glob("**/of-a-peer-*"))


def test_what_tidies_up_after_others_is_left_to_do_so(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    tidied = tmp_path / "tidied"
    tracker = subprocess.Popen(
        [sys.executable, "-c", _TIDY, str(tidied), "multiprocessing.resource_tracker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )
    assert tracker.stdin is not None and tracker.stdout is not None
    # The sleeper holds the other end.
    sleeper = subprocess.Popen([_SLEEP, "600"], stdout=tracker.stdin, env=environment)
    tracker.stdin.close()
    assert b"runs\n" == tracker.stdout.readline()

    try:
        assert [f"sleep ({sleeper.pid})"] == end_leftovers(_NO_SESSION, str(tmp_path), 2.0)
        assert tidied.exists()
    finally:
        tracker.stdout.close()
        for process in (sleeper, tracker):
            process.kill()
            process.wait(10)


def test_an_interrupted_measurement_leaves_no_shared_memory(tmp_path: Path) -> None:
    """Its resource tracker removes that, unless it is killed together with it."""
    name, ready = f"rxtasks-{uuid.uuid4().hex[:12]}", tmp_path / "ready"
    os.mkfifo(ready)

    def interrupt() -> None:
        ready.read_bytes()  # until the memory is there
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run_measurement("tests.unit.benchmarks.holding:hold", {"name": name, "ready": str(ready)}, timeout=60)

    with pytest.raises(FileNotFoundError):
        SharedMemory(name)


def test_nothing_of_others_is_ended(tmp_path: Path) -> None:
    other = subprocess.Popen([_SLEEP, "600"], env={**os.environ, "TMPDIR": str(tmp_path / "other")})

    try:
        assert [] == end_leftovers(_NO_SESSION, str(tmp_path), 0.0)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait(10)
