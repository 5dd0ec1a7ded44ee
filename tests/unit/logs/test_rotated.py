"""The log in files: rotation, kills, disks that fail, several processes, queries meanwhile and later."""

from __future__ import annotations

import errno
import gzip
import os
import shutil
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from reactivex.subject import Subject

from rxtasks import SettingsError
from rxtasks.logs import LogFiles, LogFilter, LogLine, RotatedFiles
from rxtasks.logs import rotated as room
from rxtasks.logs.filenames import rotated_files
from tests.unit.logs.support import at, line

ROOT = Path(__file__).parents[3]
LONG = 30.0


def made(directory: Path, said: list[str] | None = None, **more: Any) -> RotatedFiles:
    report = (lambda _: None) if said is None else said.append
    return RotatedFiles(directory, **{"max_bytes": 3000, "backups": 100, "days": 36_000, "report": report, **more})


def write(files: RotatedFiles, first: int, count: int) -> None:
    for number in range(first, first + count):
        files.on_next(line(number, f"line {number}"))


def messages(directory: Path, wanted: LogFilter | None = None, limit: int | None = None) -> list[str]:
    return [each.message for each in LogFiles(directory).query(wanted, limit)]


def numbers(first: int, count: int) -> list[str]:
    return [f"line {number}" for number in range(first, first + count)]


def test_full_files_are_compressed_and_everything_is_found_in_order(tmp_path: Path) -> None:
    """C-06: rotated by size, gzip; a query reads current and compressed files."""
    files = made(tmp_path / "logs")
    write(files, 0, 100)
    files.close()
    there = sorted(path.name for path in (tmp_path / "logs").iterdir())
    assert len([name for name in there if name.endswith(".log.gz")]) > 5
    assert [".rxtasks.lock", "rxtasks.log"] == [name for name in there if not name.endswith(".gz")]
    assert all((tmp_path / "logs" / name).stat().st_size <= 3000 for name in there)
    assert 0o700 == (tmp_path / "logs").stat().st_mode & 0o777
    assert {0o600} == {(tmp_path / "logs" / name).stat().st_mode & 0o777 for name in there}
    assert numbers(0, 100) == messages(tmp_path / "logs")
    assert numbers(95, 5) == messages(tmp_path / "logs", limit=5)
    assert [] == messages(tmp_path / "logs", limit=0)


def test_only_so_many_and_so_old_files_are_kept(tmp_path: Path) -> None:
    """C-06: 10 MB x 5, 7 days."""
    files = made(tmp_path, backups=3)
    write(files, 0, 100)
    files.close()
    kept = rotated_files(tmp_path, "rxtasks")
    assert 3 == len(kept)
    assert messages(tmp_path)[-1] == "line 99" and "line 0" not in messages(tmp_path)
    files = made(tmp_path, days=0.001)
    files.on_next(line(time.time(), "of today"))
    files.on_next(LogLine(at(0) - timedelta(days=400), "INFO", "x"))
    files.close()
    assert [] == [file for file in rotated_files(tmp_path, "rxtasks") if file in kept]


def test_a_file_outside_of_the_time_asked_for_is_not_opened(tmp_path: Path) -> None:
    """C-06: a query for an hour does not read a week."""
    files = made(tmp_path)
    write(files, 0, 100)
    files.close()
    for file in rotated_files(tmp_path, "rxtasks"):
        if file.last < at(50) or file.first > at(60):
            file.path.write_bytes(b"not gzip")
    query = LogFiles(tmp_path).query(LogFilter(since=at(50), until=at(60)))
    assert numbers(50, 11) == [each.message for each in query]
    assert 0 == query.skipped


def test_what_is_torn_or_damaged_is_skipped_and_counted(tmp_path: Path) -> None:
    """C-06: a torn last line, garbage, a damaged archive, a file without lines: the rest is found."""
    files = made(tmp_path)
    write(files, 0, 60)
    files.close()
    archives = rotated_files(tmp_path, "rxtasks")
    whole = archives[1].path.read_bytes()
    archives[1].path.write_bytes(whole[: len(whole) // 2])
    archives[2].path.write_bytes(b"")
    with gzip.open(archives[3].path, "ab") as stream:
        stream.write(b"garbage\n" + b"z" * 3_000_000 + b"\n\n" + line(0, "after garbage").to_json())
    with open(tmp_path / "rxtasks.log", "ab") as current:
        current.write(line(99, "torn").to_json()[:40])
    query = LogFiles(tmp_path).query()
    found = [each.message for each in query]
    assert {"line 0", "line 59", "after garbage"} <= set(found) and "torn" not in found
    assert (
        4 == query.skipped
    )  # half an archive, garbage twice, the torn line; an empty file is no archive, but lacks nothing
    files = made(tmp_path)
    files.on_next(line(100, "next"))
    files.close()
    assert "next" == messages(tmp_path)[-1]


def test_a_kill_at_any_step_loses_no_line_and_doubles_none(tmp_path: Path) -> None:
    """C-06: kill -9 in the middle of rotating or compressing; the next start puts it right."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(Path(__file__).with_name("killed.py")), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert 0 == done.returncode, done.stderr
    *runs, last = done.stdout.splitlines()
    assert "done" == last and len(runs) > 20
    for run in runs:
        kill_at, *acknowledged = run.split()
        directory = tmp_path / kill_at
        for _ in range(2):
            query = LogFiles(directory).query()
            found = [int(each.message.split()[1]) for each in query if not each.message.startswith("next")]
            assert list(range(len(found))) == found, run
            assert len(acknowledged) <= len(found) <= len(acknowledged) + 1, run
            assert 0 == query.skipped
            again = made(directory)
            again.on_next(line(1000, "next"))
            again.close(LONG)
        assert [] == [path for path in directory.iterdir() if path.name.endswith((".part", "Z.log"))]


def test_a_directory_that_is_removed_is_made_again(tmp_path: Path) -> None:
    """C-06: told once; what comes then is written."""
    said: list[str] = []
    files = made(tmp_path / "logs", said)
    write(files, 0, 3)
    shutil.rmtree(tmp_path / "logs")
    write(files, 3, 3)
    files.close()
    assert numbers(3, 3) == messages(tmp_path / "logs")
    assert 1 == len(said) and "removed or replaced" in said[0]


def test_a_file_that_somebody_moves_is_begun_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """C-06: a foreign logrotate does no harm."""
    monkeypatch.setattr("rxtasks.logs.writing._LOOK", 0.0)
    files = made(tmp_path)
    write(files, 0, 3)
    os.rename(tmp_path / "rxtasks.log", tmp_path / "elsewhere")
    write(files, 3, 3)
    files.close()
    assert numbers(3, 3) == messages(tmp_path)


def test_what_cannot_be_written_waits_is_told_once_and_written_later(tmp_path: Path) -> None:
    """C-06: a directory that cannot be made; then it can."""
    said: list[str] = []
    (tmp_path / "logs").write_text("a file where the directory should be")
    files = made(tmp_path / "logs" / "deep", said)
    write(files, 0, 5)
    assert 1 == len(said) and "cannot be written" in said[0] and files.trouble is not None
    (tmp_path / "logs").unlink()
    deadline = time.monotonic() + LONG
    while files.trouble is not None:
        assert time.monotonic() < deadline, "it was not tried again"
        threading.Event().wait(0.05)
    write(files, 5, 5)
    files.close()
    assert numbers(0, 10) == messages(tmp_path / "logs" / "deep")
    assert 2 == len(said) and (10, 0) == (files.written, files.lost)


class Full:
    """A disk that takes `room` bytes more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        self.room = room
        self._write = os.write
        monkeypatch.setattr("rxtasks.logs.writing.os.write", self.write)

    def write(self, descriptor: int, data: bytes) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        part = data[: self.room]
        self.room -= len(part)
        return self._write(descriptor, part)


def test_a_full_disk_tears_no_line_and_what_had_to_go_is_told_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C-06: half a line is taken back; of lines that found no room in memory either their number stands there."""
    monkeypatch.setattr(room, "HELD_LINES", 10)
    monkeypatch.setattr(room, "_AGAIN", 3600.0)
    said: list[str] = []
    files = made(tmp_path, said, max_bytes=10**6)
    write(files, 0, 2)
    disk = Full(monkeypatch, 100)
    write(files, 2, 20)
    assert (2, 10) == (files.written, files.lost) and 1 == len(said) and "No space left" in said[0]
    assert (tmp_path / "rxtasks.log").read_bytes().endswith(b"}\n")
    disk.room = 10**6
    files.close()
    found = messages(tmp_path)
    assert [*numbers(0, 2), *numbers(12, 10)] == [each for each in found if "missing" not in each]
    assert found[2].startswith("10 lines missing here: they could not be written") and "No space left" in found[2]
    assert (12, 10) == (files.written, files.lost)


def test_lines_that_wait_for_ever_are_given_up_at_the_end(tmp_path: Path) -> None:
    """C-06: close() does not wait for a disk that never comes back, and counts."""
    (tmp_path / "logs").write_text("")
    files = made(tmp_path / "logs")
    write(files, 0, 5)
    files.close()
    files.on_next(line(9))
    assert (0, 5) == (files.written, files.lost)


def test_two_processes_never_write_one_file(tmp_path: Path) -> None:
    """C-06: the second one takes another name; a query merges both by time; a free name is taken again."""
    one = made(tmp_path)
    one.on_next(line(0, "one 0"))
    code = (
        "import sys\nfrom rxtasks.logs import RotatedFiles, LogLine\nfrom datetime import datetime, UTC, timedelta\n"
        "files = RotatedFiles(sys.argv[1], max_bytes=3000, days=36000)\n"
        "start = datetime(2026, 11, 22, 10, tzinfo=UTC)\n"
        "for n in range(3): files.on_next(LogLine(start + timedelta(seconds=n + 0.5), 'INFO', f'two {n}'))\n"
        "files.close()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, timeout=60, check=True)
    one.on_next(line(1, "one 1"))
    one.close()
    assert {"rxtasks.log", "rxtasks~2.log"} == {path.name for path in tmp_path.iterdir() if path.suffix == ".log"}
    assert ["one 0", "two 0", "one 1", "two 1", "two 2"] == messages(tmp_path)
    assert ["two 1", "two 2"] == messages(tmp_path, limit=2)
    again = made(tmp_path)
    again.on_next(line(5, "again"))
    again.close()
    assert b"again" in (tmp_path / "rxtasks.log").read_bytes()


def test_a_forked_child_writes_a_file_of_its_own(tmp_path: Path) -> None:
    """C-06: the parent's file is not written by two."""
    code = (
        "import os, sys\nfrom rxtasks.logs import RotatedFiles, LogLine\nfrom datetime import datetime, UTC\n"
        "files = RotatedFiles(sys.argv[1])\nline = lambda text: LogLine(datetime.now(UTC), 'INFO', text)\n"
        "files.on_next(line('parent'))\npid = os.fork()\nif pid: os.waitpid(pid, 0)\n"
        "files.on_next(line('parent' if pid else 'child'))\nfiles.close()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, timeout=60, check=True)
    assert 2 == (tmp_path / "rxtasks.log").read_bytes().count(b"parent")
    assert b"child" in (tmp_path / "rxtasks~2.log").read_bytes()


def test_readers_find_each_line_once_while_files_are_rotated_and_compressed(tmp_path: Path) -> None:
    """C-06: a query meets a rotation: no line twice, none left out, none torn."""
    files = made(tmp_path)
    write(files, 0, 50)
    problems: list[str] = []
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            query = LogFiles(tmp_path).query()
            found = [int(each.message.split()[1]) for each in query]
            if found != list(range(len(found))) or len(found) < 50 or query.skipped:
                problems.append(f"{found} skipped {query.skipped}")
            last = [int(each.message.split()[1]) for each in LogFiles(tmp_path).query(limit=10)]
            if last != list(range(last[0], last[0] + 10)):
                problems.append(f"last {last}")

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    write(files, 50, 600)
    over.set()
    for reader in readers:
        reader.join(LONG)
    files.close(LONG)
    assert [] == problems[:3]
    assert numbers(0, 650) == messages(tmp_path)


def test_a_rotation_that_fails_leaves_the_file_growing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """C-06: told once, nothing lost."""
    said: list[str] = []
    files = made(tmp_path, said)

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "not permitted")

    monkeypatch.setattr("rxtasks.logs.writing.os.rename", refuse)
    write(files, 0, 40)
    files.close()
    assert numbers(0, 40) == messages(tmp_path)
    assert 1 == len(said) and "cannot be rotated" in said[0]


def test_a_compression_that_fails_leaves_the_plain_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """C-06: told once; the lines are found, and the next start compresses."""
    said: list[str] = []
    files = made(tmp_path, said)
    with monkeypatch.context() as patch:
        patch.setattr("rxtasks.logs.zipping.os.fsync", lambda _: (_ for _ in ()).throw(OSError(errno.EIO, "I/O error")))
        write(files, 0, 40)
        files.close(LONG)
    assert numbers(0, 40) == messages(tmp_path)
    assert 1 == len(said) and "cannot be compressed" in said[0]
    assert [] == list(tmp_path.glob("*.part")) and not any(
        file.compressed for file in rotated_files(tmp_path, "rxtasks")
    )
    again = made(tmp_path)
    again.on_next(line(40, "line 40"))
    again.close(LONG)
    assert all(file.compressed for file in rotated_files(tmp_path, "rxtasks"))
    assert numbers(0, 41) == messages(tmp_path)


def test_a_link_in_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    """C-06: the log does not write through a link."""
    target = tmp_path / "target"
    target.write_text("")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "rxtasks.log").symlink_to(target)
    said: list[str] = []
    files = made(tmp_path / "logs", said)
    files.on_next(line(0))
    files.close()
    assert "" == target.read_text() and 1 == len(said)


def test_reading_changes_nothing_and_finds_nothing_where_nothing_is(tmp_path: Path) -> None:
    """C-06: a query makes no directory and no file."""
    files = RotatedFiles(tmp_path / "none")
    assert [] == list(files.query()) and not (tmp_path / "none").exists()
    with files.query() as query:
        assert 0 == query.skipped
    files.close()


@pytest.mark.parametrize(
    "wrong", [{"max_bytes": 0}, {"backups": -1}, {"days": 0}, {"days": float("nan")}, {"max_bytes": "1"}]
)
def test_a_wrong_argument_is_told(tmp_path: Path, wrong: dict[str, Any]) -> None:
    """C-06: bad input is named."""
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        RotatedFiles(tmp_path, **wrong)


def test_it_is_an_observer_that_ends_with_its_stream(tmp_path: Path) -> None:
    """C-06: subscribe it to a merger's lines; the end closes it."""
    lines: Subject[LogLine] = Subject()
    files = made(tmp_path)
    lines.subscribe(files)
    lines.on_next(line(0, "line 0"))
    lines.on_completed()
    files.on_next(line(1, "after the end"))
    assert numbers(0, 1) == messages(tmp_path)


def test_logs_of_several_names_share_a_directory(tmp_path: Path) -> None:
    """C-06: the pools of two stores write into one directory; each is read alone, or all together."""
    one, two = made(tmp_path, name="one", backups=2), made(tmp_path, name="two-2")
    write(one, 0, 60)
    two.on_next(line(200, "of two"))
    one.close(LONG)
    two.close(LONG)
    assert (
        ["of two"] == [each.message for each in LogFiles(tmp_path, "two-2").query()] == [x.message for x in two.query()]
    )
    assert "line 59" == [each.message for each in one.query()][-1]
    assert ["line 59", "of two"] == messages(tmp_path, limit=2)
    assert 2 == len(rotated_files(tmp_path, "one"))
    for wrong in ("", "../x", "a~2", "a.b", "x" * 101):
        with pytest.raises(SettingsError, match="name of a log"):
            RotatedFiles(tmp_path, name=wrong)


def test_what_is_no_file_or_cannot_be_read_is_named_and_the_rest_is_found(tmp_path: Path) -> None:
    """C-06: a pipe, a folder, an archive of another format in place of a file: the query neither waits nor fails."""
    files = made(tmp_path)
    write(files, 0, 60)
    files.close(LONG)
    archives = rotated_files(tmp_path, "rxtasks")
    archives[0].path.unlink()
    os.mkfifo(archives[0].path)
    archives[1].path.unlink()
    archives[1].path.mkdir()
    archives[2].path.write_bytes(b"PK\x03\x04 a zip archive")
    os.mkfifo(tmp_path / "other.log")
    with LogFiles(tmp_path).query() as query:
        found = [each.message for each in query]
        assert "line 59" == found[-1] and 4 == query.skipped == len(query.problems), query.problems
    assert all(str(tmp_path) in problem for problem in query.problems)
    assert ["line 58", "line 59"] == messages(tmp_path, limit=2)


def test_two_never_write_one_file_even_where_the_locks_were_removed(tmp_path: Path) -> None:
    """C-06: somebody tidies up the folder while a pool runs."""
    one = made(tmp_path)
    write(one, 0, 1)
    (tmp_path / ".rxtasks.lock").unlink()
    two = made(tmp_path)
    two.on_next(line(1, "line 1"))
    write(one, 2, 40)  # rotations too
    two.on_next(line(50, "line 50"))
    one.close(LONG)
    two.close(LONG)
    assert b"line 50" in (tmp_path / "rxtasks~2.log").read_bytes()
    assert [*numbers(0, 42), "line 50"] == messages(tmp_path)


def test_what_a_process_has_left_that_is_no_more_goes_with_its_time(tmp_path: Path) -> None:
    """C-06: 7 days also hold for the files of a second process that was there once."""
    one, two = made(tmp_path), made(tmp_path)
    write(one, 0, 1)
    write(two, 1, 1)
    os.utime(tmp_path / "rxtasks~2.log", (0, 0))
    one.close(LONG)
    again = made(tmp_path, days=30)
    again.on_next(LogLine(datetime.now(UTC), "INFO", "x"))
    again.close(LONG)
    assert (tmp_path / "rxtasks~2.log").exists(), "it is written still"
    two.close(LONG)
    os.utime(tmp_path / "rxtasks~2.log", (0, 0))
    again = made(tmp_path, days=30)
    again.on_next(LogLine(datetime.now(UTC), "INFO", "x"))
    again.close(LONG)
    assert not (tmp_path / "rxtasks~2.log").exists() and (tmp_path / "rxtasks.log").exists()
