"""What a handler does to its process does not reach the next task (W-17)."""

from __future__ import annotations

from tests.chaos.handlers import spoil, state
from tests.chaos.support import LONG, service


def test_a_spoilt_process_is_restored(tmp_path: object) -> None:
    """W-17: cwd, umask, environment, signals, standard streams and children are as before the attempt."""
    with service(1) as (tasks, witness):
        before = tasks.submit(state).result(LONG)
        for _ in range(3):
            assert before["pid"] == tasks.submit(spoil, str(tmp_path)).result(LONG)
            assert before == tasks.submit(state).result(LONG)
        tracker = tasks.submit(print, "still heard")
        tracker.result(LONG)
        assert tasks.flush(LONG)
        assert ["still heard"] == witness.lines(tracker.task_id, "stdout")
        assert not witness.failures()
