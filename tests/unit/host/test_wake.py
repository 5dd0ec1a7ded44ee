"""Signals and asks, as the main thread of a pool gets them."""

from __future__ import annotations

import os
import signal
import threading

from rxtasks.host.wake import Ask, Wake


def test_nothing_is_missed_whoever_asks() -> None:
    """Signals and asks of several threads all come through; signals of one kind may become one, as the system does it."""
    with Wake(hang_up=True) as wake:
        threads = [
            threading.Thread(target=lambda: [wake.ask(Ask(str(number))) for number in range(100)]) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(os.getpid(), number)
        found = [wake.wait(30.0) for _ in range(403)]
        for thread in threads:
            thread.join()
        assert wake.wait(0.0) is None
    assert {"SIGTERM", "SIGINT", "SIGHUP"} == {ask.why for ask in found if ask is not None and ask.signal}
    assert 400 == sum(ask is not None and not ask.signal for ask in found)


def test_what_was_there_before_is_restored_and_an_ignored_hangup_stays_so() -> None:
    """nohup ignores SIGHUP for the program that it starts: then it is nothing to end of."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Wake(hang_up=True) as wake:
            os.kill(os.getpid(), signal.SIGHUP)
            wake.ask(Ask("behind it"))
            assert "behind it" == getattr(wake.wait(30.0), "why", None)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before[2])
    with Wake(hang_up=False):
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    assert before == [signal.getsignal(number) for number in numbers]
