"""A service that stands still for longer than its lease: its tasks go to others, and nothing that it says of them counts."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from rxtasks import StatusEvent, WorkerEvent, iterate
from tests.chaos import durable
from tests.chaos.durable import Journal, Other, look
from tests.chaos.support import LONG, Witness, kill, service

#: A loaded machine may take a second to renew it.
SHORT = {"lease": 3.0, "lease_renewal": 0.3}


def recoveries(witness: Witness) -> list[WorkerEvent]:
    return [event for event in witness.pool if event.kind == "recovered"]


def test_a_service_that_stood_still_has_lost_its_tasks_and_goes_on(tmp_path: Path) -> None:
    """Q-02 Q-03: it is fenced: late events, results and claims change nothing, its attempts are ended, and it works again."""
    go = tmp_path / "go"
    with service(2, store=durable.url(tmp_path), modules=["tests.chaos.durable"], **SHORT) as (made, witness):
        made.pause()
        with Other(tmp_path, workers=2, **SHORT) as other:
            both = [made.submit(durable.until, str(go)), made.submit(durable.stays_once, str(tmp_path / "journal"))]
            for tracker in both:
                witness.wait_output(tracker.task_id, "here")
            ((number,),) = look(tmp_path, "select number from services where pid = ?", other.process.pid)
            before = len(recoveries(witness))
            kill(other.process.pid, signal.SIGSTOP)
            witness.wait(lambda: recoveries(witness)[before:])
            assert [] == look(tmp_path, "select 1 from services where pid = ?", other.process.pid)
            made.resume()
            assert 2 == both[1].result(LONG)
            witness.wait(
                lambda: len([e for e in witness.of(both[0].task_id) if getattr(e, "value", None) == "here"]) == 2
            )
            go.touch()  # both attempts end, and only one of them counts
            assert 2 == both[0].result(LONG)
            kill(other.process.pid, signal.SIGCONT)
            assert other.wait_line("warning")
            ((again,),) = look(tmp_path, "select number from services where pid = ?", other.process.pid)
            assert again > number
            made.pause()
            after = [made.submit(durable.add, index, index) for index in range(50)]
            assert [2 * index for index in range(50)] == [tracker.result(LONG) for tracker in after]
            other.tell("stop")
            assert "stopped" == other.wait_line("stopped")
        for tracker in both:
            events = list(iterate(made.track(tracker.task_id)))
            statuses = [str(event.status) for event in events if isinstance(event, StatusEvent)]
            assert ["running", "pending", "running", "succeeded"] == statuses
            assert made.flush(LONG) and events == witness.of(tracker.task_id)
        assert [("begin", 1), ("again", 2)] == [(what, n) for what, _, n, _ in Journal(tmp_path).lines()]


def test_a_frozen_tree_does_not_write_over_what_others_did(tmp_path: Path) -> None:
    """Q-02: also when the workers stood still too, and report their ends before their service has renewed its lease."""
    go = tmp_path / "go"
    with service(1, store=durable.url(tmp_path), modules=["tests.chaos.durable"], **SHORT) as (made, witness):
        made.pause()
        with Other(tmp_path, workers=1, **SHORT) as other:
            tracker = made.submit(durable.until, str(go))
            witness.wait_output(tracker.task_id, "here")
            tree = [other.process.pid, *durable.below(other.process.pid)]
            before = len(recoveries(witness))
            for pid in tree:
                os.kill(pid, signal.SIGSTOP)
            witness.wait(lambda: recoveries(witness)[before:])
            for pid in reversed(tree):
                os.kill(pid, signal.SIGCONT)
            go.touch()
            assert other.wait_line("warning")
            assert "pending" == str(made.get(tracker.task_id).status) or tracker.done
            made.resume()
            assert 2 == tracker.result(LONG)
        assert made.flush(LONG)
        assert ["running", "pending", "running", "succeeded"] == witness.statuses(tracker.task_id)


def test_a_lone_service_that_stood_still_keeps_its_tasks(tmp_path: Path) -> None:
    """Q-03: with nobody who took them over, the lease is renewed and the work goes on as if nothing had happened."""
    go = tmp_path / "go"
    with Other(tmp_path, workers=1, **SHORT) as other:
        with durable.here(tmp_path, 0, lease=60.0, lease_renewal=30.0) as made:
            tracker = made.submit(durable.until, str(go))
            durable.wait_output(tracker)
        kill(other.process.pid, signal.SIGSTOP)
        durable.wait_until(lambda: look(tmp_path, "select lease_ns from services")[0][0] < durable.now_ns())
        kill(other.process.pid, signal.SIGCONT)
        durable.wait_until(lambda: look(tmp_path, "select lease_ns from services")[0][0] > durable.now_ns())
        go.touch()
        with durable.here(tmp_path, 0) as made:
            assert 1 == made.track(tracker.task_id).result(LONG)
            assert 0 == made.get(tracker.task_id).interruptions
