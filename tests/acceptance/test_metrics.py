"""Metrics of a real pool, read as Prometheus reads them."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from rxtasks import Retry, RetryPolicy, TaskCancelled, TaskContext, TaskService, TaskTimeout, WorkerCrashed, task
from rxtasks.logs import LogMerger
from rxtasks.observe.metrics import Metrics, metrics_available
from tests.acceptance.support import Gate

LONG = 30.0
ROOT = Path(__file__).parents[2]


class Scrape:
    """The samples of one text, by name and labels."""

    def __init__(self, text: bytes) -> None:
        self.samples: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
        for family in text_string_to_metric_families(text.decode()):
            for sample in family.samples:
                key = tuple(sorted(sample.labels.items()))
                assert key not in self.samples.setdefault(sample.name, {}), f"{sample.name} {key} is there twice"
                self.samples[sample.name][key] = sample.value

    def get(self, name: str, **labels: str) -> float | None:
        """Return the value of exactly these labels, or None."""
        return self.samples.get(name, {}).get(tuple(sorted(labels.items())))

    def total(self, name: str, **labels: str) -> float:
        """Return the sum over all samples with at least these labels."""
        return sum(value for key, value in self.samples.get(name, {}).items() if set(labels.items()) <= set(key))

    def values(self, name: str, label: str) -> set[str]:
        return {dict(key)[label] for key in self.samples.get(name, {})}


@task("metrics.fine")
def fine(number: int, ctx: TaskContext) -> int:
    ctx.log.info("line {}", number)
    return number


@task("metrics.flaky", retry=RetryPolicy(max_attempts=3))
def flaky(ctx: TaskContext) -> int:
    if ctx.attempt < 3:
        raise Retry(0.0)
    return ctx.attempt


@task("metrics.broken")
def broken() -> None:
    raise ValueError("no")


@task("metrics.dies", max_crashes=2)
def dies() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@task("metrics.hangs", timeout=0.1, grace=0.1)
def hangs() -> None:
    time.sleep(3600)


@task("metrics.waits")
def waits(gate: str) -> str:
    with open(gate, encoding="utf-8"):
        return "through"


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONG
    while not true():
        assert time.monotonic() < deadline
        threading.Event().wait(0.02)


@pytest.fixture(scope="module")
def pool() -> Iterator[TaskService]:
    with TaskService(2, echo=None, on_exit="force") as made:
        yield made


def test_what_a_pool_has_done_is_what_the_metrics_say(pool: TaskService) -> None:
    """C-07: completions, crashes, timeouts, retries and cancels by name, isolation and outcome; durations in the buckets."""
    with Metrics(pool) as metrics:
        assert list(range(20)) == [pool.submit(fine, number).result(LONG) for number in range(20)]
        assert 3 == pool.submit(flaky).result(LONG)
        with pytest.raises(ValueError):
            pool.submit(broken).result(LONG)
        with pytest.raises(WorkerCrashed):
            pool.submit(dies).result(LONG)
        with pytest.raises(TaskTimeout):
            pool.submit(hangs).result(LONG)
        pool.pause()
        cancelled = pool.submit(fine, 1)
        cancelled.cancel()
        with pytest.raises(TaskCancelled):
            cancelled.result(LONG)
        pool.resume()
        assert [3, 3] == [pool.submit(len, "abc").result(LONG), pool.submit(len, "abc").result(LONG)]
        assert pool.flush(LONG)
        found = Scrape(metrics.text())
    done = "workers_completions_total"
    process = {"isolation": "process"}
    assert 20 == found.get(done, task="metrics.fine", outcome="succeeded", **process)
    assert 1 == found.get(done, task="metrics.flaky", outcome="succeeded", **process)
    assert 1 == found.get(done, task="metrics.broken", outcome="failed", **process)
    assert 1 == found.get(done, task="metrics.dies", outcome="failed", **process)
    assert 1 == found.get(done, task="metrics.hangs", outcome="failed", **process)
    assert 1 == found.total(done, task="metrics.fine", outcome="cancelled")
    assert 2 == found.total("workers_retries_total")
    assert (
        2 == found.get("workers_crashes_total", task="metrics.dies", **process) == found.total("workers_crashes_total")
    )
    assert 1 == found.get("workers_timeouts_total", task="metrics.hangs", **process)
    assert 1 == found.total("workers_timeouts_total") and 0 == found.total("workers_interruptions_total")
    count = "workers_duration_seconds_count"
    assert [20, 3, 1, 2, 1] == [
        found.get(count, task=f"metrics.{name}", **process) for name in ("fine", "flaky", "broken", "dies", "hangs")
    ]
    bounds = ["0.1", "0.5", "2.5", "12.5", "62.5", "312.5", "+Inf"]
    buckets = [
        found.get("workers_duration_seconds_bucket", task="metrics.hangs", le=bound, **process) for bound in bounds
    ]
    assert 0 == buckets[0] and 1 == buckets[-1] and buckets == sorted(buckets, key=float)  # type: ignore[arg-type]
    assert (found.get("workers_duration_seconds_sum", task="metrics.hangs", **process) or 0) >= 0.2
    assert found.total("workers_claim_seconds_count") > 0
    assert 2 <= found.total("workers_lost_total") <= 3


def test_the_gauges_are_what_the_service_says(pool: TaskService, tmp_path: Path) -> None:
    """C-07: active, idle, busy, depth, age; CPU and memory of each worker."""
    gate = Gate(tmp_path)
    with Metrics(pool) as metrics:
        held = pool.submit(waits, gate.path)
        wait_until(lambda: held.status.value == "running")
        pool.pause()
        later = [pool.with_options(priority=priority).submit(fine, 1) for priority in (0, 5, 5)]
        deadline = time.monotonic() + LONG
        while True:
            found = Scrape(metrics.text())
            memory = found.values("workers_memory_bytes", "worker")
            ready = found.get("workers_idle", isolation="process") == 1 and len(memory) == 2
            if ready and found.get("workers_busy", isolation="process") == 1:
                break
            assert time.monotonic() < deadline, found.samples
            threading.Event().wait(0.05)
        assert 2 == found.get("workers_active", isolation="process")
        assert 3 == found.get("workers_queue_depth") and 1 == found.get("workers_running_tasks")
        assert {"0", "5"} == found.values("workers_queue_age_seconds", "priority")
        assert LONG > (found.get("workers_queue_age_seconds", priority="5") or -1) >= 0
        assert {info.worker_id for info in pool.workers()} == memory
        assert found.total("workers_memory_bytes") > 2 * 2**20
        assert (1, 1, 1) == tuple(found.get(f"workers_{name}") for name in ("paused", "up", "store_up"))
        pool.resume()
        gate.open()
        assert "through" == held.result(LONG) and [1, 1, 1] == [tracker.result(LONG) for tracker in later]
        after = Scrape(metrics.text())
        assert (0, 0) == (after.get("workers_queue_depth"), after.total("workers_queue_age_seconds"))
        assert 0 == after.get("workers_paused")


def test_events_and_log_lines_are_counted(pool: TaskService) -> None:
    """C-07: the ledger, the merged log, and a subscriber that raised."""
    with LogMerger.of(pool) as merger, Metrics(pool, logs=merger) as metrics:
        assert pool.flush(LONG)  # what other tests have left
        before = Scrape(metrics.text())
        pool.events.subscribe(lambda _: 1 / 0)
        for number in range(10):
            pool.submit(fine, number).result(LONG)
        assert pool.flush(LONG)
        after = Scrape(metrics.text())
        for name, labels, expected in (
            ("workers_events_total", {"kind": "log", "fate": "produced"}, 10),
            ("workers_events_total", {"kind": "status", "fate": "delivered"}, 20),
            ("workers_log_lines_total", {"fate": "produced"}, 10),
            ("workers_subscribers_detached_total", {"reason": "raised"}, 1),
        ):
            assert expected == after.total(name, **labels) - before.total(name, **labels), name
        assert 10 <= after.total("workers_log_lines_total", fate="merged") <= len(merger.query())


def test_names_that_are_not_registered_are_other_and_hostile_ones_cost_nothing() -> None:
    """C-07: security rule 6: labels from registered names only, bounded in number."""
    with TaskService(1, isolation="thread", echo=None, on_exit="force") as service, Metrics(service) as metrics:
        for number in range(300):
            work = eval("lambda: 1")
            work.__qualname__ = f'evil"\n{{{number}'
            service.submit(work).result(LONG)
        service.submit(fine, 1).result(LONG)
        found = Scrape(metrics.text())
    names = found.values("workers_completions_total", "task")
    assert len(names) <= 3 and {"other", "metrics.fine"} <= names and not any("evil" in name for name in names), names
    assert 301 == found.total("workers_completions_total", outcome="succeeded")


def test_names_of_handlers_that_only_the_workers_know_are_labels_once_they_have_run(tmp_path: Path) -> None:
    """C-07: tasks pushed by name into a store, with modules= in the workers; a name that nobody knows is other."""
    (tmp_path / "metrics_jobs.py").write_text(
        "import os, signal, time\nfrom rxtasks import task\n"
        "task('jobs.fine')(lambda: 1)\n"
        "task('jobs.broken')(lambda: 1 / 0)\n"
        "task('jobs.dies')(lambda: os.kill(os.getpid(), signal.SIGKILL))\n"
    )
    code = (
        "import sys\nfrom rxtasks import TaskService, TaskRequest\nfrom rxtasks.observe.metrics import Metrics\n"
        "with TaskService(1, store=f'sqlite:///{sys.argv[1]}/tasks.db', modules=('metrics_jobs',), echo=None) as service:\n"
        "    with Metrics(service) as metrics:\n"
        "        for name in ('jobs.fine', 'jobs.broken', 'jobs.dies', 'jobs.unknown', 'jobs.fine'):\n"
        "            service.push(TaskRequest(name)).future.exception(30)\n"
        "        print(metrics.text().decode())\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=90)
    found = Scrape(done.stdout.encode())
    assert 2 == found.total("workers_completions_total", task="jobs.fine", outcome="succeeded"), done.stderr
    assert 1 == found.total("workers_completions_total", task="jobs.broken", outcome="failed")
    assert 3 == found.total("workers_crashes_total", task="jobs.dies")
    assert 1 == found.total("workers_completions_total", task="jobs.dies", outcome="failed")
    assert 1 == found.total("workers_completions_total", task="other", outcome="failed")


def test_two_services_do_not_meet_and_the_global_registry_is_untouched() -> None:
    """C-07: a registry of its own for each; two Metrics of one service too."""
    before = {metric.name for metric in REGISTRY.collect()}
    with (
        TaskService(1, isolation="thread", echo=None, on_exit="force") as one,
        TaskService(1, isolation="inline", echo=None, on_exit="force") as other,
        Metrics(one) as first,
        Metrics(one) as again,
        Metrics(other) as second,
    ):
        for number in range(3):
            one.submit(fine, number).result(LONG)
        other.submit(fine, 0).result(LONG)
        texts = [Scrape(metrics.text()) for metrics in (first, again, second)]
    assert [3, 3, 1] == [found.total("workers_completions_total") for found in texts]
    assert [{"thread"}, {"thread"}, {"inline"}] == [
        found.values("workers_completions_total", "isolation") for found in texts
    ]
    assert before == {metric.name for metric in REGISTRY.collect()}


def test_counts_go_on_over_the_starts_of_a_service_and_end_with_close() -> None:
    """C-07: a counter never goes back while the Metrics lives."""
    service = TaskService(1, isolation="thread", echo=None)
    metrics = Metrics(service)
    assert 0 == Scrape(metrics.text()).get("workers_up")
    for start in range(3):
        service.start()
        service.submit(fine, 1).result(LONG)
        assert start + 1 == Scrape(metrics.text()).total("workers_completions_total")
        service.stop()
    service.start()
    metrics.close()
    service.submit(fine, 1).result(LONG)
    assert 3 == Scrape(metrics.text()).total("workers_completions_total")
    assert () == service.engine.core.recorder.tallies == service.engine.driver.tallies
    service.stop()


def test_a_dropped_service_is_not_kept() -> None:
    """C-07: Metrics holds nothing of it; what was counted can still be read."""
    gc.collect()
    gc.disable()
    try:
        service = TaskService(1, isolation="thread", echo=None)
        metrics = Metrics(service)
        assert 1 == service.submit(fine, 1).result(LONG)
        metrics.text()
        reference = weakref.ref(service)
        del service
        assert reference() is None
    finally:
        gc.enable()
    assert 1 == Scrape(metrics.text()).total("workers_completions_total")
    metrics.close()


def test_a_scrape_does_not_wait_for_a_store_that_does_not_answer(tmp_path: Path) -> None:
    """C-07: it tells what the store said last, and that it does not answer now."""
    service = TaskService(1, isolation="thread", store=f"sqlite:///{tmp_path}/tasks.db", echo=None, on_exit="force")
    with service, Metrics(service) as metrics:
        service.start()
        service.pause()
        service.submit(fine, 1)
        wait_until(lambda: Scrape(metrics.text()).get("workers_queue_depth") == 1)
        reader = service._store._reader  # type: ignore[union-attr]
        answers: list[bytes] = []
        with reader._lock:  # as a read that hangs
            scraper = threading.Thread(target=lambda: answers.extend(metrics.text() for _ in range(3)))
            scraper.start()
            scraper.join(LONG)
            assert not scraper.is_alive(), "the scrape waits for the store"
        found = Scrape(answers[-1])
        assert (0, 1) == (found.get("workers_store_up"), found.get("workers_queue_depth"))
        assert found.get("workers_queue_age_seconds", priority="0") is not None
        wait_until(lambda: Scrape(metrics.text()).get("workers_store_up") == 1)
        service.resume()


def test_without_the_library_all_else_works_and_text_says_what_to_install() -> None:
    """C-07: optional; a clear error."""
    assert metrics_available()
    code = (
        "import sys\nsys.modules['prometheus_client'] = None\n"
        "from importlib import util\nfind = util.find_spec\n"
        "util.find_spec = lambda name, *more: None if name == 'prometheus_client' else find(name, *more)\n"
        "from rxtasks import TaskService\nfrom rxtasks.errors import SettingsError\n"
        "from rxtasks.observe.metrics import Metrics, metrics_available\n"
        "assert not metrics_available()\n"
        "with TaskService(1, isolation='thread', echo=None) as service, Metrics(service) as metrics:\n"
        "    assert service.submit(len, 'abc').result(30) == 3\n"
        "    try: metrics.text()\n"
        "    except SettingsError as error: print(error)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert "pip install 'rxtasks[metrics]'" in done.stdout, done.stderr
