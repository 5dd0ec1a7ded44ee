"""When a worker is over its limits: what is told, when, and how often (L-01, L-02)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rxtasks.lifecycle.options import ResourceLimits
from rxtasks.pool.limits import Excess, Usage, Watch, in_words

_SECOND = 1_000_000_000
_MB = 1_000_000


def _memory(watch: Watch, *amounts: int) -> list[list[Excess]]:
    return [watch.judge(Usage(0.0, amount), number * _SECOND) for number, amount in enumerate(amounts)]


def test_a_crossing_is_told_once_and_again_when_it_has_grown_by_a_quarter() -> None:
    """L-02: what hovers about its limit is no flood of events."""
    watch = Watch(ResourceLimits(memory_bytes=100))
    told = _memory(watch, 100, 101, 120, 101, 126, 130, 158)
    assert [[], [101], [], [], [], [130], []] == [[excess.used for excess in found] for found in told[:6]] + [[]]
    assert [] == told[6], "158 is less than a quarter above 130"
    assert ["warn"] == [excess.action for excess in told[1]]


def test_a_crossing_is_over_below_nine_tenths() -> None:
    """L-02: then the next one is told anew."""
    watch = Watch(ResourceLimits(memory_bytes=100))
    assert [False, True, False, False, False, True] == [
        bool(found) for found in _memory(watch, 50, 110, 95, 110, 90, 101)
    ]


def test_the_cpu_counts_as_the_mean_of_a_second() -> None:
    """L-02: a burst of a few tenths of a second is none."""
    watch = Watch(ResourceLimits(cpu_percent=50))
    used = 0.0
    told = []
    for tenth in range(40):
        used += 0.1 if tenth < 3 or tenth >= 20 else 0.0
        told += [(tenth, excess) for excess in watch.judge(Usage(used, 0), tenth * _SECOND // 10)]
    assert told
    first = told[0]
    assert 20 <= first[0] <= 27, "half of the last second was used"
    assert 50 < first[1].used <= 100 and "cpu" == first[1].what


def test_nothing_is_killed_for_a_second_of_cpu() -> None:
    """L-02: three seconds have to be above it on average."""
    watch = Watch(ResourceLimits(cpu_percent=50, over_limit="kill"))
    told = [
        (tenth, excess)
        for tenth in range(60)
        for excess in watch.judge(Usage(min(tenth, 12) / 10, 0), tenth * _SECOND // 10)
    ]
    assert [] == told
    watch = Watch(ResourceLimits(cpu_percent=50, over_limit="kill"))
    assert [30] == [tenth for tenth in range(31) if watch.judge(Usage(tenth / 10, 0), tenth * _SECOND // 10)]


def test_a_cpu_that_the_kernel_holds_at_its_share_is_over_it_all_the_same() -> None:
    """L-02: it used no more only because it was held back."""
    limits = ResourceLimits(cpu_percent=20, over_limit="throttle")
    held, idle = Watch(limits), Watch(limits)
    found = [held.judge(Usage(0.2 * second, 0, held_seconds=0.8 * second), second * _SECOND) for second in range(3)]
    assert [[], ["throttle"], []] == [[excess.action for excess in told] for told in found]
    assert [] == [told for second in range(5) if (told := idle.judge(Usage(0.19 * second, 0), second * _SECOND))]


def test_a_process_that_the_kernel_killed_at_the_limit_counts_though_less_is_used_now() -> None:
    """L-02: a child that ran out of the cgroup's memory is seen as such."""
    watch = Watch(None, ResourceLimits(memory_bytes=100, over_limit="kill"))
    assert [] == watch.judge(Usage(0.0, 50, ooms=1), 0)
    (excess,) = watch.judge(Usage(0.0, 10, ooms=2), _SECOND)
    assert ("memory", 100, "kill", True) == (excess.what, excess.used, excess.action, excess.of_task)
    assert "where the kernel killed for it" in excess.text


def test_an_estimate_above_the_limit_is_no_crossing() -> None:
    """L-01: resident memory is more than what a process takes; only what is exact counts."""
    watch = Watch(ResourceLimits(memory_bytes=100, over_limit="kill"))
    assert [] == watch.judge(Usage(0.0, 500, exact=False), 0)
    assert 1 == len(watch.judge(Usage(0.0, 101), 1))


def test_worker_and_task_each_have_their_limits() -> None:
    """L-01 L-02: each is told with its own action, and those of a task end with it."""
    watch = Watch(ResourceLimits(memory_bytes=100), ResourceLimits(memory_bytes=50, disk_bytes=10, over_limit="kill"))
    found = watch.judge(Usage(0.0, 120, 11), 0)
    assert {("memory", "warn", False), ("memory", "kill", True), ("disk", "kill", True)} == {
        (excess.what, excess.action, excess.of_task) for excess in found
    }
    assert 50 == watch.least("memory")
    watch.of_task(None)
    assert (100, None) == (watch.least("memory"), watch.least("disk"))
    assert [] == watch.judge(Usage(0.0, 120, 11), 1), "the worker's was told already"
    watch.of_task(ResourceLimits(memory_bytes=50))
    assert [True] == [excess.of_task for excess in watch.judge(Usage(0.0, 120), 2)], "another task's is told anew"


def test_amounts_have_units() -> None:
    """L-02: a message can be read."""
    assert ["25.5 %", "512 MB", "12.0 GB", "4.1 kB"] == [
        in_words(what, amount)
        for what, amount in (("cpu", 25.5), ("memory", 512 * _MB), ("disk", 12_000 * _MB), ("memory", 4096))
    ]
    text = Excess("memory", 312 * _MB, 150 * _MB, "kill", True).text
    assert "memory 312 MB over the limit of 150 MB (TaskOptions.limits)" == text


_LIMITS = st.builds(
    ResourceLimits,
    cpu_percent=st.none() | st.floats(1, 400),
    memory_bytes=st.none() | st.integers(1, 1000),
    disk_bytes=st.none() | st.integers(1, 1000),
    over_limit=st.sampled_from(("warn", "throttle", "kill")),
)
_LOOKS = st.lists(
    st.tuples(st.integers(0, 3_000), st.floats(0, 3), st.integers(0, 2000), st.integers(0, 2000), st.booleans()),
    max_size=30,
)


@given(worker=st.none() | _LIMITS, task=st.none() | _LIMITS, looks=_LOOKS)
def test_what_is_told_is_so(
    worker: ResourceLimits | None, task: ResourceLimits | None, looks: list[tuple[int, float, int, int, bool]]
) -> None:
    """L-02: each excess is above its own limit, by what was used; nothing is told of what has no limit."""
    watch, now_ns, spent = Watch(worker, task), 0, 0.0
    told: dict[tuple[bool, str], float] = {}
    for pause_ms, cpu, memory, disk, exact in looks:
        now_ns += pause_ms * 1_000_000
        spent += cpu
        for excess in watch.judge(Usage(spent, memory, disk, exact), now_ns):
            limits = task if excess.of_task else worker
            assert limits is not None
            assert excess.action == limits.over_limit
            limit = {"cpu": limits.cpu_percent, "memory": limits.memory_bytes, "disk": limits.disk_bytes}[excess.what]
            assert limit == excess.limit < excess.used
            if excess.what == "memory":
                assert excess.used == memory and exact
            elif excess.what == "disk":
                assert excess.used == disk
            key = (excess.of_task, excess.what)
            assert excess.used != told.get(key), "told twice"
            told[key] = excess.used
        for key in list(told):
            limits = task if key[0] else worker
            assert limits is not None
            used = {"memory": memory, "disk": disk, "cpu": 0}[key[1]]
            if used <= 0.9 * ({"memory": limits.memory_bytes, "disk": limits.disk_bytes}.get(key[1]) or 0):
                del told[key]


@given(limit=st.integers(1, 1000), amounts=st.lists(st.integers(0, 2000), max_size=40))
def test_every_stay_above_the_limit_is_told_exactly_once_unless_it_grows(limit: int, amounts: list[int]) -> None:
    """L-02: an excess begins above the limit, ends at nine tenths of it, and is told at its beginning."""
    watch, over, told = Watch(ResourceLimits(memory_bytes=limit)), False, 0.0
    for number, amount in enumerate(amounts):
        found = watch.judge(Usage(0.0, amount), number)
        expected = amount > limit and (not over or amount >= 1.25 * told)
        assert expected == bool(found)
        if expected:
            over, told = True, amount
        elif amount <= 0.9 * limit:
            over = False
