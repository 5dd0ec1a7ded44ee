"""Memory files: sealed by their maker, checked by their taker, and gone with the last who holds them."""

from __future__ import annotations

import fcntl
import mmap
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rxtasks.errors import ProtocolError
from rxtasks.wire.sealed import SealedFiles, map_sealed, seal

_ALL = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def open_fds() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))


def mappings() -> int:
    """Return how many mappings of memory files of this library there are."""
    with open("/proc/self/maps") as maps:
        return sum("memfd:" in line for line in maps)


def memory_file(size: int, seals: int) -> int:
    fd = os.memfd_create("other", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.truncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Every test leaves the descriptors and mappings that it found."""
    before = open_fds(), mappings()
    yield
    assert before == (open_fds(), mappings())


def test_a_sealed_file_holds_its_pieces_one_after_another() -> None:
    """E-20: bytes, bytearrays and views, empty ones too."""
    made = seal((b"ab", bytearray(b"cd"), memoryview(b""), memoryview(b"efgh")[1:]), 7)
    assert made is not None
    assert (7, b"abcdfgh") == (len(made), bytes(made.view()))


def test_more_pieces_than_one_system_call_takes() -> None:
    """E-20: IOV_MAX is 1024."""
    pieces = [number.to_bytes(2, "little") for number in range(3000)]
    made = seal(pieces, 6000)
    assert made is not None
    assert b"".join(pieces) == bytes(made.view())


def test_nobody_can_change_a_sealed_file() -> None:
    """Fact 9: it can be neither written, shortened, lengthened nor mapped for shared writing, and its seals stay."""
    made = seal((b"abc",), 3)
    assert made is not None
    fd = made.fileno()
    attempts: list[Callable[[], object]] = [
        lambda: os.pwrite(fd, b"x", 0),
        lambda: os.ftruncate(fd, 1),
        lambda: os.ftruncate(fd, 9),
        lambda: mmap.mmap(fd, 3),
        lambda: fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL),
    ]
    for attempt in attempts:
        with pytest.raises(PermissionError):
            attempt()
    assert b"abc" == bytes(made.view())


def test_what_is_written_to_a_mapping_stays_there() -> None:
    """E-20: mappings are writable and private: neither the file nor another mapping sees it."""
    made = seal((b"abc",), 3)
    assert made is not None
    one, other = made.view(), made.view()
    one[0] = ord("x")
    assert [b"xbc", b"abc", b"abc"] == [bytes(one), bytes(other), bytes(made.view())]


def test_a_mapping_outlives_the_descriptor_and_holds_none() -> None:
    """E-20: thousands of mapped results need no descriptor."""
    before = len(open_fds())
    made = seal((b"abc",), 3)
    assert made is not None
    views = [made.view() for _ in range(50)]
    assert before + 1 == len(open_fds())
    made.close()
    assert before == len(open_fds())
    assert {b"abc"} == set(map(bytes, views))
    part = views[7][1:]
    del views
    assert b"bc" == bytes(part)


def test_a_file_is_closed_when_nobody_holds_it() -> None:
    """W-10: and counted as long as it is open."""
    files = SealedFiles()
    before = len(open_fds())
    made = [files.make((b"abc",), 3) for _ in range(3)]
    assert (3, before + 3) == (len(files), len(open_fds()))
    made.pop()
    assert (2, before + 2) == (len(files), len(open_fds()))
    del made
    assert (0, before) == (len(files), len(open_fds()))


def test_a_quarter_of_the_descriptors_is_the_most_that_are_used() -> None:
    """R6: then there is none, and whoever asked keeps plain bytes."""
    files = SealedFiles()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    try:
        made = [files.make((b"abc",), 3) for _ in range(60)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert 50 == sum(each is not None for each in made)
    made.clear()
    assert files.make((b"abc",), 3) is not None


def test_without_descriptors_there_is_no_file_and_no_error() -> None:
    """E-20: EMFILE is no reason to fail: there is another way."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        made = seal((b"abc",), 3)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert made is None


def test_a_forked_child_closes_its_copies() -> None:
    """W-10: a child of the parent holds no memory of tasks."""
    made = seal((b"abc",), 3)
    assert made is not None
    fd = made.fileno()
    pid = os.fork()
    if pid == 0:
        try:
            os.fstat(fd)
        except OSError:
            os._exit(0 if made.fileno() == -1 else 2)
        os._exit(1)
    assert 0 == os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert b"abc" == bytes(made.view())


@pytest.mark.parametrize("missing", [fcntl.F_SEAL_SHRINK, fcntl.F_SEAL_GROW, fcntl.F_SEAL_WRITE, _ALL])
def test_a_file_that_could_still_change_is_refused(missing: int) -> None:
    """Fact 9: it is not mapped: its writer could shorten it, and SIGBUS would end the reader."""
    fd = memory_file(4096, _ALL & ~missing)
    try:
        with pytest.raises(ProtocolError, match="not sealed"):
            map_sealed(fd, 4096)
        assert 0 == mappings()
    finally:
        os.close(fd)


@pytest.mark.parametrize("announced", [1, 4095, 4097, 2**40, 0, -1])
def test_a_file_of_another_size_is_refused(announced: int) -> None:
    """Fact 9: what lies behind its end would be SIGBUS."""
    fd = memory_file(4096, _ALL)
    try:
        with pytest.raises(ProtocolError, match="4096 bytes came, announced with"):
            map_sealed(fd, announced)
        assert 0 == mappings()
    finally:
        os.close(fd)


def test_an_empty_file_is_refused() -> None:
    """Fact 9: nothing sends one."""
    fd = memory_file(0, _ALL)
    try:
        with pytest.raises(ProtocolError, match="0 bytes"):
            map_sealed(fd, 0)
    finally:
        os.close(fd)


def test_what_is_no_memory_file_is_refused(tmp_path: Path) -> None:
    """Fact 9: files, pipes and devices have no seals."""
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    read, write = os.pipe()
    fds = [os.open(path, os.O_RDWR), os.open("/dev/zero", os.O_RDONLY), read, write]
    try:
        for fd in fds:
            with pytest.raises(ProtocolError, match="no memory file"):
                map_sealed(fd, 3)
    finally:
        for fd in fds:
            os.close(fd)
