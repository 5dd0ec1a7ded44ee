"""What is imported when."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("IPython", "ipykernel", "pandas", "altair", "anywidget", "ipywidgets", "traitlets")


@pytest.mark.parametrize("what", ["rxtasks", "rxtasks.service", "rxtasks.jupyter"])
def test_nothing_of_a_notebook_is_imported_before_it_is_used(what: str) -> None:
    """N-01: nor by what shows itself where there is no notebook."""
    code = (
        f"import sys, {what}\n"
        "from rxtasks import TaskService\n"
        "service = TaskService(1, isolation='thread')\n"
        f"{'service._repr_mimebundle_()' if what == 'rxtasks.jupyter' else ''}\n"
        f"print([name for name in {HEAVY} if name in sys.modules], 'rxtasks.jupyter' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (f"[] {what == 'rxtasks.jupyter'}\n", "") == (done.stdout, done.stderr)


def test_a_missing_library_is_named() -> None:
    """N-01: with what to install."""
    code = (
        "import sys\nsys.modules['pandas'] = sys.modules['altair'] = None\n"
        "import rxtasks.jupyter as rxj\nfrom rxtasks import TaskService, RxTasksError\n"
        "service = TaskService(1, isolation='thread')\n"
        "for call in (rxj.frame, rxj.attempts, rxj.timeline):\n"
        "    try:\n        call(service)\n    except RxTasksError as error:\n        print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    hint = "pip install 'rxtasks[jupyter]'"
    assert f"this needs pandas: {hint}\nthis needs pandas: {hint}\nthis needs altair: {hint}\n" == done.stdout, (
        done.stderr
    )
