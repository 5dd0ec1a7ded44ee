"""The taps of a process are set once, however many threads set them off at the same time.

Each test is a program of its own: loguru can be imported for the first time only once.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = str(Path(__file__).resolve().parents[3])

_START = """
import importlib.util, sys, threading
from rxtasks.worker import capture
from rxtasks.worker.capture.sink import Sink

tap = capture.acquire()

def sinks():
    import loguru
    return sorted(loguru.logger._core.handlers)
"""


def output_of(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _START + program],
        env={**os.environ, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "" == done.stderr
    return done.stdout


def test_an_attempt_that_begins_while_loguru_is_imported_sets_no_second_sink() -> None:
    """E-10: one thread's first ctx.log and another's next attempt at once: each line is logged once, then and later."""
    program = """
adding, go = threading.Event(), threading.Event()
add = Sink._add

def slow_add(sink):
    if threading.current_thread() is importer:
        adding.set()
        go.wait()
    add(sink)

class Lock:
    # Says when somebody has to wait for it.
    def __init__(self):
        self.lock = threading.RLock()
    def __enter__(self):
        if not self.lock.acquire(blocking=False):
            go.set()
            self.lock.acquire()
    def __exit__(self, *_):
        self.lock.release()

def begin():
    tap.begin()
    go.set()

Sink._add = slow_add
tap.setting = Lock()
importer = threading.Thread(target=lambda: __import__("loguru"))
importer.start()
adding.wait()
other = threading.Thread(target=begin)
other.start()
importer.join()
other.join()
print(sinks())
capture.release()
print(sinks())
"""
    assert "[0, 1]\n[0]\n" == output_of(program)


def test_loguru_that_is_imported_while_the_taps_are_taken_out_is_not_tapped() -> None:
    """E-10: the last executor ends while another thread imports loguru: nothing is left in it."""
    program = """
spec = next(hook.find_spec("loguru") for hook in sys.meta_path if type(hook).__module__.startswith("rxtasks"))
module = sys.modules["loguru"] = importlib.util.module_from_spec(spec)
capture.release()
spec.loader.exec_module(module)
print(sinks())
assert capture.acquire() is tap
print(sinks())
capture.release()
print(sinks())
"""
    assert "[0]\n[0, 1]\n[0]\n" == output_of(program)


def test_loguru_that_was_being_imported_when_the_taps_were_set_is_tapped_at_the_next_attempt() -> None:
    """E-10: loguru is captured whoever imported it, and whenever."""
    program = """
capture.release()
spec = importlib.util.find_spec("loguru")
module = sys.modules["loguru"] = importlib.util.module_from_spec(spec)
capture.acquire()
tap.begin()
spec.loader.exec_module(module)
tap.begin()
print(sinks())
capture.release()
print(sinks())
"""
    assert "[0, 1]\n[0]\n" == output_of(program)


def test_an_attempt_that_begins_after_the_taps_were_taken_out_sets_none() -> None:
    """W-18: an attempt abandoned as it begins leaves the caller's streams and warnings alone."""
    program = """
import warnings
capture.release()
before = sys.stdout, sys.stderr, warnings.showwarning
tap.begin()
print(before == (sys.stdout, sys.stderr, warnings.showwarning))
"""
    assert "True\n" == output_of(program)
