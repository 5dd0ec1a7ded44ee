"""Large values on real processes: they come whole or their task says why, and whoever dies leaves nothing behind."""

from __future__ import annotations

import gc
import json
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rxtasks import PayloadError, RetryPolicy, TaskFailed, TaskService
from tests.chaos.conftest import Pool
from tests.chaos.handlers import (
    add,
    block,
    change_then_die,
    checkpoint_bytes,
    dig,
    emit_bytes,
    look_at,
    memory_files,
    pass_unsealed,
    plus_one,
    plus_one_then_fail,
    raise_bytes,
    total,
    wait_for,
    wait_with,
    zeros,
)
from tests.chaos.support import LONG, Script, Watched, kill, service

MB = 1_000_000


def mapped() -> int:
    """Return how many memory files are mapped here."""
    gc.collect()
    with open("/proc/self/maps") as maps:
        return sum("memfd:" in line for line in maps)


def descriptors() -> int:
    """Return how many descriptors of memory files are open here."""
    gc.collect()
    count = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            count += "memfd:rxtasks" in os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
    return count


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Every test leaves no memory file open or mapped in this process, and nothing in /dev/shm."""
    before = os.listdir("/dev/shm")
    yield
    assert (0, 0) == (descriptors(), mapped())
    assert before == os.listdir("/dev/shm")


def test_arrays_come_and_go_and_can_be_written_to(shared: Pool) -> None:
    """E-20: as with a ProcessPoolExecutor, an array is the receiver's own: writing to it changes no other."""
    tasks, _ = shared
    array = np.arange(MB, dtype="f8")
    tracker = tasks.submit(plus_one, array)
    result = tracker.result(LONG)
    assert np.array_equal(array + 1, result)
    result[0] = -1
    assert result is tracker.result(LONG)
    assert np.array_equal(np.arange(MB), array)


def test_arguments_are_those_of_the_submit(shared: Pool, tmp_path: Path) -> None:
    """E-20: a snapshot, as every argument is: what the caller changes later changes nothing."""
    tasks, witness = shared
    array = np.ones(MB)
    tracker = tasks.submit(wait_with, array, f"{tmp_path}/go")
    array[:] = 7
    witness.wait_output(tracker.task_id, "here")
    array[:] = 8
    (tmp_path / "go").touch()
    assert MB == tracker.result(LONG)


def test_the_next_attempt_gets_the_arguments_as_they_were(shared: Pool) -> None:
    """E-12, W-07: neither a failed attempt nor a dead worker has changed them."""
    tasks, _ = shared
    array = np.zeros(MB)
    again = tasks.with_options(retry=RetryPolicy(max_attempts=2, base=0, jitter="none"))
    assert MB == again.submit(plus_one_then_fail, array).result(LONG)
    assert MB == tasks.submit(change_then_die, array).result(LONG)


def test_a_worker_keeps_nothing_of_what_it_got_and_gave() -> None:
    """E-20, W-10: neither mapping nor descriptor, whether the task succeeded or failed; only what was put stays."""
    with service(1) as (tasks, _):
        once = tasks.with_options(retry=RetryPolicy(max_attempts=1))
        for _ in range(3):
            assert 2.0 == tasks.submit(plus_one, np.ones(MB)).result(LONG)[-1]
            with pytest.raises(ValueError, match="again"):
                once.submit(plus_one_then_fail, np.ones(MB)).result(LONG)
        assert 0 == tasks.submit(memory_files).result(LONG)
        assert 1 == tasks.submit(memory_files, np.ones(MB)).result(LONG), "its own argument, and no descriptor"


@pytest.mark.parametrize("size", [300_000, 2**20 + 1, 30 * MB])
def test_bytes_too(shared: Pool, size: int) -> None:
    """E-20: large bytes, which are no buffer beside the pickle, go the same way."""
    tasks, _ = shared
    assert b"x" * size + b"y" == tasks.submit(add, b"x" * size, b"y").result(LONG)


def test_what_is_cancelled_before_it_starts_is_closed(tmp_path: Path) -> None:
    """E-20: the files of queued tasks are gone with the tasks."""
    with service(1) as (tasks, witness):
        first = tasks.submit(wait_for, f"{tmp_path}/go")
        witness.wait_output(first.task_id, "here")
        waiting = [tasks.submit(total, np.ones(MB)) for _ in range(20)]
        assert 20 == descriptors()
        for tracker in waiting:
            assert tracker.cancel()
        (tmp_path / "go").touch()
        first.result(LONG)
        assert tasks.flush(LONG)
        assert 0 == descriptors()


def test_what_is_queued_at_a_forced_stop_is_closed() -> None:
    """E-20, W-05: stopped with arguments queued, on their way and in use."""
    tasks = TaskService(workers=2, echo=None)
    trackers = [tasks.submit(block, np.ones(MB)) for _ in range(30)]
    tasks.stop(force=True)
    assert all(tracker.done for tracker in trackers)
    assert 0 == descriptors()


_FULL = """
import os, resource, sys
import numpy as np
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
from rxtasks import TaskService
from tests.chaos.handlers import plus_one, total
out = os.fdopen(os.dup(1), "w", buffering=1)
with TaskService(workers=2, echo=None) as service:
    service.start()
    service.pause()
    trackers = [service.submit(total, np.full(262_144, number, "f8")) for number in range(1000)]
    print(len(os.listdir("/proc/self/fd")), file=out)
    service.resume()
    print([262_144 * number for number in range(1000)] == [tracker.result(100) for tracker in trackers], file=out)
    trackers = [service.submit(plus_one, np.full(50_000, number, "f8")) for number in range(400)]
    print(all(tracker.future.exception(100) is None for tracker in trackers), file=out)
    print(len(os.listdir("/proc/self/fd")), file=out)
    print(all((tracker.result() == number + 1).all() for number, tracker in enumerate(trackers)), file=out)
    print(sum(info.failed for info in service.workers()), file=out)
"""


def test_a_thousand_large_arguments_with_few_descriptors() -> None:
    """E-20: 1,000 queued tasks of 2 MB, and 400 results that nobody has fetched, with 256 descriptors."""
    with Script(_FULL) as script:
        assert int(script.line()) < 150
        assert "True" == script.line()
        assert "True" == script.line()
        assert int(script.line()) < 150
        assert ["True", "0"] == [script.line(), script.line()]
        assert 0 == script.process.wait(LONG)


def test_workers_killed_while_large_values_are_on_their_way() -> None:
    """E-20, R20: SIGKILL at random moments during 50 transfers of 20 MB each way: all come, and nothing is left."""
    rng = random.Random()
    with service(2) as (tasks, witness):
        view = tasks.with_options(max_crashes=1000)
        over = threading.Event()
        kills = 0

        def killer() -> None:
            nonlocal kills
            # So often at most: on a loaded machine a worker may take longer to come than it is let live.
            while kills < 25 and not over.wait(rng.random() * 0.2):
                for info in rng.sample(tasks.workers(), 1):
                    if info.pid and info.status in ("idle", "busy"):
                        kill(info.pid)
                        kills += 1

        thread = threading.Thread(target=killer)
        thread.start()
        try:
            for number in range(0, 50, 5):
                trackers = [
                    view.submit(plus_one, np.full(20 * MB // 8, number + each, "f8")) for each in range(5)
                ]  # fmt: skip
                for each, tracker in enumerate(trackers):
                    result = tracker.result(LONG)
                    assert (20 * MB // 8, number + each + 1) == (len(result), result[0])
                    assert (result == result[0]).all()
                del result, tracker
                trackers.clear()
        finally:
            over.set()
            thread.join()
        assert kills > 0
        assert tasks.flush(LONG)
        assert witness.wait(lambda: descriptors() == 0)


_TRANSFERS = """
import json, os, threading
import numpy as np
from rxtasks import TaskService
from tests.chaos.handlers import plus_one
out = os.fdopen(os.dup(1), "w", buffering=1)
service = TaskService(workers=2, echo=None)
service.start()
array = np.zeros(2_500_000)
handle = service.put(array)
print(json.dumps([info.pid for info in service.workers()]), file=out)
def transfer():
    while True:
        print(service.submit(plus_one, array).result(60)[0], file=out)
threading.Thread(target=transfer).start()
transfer()
"""


@pytest.mark.parametrize("after", [0, 1, 2, 3, 5])
def test_a_parent_killed_while_large_values_are_on_their_way(after: int) -> None:
    """E-20, W-10: SIGKILL of the parent: 2 s later its workers are gone, and with them the last holder of any file."""
    with Script(_TRANSFERS) as script:
        watched = [Watched(pid) for pid in json.loads(script.line())]
        assert ["1.0"] * after == [script.line() for _ in range(after)]
        script.process.kill()
        assert [True] * 2 == [each.gone(2) for each in watched]


@pytest.mark.parametrize("kind", ["unsealed", "cut", "file", "larger", "not passed", "huge"])
def test_a_memory_file_that_is_not_safe_fails_its_worker_only(shared: Pool, kind: str, tmp_path: Path) -> None:
    """Fact 9, R21: a worker that gives an unsealed, cut off or wrong file is killed; this process and others go on."""
    tasks, witness = shared
    flag = f"{tmp_path}/go"
    other = tasks.submit(wait_for, flag)
    witness.wait_output(other.task_id, "here")
    tracker = tasks.with_options(max_crashes=1).submit(pass_unsealed, kind)
    error = tracker.future.exception(LONG)
    assert error is not None
    assert "protocol error" in str(error)
    (tmp_path / "go").touch()
    assert flag == other.result(LONG)
    assert 1 == tasks.get(other.task_id).attempt


@pytest.fixture(scope="module")
def limited() -> Iterator[TaskService]:
    """A service whose values may take 1 MiB."""
    tasks = TaskService(1, echo=None, max_payload=2**20)
    tasks.start()
    yield tasks
    tasks.stop(force=True)


def test_arguments_over_the_limit_are_refused_at_submit(limited: TaskService) -> None:
    """R26, security rule 7: named, and before anything is copied."""
    for value in (np.zeros(2**17 + 1), bytes(2**20)):
        with pytest.raises(
            PayloadError, match=r"the arguments would take .* allowed are 1048576 \(setting max_payload\)"
        ):
            limited.submit(total, value)
    with pytest.raises(PayloadError, match="the object would take"):
        limited.put(np.zeros(2**18))
    assert 0 == descriptors()
    assert 0 == limited.submit(total, np.zeros(2**16)).result(LONG)


@pytest.mark.parametrize(
    ("handler", "argument", "error", "message"),
    [
        (zeros, 2, PayloadError, "the result would take"),
        (emit_bytes, 2**20, PayloadError, "the output would take"),
        (checkpoint_bytes, 2**20, PayloadError, "the checkpoint would take"),
        (raise_bytes, 2**20, TaskFailed, "ValueError"),
    ],
)
def test_what_a_task_makes_over_the_limit_fails_it(
    limited: TaskService, handler: Any, argument: int, error: type[Exception], message: str
) -> None:
    """R26: a result, output or checkpoint fails its task in the worker, which lives on; an exception is shown."""
    before = [info.worker_id for info in limited.workers()]
    tracker = limited.submit(handler, argument)
    with pytest.raises(error, match=message):
        tracker.result(LONG)
    assert before == [info.worker_id for info in limited.workers()]
    assert 0 == limited.submit(total, np.zeros(10)).result(LONG)


def test_a_large_checkpoint_comes_back(shared: Pool) -> None:
    """E-12: of 5 MB, in the next attempt."""
    tasks, _ = shared
    again = tasks.with_options(retry=RetryPolicy(max_attempts=2, base=0, jitter="none"))
    assert 5 * MB == again.submit(checkpoint_bytes, 5 * MB).result(LONG)


# -- put ---------------------------------------------------------------------------------------------------------------


class Box:
    """Anything with an attribute."""

    def __init__(self, path: Any) -> None:
        self.path = path


def test_an_object_that_was_put_is_shared_by_the_tasks_of_a_worker() -> None:
    """E-20: sent and rebuilt once, read-only, the same object for all tasks of a worker."""
    with service(1) as (tasks, _), tasks.put(np.arange(10.0)) as small, tasks.put(np.ones(MB)) as large:
        for handle, expected in ((small, 45.0), (large, MB)):
            seen = {tasks.submit(look_at, handle).result(LONG) for _ in range(5)}
            assert 1 == len(seen)
            assert (False, expected) == seen.pop()[2:]
        assert 2 == tasks.submit(memory_files).result(LONG)


def test_a_handle_is_found_at_any_depth(shared: Pool) -> None:
    """E-20: in containers and in the attributes of objects; twice the same."""
    tasks, _ = shared
    with tasks.put(np.ones(1000)) as handle:
        assert (True, 1000.0) == tasks.submit(dig, {"a": [{"b": handle}], "c": Box(handle)}).result(LONG)


def test_one_copy_for_all_workers(shared: Pool) -> None:
    """E-20: the pages of an array that was put are the same in every worker, and not the parent's own."""
    tasks, _ = shared
    with tasks.put(np.ones(MB)) as handle:
        assert 1 == descriptors()
        seen = {tasks.submit(look_at, handle).result(LONG)[0] for _ in range(30)}
        assert seen
        assert (1, 0) == (descriptors(), mapped())


def test_a_new_worker_is_sent_it_again(shared: Pool) -> None:
    """E-20, W-07: a task that dies with its worker finds the object in the next one, unharmed."""
    tasks, _ = shared
    with tasks.put(np.ones(MB)) as handle:
        for _ in range(3):
            first = tasks.submit(look_at, handle).result(LONG)
            kill(first[0])
            assert MB == tasks.submit(look_at, handle).result(LONG)[3]


@pytest.mark.parametrize("way", ["release", "drop", "with"])
def test_what_is_given_up_is_forgotten(way: str) -> None:
    """E-20: workers forget it and every descriptor is closed, as soon as no task needs it."""
    with service(1) as (tasks, _):
        handle = tasks.put(np.ones(MB))
        assert MB == tasks.submit(total, handle).result(LONG)
        assert (1, 1) == (descriptors(), tasks.submit(memory_files).result(LONG))
        if way == "release":
            handle.release()
            handle.release()
        elif way == "with":
            with handle:
                pass
        else:
            del handle
        assert tasks.flush(LONG)
        assert (0, 0) == (descriptors(), tasks.submit(memory_files).result(LONG))


def test_tasks_that_were_given_a_handle_outlive_it(tmp_path: Path) -> None:
    """E-20: submitted before the release, run after it."""
    with service(1) as (tasks, witness):
        first = tasks.submit(wait_for, f"{tmp_path}/go")
        witness.wait_output(first.task_id, "here")
        with tasks.put(np.ones(MB)) as handle:
            trackers = [tasks.submit(total, handle) for _ in range(3)]
        assert handle.released
        (tmp_path / "go").touch()
        assert [MB] * 3 == [tracker.result(LONG) for tracker in trackers]
        first.result(LONG)
        assert tasks.flush(LONG)
        assert witness.wait(lambda: descriptors() == 0)


def test_a_handle_outlives_a_stop() -> None:
    """E-06: start after stop works, and a handle of before is good."""
    tasks = TaskService(workers=1, echo=None)
    with tasks.put(np.ones(MB)) as handle:
        for _ in range(2):
            tasks.start()
            assert MB == tasks.submit(total, handle).result(LONG)
            tasks.stop()
    assert 0 == descriptors()


def test_handles_survive_workers_killed_at_random(shared: Pool) -> None:
    """E-20: whenever its workers die, each task finds its object."""
    tasks, witness = shared
    view = tasks.with_options(max_crashes=1000)
    with tasks.put(np.ones(MB)) as one, tasks.put(np.full(MB, 2.0)) as two:
        for _ in range(10):
            trackers = [view.submit(total, each) for each in (one, two, one, two)]
            seen = len(witness.failures())
            pids = [info.pid for info in tasks.workers() if info.pid]
            kill(random.choice(pids))
            assert [MB, 2 * MB] * 2 == [tracker.result(LONG) for tracker in trackers]
            witness.wait(lambda seen=seen: len(witness.failures()) > seen)  # type: ignore[misc]
