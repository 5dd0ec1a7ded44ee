"""Staying awake ends where others want the core."""

from __future__ import annotations

import select
import socket
import time
from types import SimpleNamespace

import pytest

from rxtasks import machine
from rxtasks.machine import Crowd
from rxtasks.worker import waiting
from rxtasks.worker.waiting import ChannelPoll


class Core:
    """A core, and a clock that only moves while somebody else has it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        #: Seconds for which others take it each time.
        self.wanted = 0.0
        self.given = 0
        monkeypatch.setattr(machine, "time", SimpleNamespace(perf_counter=lambda: self.now))

    def give_way(self) -> None:
        self.given += 1
        self.now += self.wanted


def test_a_core_that_is_taken_for_a_slice_is_not_waited_on_awake(monkeypatch: pytest.MonkeyPatch) -> None:
    """W-06: noticed by how long giving way takes, and tried again after a while."""
    core = Core(monkeypatch)
    crowd = Crowd(core.give_way)
    assert not crowd.give_way(core.now) and not crowd.here(core.now)
    core.wanted = 0.004
    assert crowd.give_way(core.now) and crowd.here(core.now)
    core.now += 0.9 * machine.CROWDED_FOR - core.wanted
    assert crowd.here(core.now)
    core.now += 0.2 * machine.CROWDED_FOR
    assert not crowd.here(core.now)
    assert core.given == 2


def test_once_may_be_a_thread_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """W-06: where that is so, it has to be taken as often as said, in a row."""
    core = Core(monkeypatch)
    crowd = Crowd(core.give_way, times=2)
    core.wanted = 0.004
    assert not crowd.give_way(core.now)
    core.wanted = 0.0
    assert not crowd.give_way(core.now)
    core.wanted = 0.004
    assert not crowd.give_way(core.now)
    assert crowd.give_way(core.now)
    assert crowd.here(core.now)


def test_a_worker_sleeps_in_a_crowd(monkeypatch: pytest.MonkeyPatch) -> None:
    """W-06: after a short wait it would stay awake; where others want the core it sleeps until it is woken."""
    monkeypatch.setattr(waiting, "usable_cpus", lambda: 2)
    monkeypatch.setattr(waiting, "SPIN", 1000.0)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        poll = ChannelPoll(ours.fileno())
        theirs.send(b"1")
        assert poll.wait(write=False) == select.POLLIN and poll._spins
        ours.recv(10)

        class Told(Crowd):
            def give_way(self, now: float) -> bool:
                theirs.send(b"2")
                return True

        poll._crowd = Told(lambda: None)
        poll._crowd._until = time.perf_counter() + 1000
        assert poll.wait(write=False) == select.POLLIN
        assert not poll._spins, "as long as the crowd is there"
