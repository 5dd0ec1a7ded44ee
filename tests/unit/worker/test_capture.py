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


_FORK_IN_THE_MIDST = """
import logging, os, signal
from rxtasks import LogEvent, TaskService
from rxtasks.worker.capture.warned import Warned

capture.release()
logging.getLogger().addHandler(logging.NullHandler())
setting, joining = threading.Event(), threading.Event()
install = Warned.install

def install_and_stay(warned):
    install(warned)
    if threading.current_thread() is setter:
        setting.set()
        threading.Event().wait()

def join_and_stay():
    with tap._lock:
        joining.set()
        threading.Event().wait()

def speak():
    logging.getLogger("x").warning("said")
    print("out")

Warned.install = install_and_stay
setter = threading.Thread(target=capture.acquire, daemon=True)
setter.start()
threading.Thread(target=join_and_stay, daemon=True).start()
setting.wait()
joining.wait()
child = os.fork()
if child == 0:
    signal.alarm(20)
    lines = []
    for isolation in ("inline", "thread"):
        with TaskService(1, isolation=isolation, echo=None) as own:
            own.events.subscribe(lambda event: isinstance(event, LogEvent) and lines.append(event.message))
            own.submit(speak).result(15)
    os.write(1, f"{lines} {sys.stdout is sys.__stdout__}\\n".encode())
    os._exit(0)
os.write(1, f"ended with {os.waitpid(child, 0)[1]}\\n".encode())
os._exit(0)
"""


def test_a_child_forked_while_another_thread_sets_the_taps_has_taps_of_its_own() -> None:
    """E-10, W-10: no lock of a thread that is not there is waited for, and what was half done makes no line twice."""
    assert "['said', 'out', 'said', 'out'] True\nended with 0\n" == output_of(_FORK_IN_THE_MIDST)
