"""Metrics in Prometheus' exposition format (C-07): `Metrics(service).text()`; needs `pip install rxtasks[metrics]`.

Gauges are read when somebody asks; what is counted the core counts (rxtasks.observe.tally) from the moment on when a
Metrics is made, over all starts of the service. Nothing here subscribes to a stream, so events cost nothing more. The
registry is this object's own: two services in one process do not meet.

| metric | labels | what |
|---|---|---|
| workers_active, workers_idle, workers_busy, workers_starting, workers_stopping | isolation | workers now |
| workers_queue_depth | | tasks that wait for a worker |
| workers_running_tasks | | tasks that workers hold |
| workers_queue_age_seconds | priority | for how long the first task of each priority has waited |
| workers_duration_seconds | task, isolation | histogram: run times of attempts |
| workers_completions_total | task, isolation, outcome | tasks that ended: succeeded, failed, cancelled |
| workers_retries_total | task, isolation | attempts that raised and are tried again |
| workers_crashes_total, workers_timeouts_total, workers_interruptions_total | task, isolation | attempts lost |
| workers_claim_seconds | | histogram: how long the store takes to hand over tasks |
| workers_cpu_percent, workers_memory_bytes, workers_disk_bytes | worker, isolation | of each worker's process tree |
| workers_lost_total | | workers that died with a task |
| workers_recoveries_total | what | dead services found, and what became of their tasks |
| workers_pressure_pauses_total | pressure | pauses because the machine was short of memory, say |
| workers_paused, workers_up, workers_store_up, workers_uptime_seconds | | how it stands |
| workers_events_total | kind, fate | events produced, delivered, conflated, dropped |
| workers_events_pending | kind | events that wait for a subscriber |
| workers_events_withheld | | 1 while no credit is given, because a subscriber is behind |
| workers_subscribers_detached_total | reason | subscribers that raised or stalled |
| workers_log_lines_total | fate | lines of tasks produced; merged, repeated, late, lost, missed where a merger is given |

`task` is the name of a registered handler, else "other"; at most MOST_NAMES of them. A scrape does not wait for a disk
that does not answer: what the store would say is then what it said last, and workers_store_up is 0.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import attrs

from rxtasks.errors import RxTasksError, SettingsError
from rxtasks.observe.tally import Spread, Tally, attach, detach
from rxtasks.worker.registry import default_registry

if TYPE_CHECKING:
    from rxtasks.engine.engine import TaskEngine
    from rxtasks.logs.merger import LogMerger
    from rxtasks.service import TaskService

__all__ = ["CONTENT_TYPE", "Metrics", "metrics_available"]

#: What an HTTP answer with text() says that it is.
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
#: Seconds that a scrape waits for the store.
_PATIENCE: Final = 0.2
_STATES: Final = ("idle", "busy", "starting", "stopping")


def metrics_available() -> bool:
    """Say whether the library is there that text() needs."""
    return find_spec("prometheus_client") is not None


@attrs.frozen
class _Queue:
    """What the store says of what waits."""

    depth: int = 0
    #: Since when, by priority: microseconds of the wall clock.
    since_us: dict[int, int] = attrs.field(factory=dict)


class Metrics:
    """The metrics of one service, from now on; does not keep it alive.

    Args:
        service: whose.
        logs: its merged log, whose counts are told too.
        tasks: names of tasks that are labels though no handler of that name is registered in this process.
    """

    def __init__(self, service: TaskService, *, logs: LogMerger | None = None, tasks: Iterable[str] = ()) -> None:
        self._service = weakref.ref(service)
        self._logs = None if logs is None else weakref.ref(logs)
        self._tally = Tally(lambda name: default_registry.find(name) is not None, tasks)
        self._lock = threading.Lock()
        self._looking: threading.Thread | None = None
        self._queue = _Queue()
        #: The store could be read the last time.
        self._answered = True
        self._registry: Any = None
        tally = self._tally

        def starts(service: TaskService) -> None:
            attach(service._engine_now(), tally)

        self._hook: Any = service.before("start").add(starts)
        engine = service._engine
        if engine is not None:
            attach(engine, tally)

    def text(self) -> bytes:
        """Return all metrics in the text format of Prometheus, version 0.0.4 (see CONTENT_TYPE).

        Raises:
            SettingsError: the library is not there.
        """
        try:
            from prometheus_client import CollectorRegistry, generate_latest
        except ImportError:
            raise SettingsError(
                "metrics need the library prometheus-client: pip install 'rxtasks[metrics]'; all else works without"
            ) from None
        with self._lock:
            if self._registry is None:
                self._registry = CollectorRegistry(auto_describe=False)
                self._registry.register(_Collector(self._collect))
        made: bytes = generate_latest(self._registry)
        return made

    def close(self) -> None:
        """Count no more; text() gives what was counted so far."""
        hook, self._hook = self._hook, None
        if hook is not None:
            hook.dispose()
        service = self._service()
        if service is not None and service._engine is not None:
            detach(service._engine, self._tally)

    def __enter__(self) -> Metrics:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- inside --------------------------------------------------------------------------------------------------------

    def _collect(self) -> Iterator[Any]:
        service = self._service()
        engine = None if service is None else service._engine
        kinds = set() if service is None else {spec.isolation for spec in service._specs}
        del service
        yield from _counted(self._tally)
        yield from _of_logs(None if self._logs is None else self._logs(), engine)
        queue, answers = (_Queue(), True) if engine is None else self._look(engine)
        yield from _of_pool(engine, kinds, queue, answers)
        if engine is not None:
            yield from _of_engine(engine)

    def _look(self, engine: TaskEngine) -> tuple[_Queue, bool]:
        """Return what waits, and whether the store has said so just now."""
        if engine.durable is None:
            return _queue_of(engine), True
        with self._lock:
            thread = self._looking
            if thread is None or not thread.is_alive():
                thread = threading.Thread(target=self._ask, args=(engine,), name="rxtasks-metrics", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # no more threads, or the interpreter is ending
                    return self._queue, False
                self._looking = thread
        del engine
        thread.join(_PATIENCE)
        return self._queue, not thread.is_alive() and self._answered

    def _ask(self, engine: TaskEngine) -> None:
        try:
            self._queue = _queue_of(engine)
            self._answered = True
        except RxTasksError:
            self._answered = False


class _Collector:
    """What a registry of prometheus-client asks."""

    def __init__(self, collect: Callable[[], Iterator[Any]]) -> None:
        self.collect = collect


def _queue_of(engine: TaskEngine) -> _Queue:
    heads: Callable[[], dict[int, int]] | None = getattr(engine.store, "heads", None)
    depth = engine.store.counts().pending + engine.core.dispatcher.waiting
    return _Queue(depth, {} if heads is None else heads())


def _gauge(name: str, text: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], float]]) -> Any:
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(f"workers_{name}", text, labels=labels)
    for key, value in values:
        family.add_metric(key, value)
    return family


def _counter(name: str, text: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], float]]) -> Any:
    from prometheus_client.core import CounterMetricFamily

    family = CounterMetricFamily(f"workers_{name}", text, labels=labels)
    for key, value in values:
        family.add_metric(key, value)
    return family


def _histogram(name: str, text: str, labels: tuple[str, ...], spreads: Iterable[tuple[tuple[str, ...], Spread]]) -> Any:
    from prometheus_client.core import HistogramMetricFamily

    family = HistogramMetricFamily(f"workers_{name}", text, labels=labels)
    for key, spread in spreads:
        total, buckets = 0, []
        for bound, count in zip((*spread.bounds, float("inf")), list(spread.counts), strict=True):
            total += count
            buckets.append((_number(bound), total))
        family.add_metric(key, buckets, spread.sum_us / 1e6)
    return family


def _number(bound: float) -> str:
    return "+Inf" if bound == float("inf") else repr(bound)


def _counted(tally: Tally) -> Iterator[Any]:
    by = ("task", "isolation")
    yield _histogram("duration_seconds", "Run times of attempts.", by, sorted(dict(tally.durations).items()))
    completions = sorted(dict(tally.completions).items())
    yield _counter("completions", "Tasks that have ended, by outcome.", (*by, "outcome"), completions)
    for name, text, counts in (
        ("crashes", "Attempts lost because their worker died of them.", tally.crashes),
        ("timeouts", "Attempts ended because they took longer than their timeout and grace.", tally.timeouts),
        ("interruptions", "Attempts lost with their worker that were not to blame.", tally.interruptions),
        ("retries", "Attempts that raised and are tried again.", tally.retries),
    ):
        yield _counter(name, text, by, sorted(dict(counts).items()))
    yield _histogram("claim_seconds", "How long the store takes to hand over tasks.", (), [((), tally.claims)])
    pauses = [((kind,), float(count)) for kind, count in dict(tally.pauses).items()]
    yield _counter("pressure_pauses", "Pauses because the machine was short of something.", ("pressure",), pauses)


def _of_logs(logs: LogMerger | None, engine: TaskEngine | None) -> Iterator[Any]:
    values: list[tuple[tuple[str, ...], float]] = []
    if engine is not None:
        values.append((("produced",), engine.delivery.ledger.produced["log"]))
    if logs is not None:
        counts = attrs.asdict(logs.counts)
        values += [((fate,), counts[fate]) for fate in ("merged", "repeated", "late", "lost", "missed")]
    yield _counter("log_lines", "Lines of logs, by what became of them.", ("fate",), values)


def _of_pool(engine: TaskEngine | None, specified: set[str], queue: _Queue, answers: bool) -> Iterator[Any]:
    running = engine is not None and engine.started and not engine.outlet.over.is_set()
    infos = engine.infos() if engine is not None and running else []
    kinds = sorted({info.isolation for info in infos} | specified)
    standing = {(state, kind): 0 for state in _STATES for kind in kinds}
    for info in infos:
        key = (info.status.value, info.isolation)
        standing[key] = standing.get(key, 0) + 1
    active = [((kind,), standing["idle", kind] + standing["busy", kind]) for kind in kinds]
    yield _gauge("active", "Workers that are idle or busy.", ("isolation",), active)
    for state in _STATES:
        text = f"Workers that are {state}."
        yield _gauge(state, text, ("isolation",), [((kind,), standing[state, kind]) for kind in kinds])
    yield _gauge("queue_depth", "Tasks that wait for a worker.", (), [((), queue.depth)])
    now_us = 0 if engine is None else engine._clock.wall_us()
    ages = [((str(priority),), max(0.0, (now_us - since) / 1e6)) for priority, since in queue.since_us.items()]
    yield _gauge("queue_age_seconds", "How long the first task of a priority has waited.", ("priority",), ages)
    held = sum(len(info.task_ids) for info in infos)
    yield _gauge("running_tasks", "Tasks that workers hold.", (), [((), held)])
    by = ("worker", "isolation")
    for name, text, field in (
        ("cpu_percent", "CPU of a worker's process tree, percent of one core.", "cpu_percent"),
        ("memory_bytes", "Memory of a worker's process tree.", "memory_bytes"),
        ("disk_bytes", "Files in the temporary directories of what a worker runs.", "disk_bytes"),
    ):
        values = [((info.worker_id, info.isolation), getattr(info, field)) for info in infos]
        yield _gauge(name, text, by, [(key, value) for key, value in values if value is not None])
    yield _gauge("up", "1 while the service runs.", (), [((), float(running))])
    trouble = engine is not None and engine.durable is not None and engine.durable.trouble is not None
    yield _gauge("store_up", "1 while the store answers.", (), [((), float(answers and not trouble))])


def _of_engine(engine: TaskEngine) -> Iterator[Any]:
    core, delivery = engine.core, engine.delivery
    paused = core.paused_for is not None
    yield _gauge("paused", "1 while new attempts are held back.", (), [((), float(paused))])
    seconds = core.pool.status(engine._clock.monotonic_ns(), 0, None).uptime if engine.started else 0.0
    yield _gauge("uptime_seconds", "Seconds since the start.", (), [((), seconds)])
    yield _counter("lost", "Workers that died with a task.", (), [((), core.lost)])
    if engine.following is not None:
        found = engine.following.recovery
        recovered = [((what,), getattr(found, what)) for what in ("services", "recovered", "failed", "cancelled")]
        yield _counter("recoveries", "Dead services found, and what became of their tasks.", ("what",), recovered)
    ledger = delivery.ledger_report()
    fates = [
        ((kind, fate), getattr(lane, fate))
        for kind, lane in ledger.lanes.items()
        for fate in ("produced", "delivered", "conflated", "dropped")
    ]
    yield _counter("events", "Events of tasks, by what became of them.", ("kind", "fate"), fates)
    pending = [((kind,), lane.pending) for kind, lane in ledger.lanes.items()]
    yield _gauge("events_pending", "Events that wait for a subscriber.", ("kind",), pending)
    withheld = float(delivery.congested)
    yield _gauge(
        "events_withheld", "1 while a subscriber is so far behind that no credit is given.", (), [((), withheld)]
    )
    detached = [(("raised",), ledger.raised), (("stalled",), ledger.stalled)]
    yield _counter("subscribers_detached", "Subscribers that were detached.", ("reason",), detached)
