"""The notebooks run from top to bottom, and once more in the same kernel, as a reader runs them."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.jupyter.kernel import ROOT, Cell, Kernel

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

#: A slow subscriber gets all lines, one that may miss some does not.
BACKPRESSURE = ["behind a slow subscriber, which got 3000 lines", "it got fewer"]

#: What a notebook prints or shows in the end, in any cell.
EXPECTED = {
    "01_first_task": ["[74, 76, 78]", "[0, 10, 20]", "True 2 1", "84 succeeded", "INFO scaled 40 numbers"],
    "02_pipelines": [
        "10000",
        "(20, True)",
        "ZeroDivisionError",
        "500 lines in",
        "ledger exact",
        "200 of 200",
        *BACKPRESSURE,
    ],
    "03_the_pool_at_work": [
        *("'attempt 2 made it'", "1 pending WORKER_CRASHED", "3 None", "'attempt 3'", "cancelled: seen enough"),
        *("stopped at 0.3 s", "__main__:hopeless crashed"),
    ],
}


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def text_of(notebook: Any) -> str:
    """Return all that the cells printed and showed."""
    parts = []
    for cell in code_cells(notebook):
        for output in cell.outputs:
            parts.append(output.get("text") or output.get("data", {}).get("text/plain", ""))
    return "\n".join(parts)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_without_errors(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """N-01: in a fresh kernel, and shows what its text says."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    room = tmp_path / "room"
    room.mkdir()
    notebook = nbformat.read(path, 4)
    NotebookClient(notebook, timeout=100, kernel_name="python3", resources={"metadata": {"path": str(room)}}).execute()
    text = text_of(notebook)
    assert [] == [words for words in EXPECTED[path.stem] if words not in text], text
    assert [] == list(room.iterdir()), "it left files behind"


def printed(cell: Cell) -> int:
    """Return how many lines the cell printed, IPython's own about an extension apart."""
    return sum("%reload_ext" not in line and "already loaded" not in line for line in cell.text.splitlines())


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_run_again_in_the_same_kernel_nothing_is_doubled(path: Path, tmp_path: Path) -> None:
    """N-01: all cells twice, as a frontend sends them."""
    cells = code_cells(nbformat.read(path, 4))
    with Kernel(tmp_path) as kernel:
        first = [kernel.run(cell.source, cell.id) for cell in cells]
        again = [kernel.run(cell.source, cell.id) for cell in cells]
    assert [] != first
    for cell, one, two in zip(cells, first, again, strict=True):
        assert printed(one) == printed(two), cell.source


def test_the_subscription_of_the_first_notebook_prints_each_end_once(tmp_path: Path) -> None:
    """N-01: its cell run three times, then the one that submits."""
    cells = {cell.id: cell.source for cell in code_cells(nbformat.read(ROOT / "notebooks" / "01_first_task.ipynb", 4))}
    (subscribes,) = (name for name, source in cells.items() if 'name="ends"' in source)
    names = list(cells)
    with Kernel(tmp_path) as kernel:
        for name in names[: names.index(subscribes)]:
            kernel.run(cells[name], name)
        *old, last = [kernel.run(cells[subscribes], subscribes) for _ in range(3)]
        submits = kernel.run(cells[names[names.index(subscribes) + 1]], "submits")
        last.wait(lambda cell: cell.text.count("\n") >= 3)
        assert ["succeeded [0]", "succeeded [0, 10]", "succeeded [0, 10, 20]"] == last.text.splitlines()
        assert "" == submits.text == "".join(cell.text for cell in old)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_clean(path: Path) -> None:
    """N-01: without outputs, with prose, importing only what the package brings."""
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    for cell in code_cells(notebook):
        assert [] == cell.outputs and cell.execution_count is None
    assert "# " in notebook.cells[0].source
    assert len(notebook.cells) - len(code_cells(notebook)) >= 5
    source = "\n".join(line for cell in code_cells(notebook) for line in cell.source.splitlines() if line[:1] != "%")
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST
    tree: Any = compile(source, str(path), "exec", flags=flags)
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} <= {*sys.stdlib_module_names, "rxtasks", "reactivex"}
