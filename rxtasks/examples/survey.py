"""Survey Python source files: lines, functions, branching, and what cannot be parsed.

::

    rxtasks run rxtasks.examples.survey:measure                       # the standard library of this Python
    rxtasks run rxtasks.examples.survey:measure 'src/**/*.py' --collect rxtasks.examples.survey:report

`measure` takes one file and returns plain data; `report` adds up what it returned for many. The three names at the
end say what a run without INPUT does.

Branching is McCabe's cyclomatic complexity: one more than the decisions in a function. T. J. McCabe, "A Complexity
Measure", IEEE Transactions on Software Engineering SE-2(4), 1976. Decisions here are if, elif, the conditional
expression, for, while, except, each `if` of a comprehension and the comprehension's loop, each `case` but an
irrefutable one, `assert`, and each further operand of `and` and `or`. Functions inside a function are measured by
themselves.
"""

from __future__ import annotations

import ast
import sysconfig
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

from rxtasks import task

__all__ = ["complexity", "default_collect", "default_exclude", "default_inputs", "measure", "report"]

_Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef

#: Functions that a report names.
_MOST = 10

#: Nodes that are one decision each.
_DECISIONS = (
    ast.If,
    ast.IfExp,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.ExceptHandler,
    ast.Assert,
    ast.comprehension,
)


@task
def measure(path: str) -> dict[str, Any]:
    """Return the measures of one source file; one that cannot be read or parsed is a result too, with its `problem`.

    Args:
        path: The file; its encoding is found as Python finds it (PEP 263).

    Returns:
        path, problem (None or a sentence), lines, functions (number), branching (sum over the functions), most (the
        most complex functions, each [complexity, name, line]), started and ended (seconds of the machine's monotonic
        clock), cpu_seconds.
    """
    started, cpu = time.monotonic(), time.thread_time()
    measures: dict[str, Any] = {"path": path, "problem": None, "lines": 0, "functions": 0, "branching": 0, "most": []}
    try:
        with open(path, "rb") as file:
            source = file.read()
        measures["lines"] = source.count(b"\n") + (not source.endswith(b"\n") if source else 0)
        found = sorted(_functions(_parse(source, path)), key=lambda row: (-row[0], row[2]))
    except OSError as error:
        measures["problem"] = f"cannot be read: {error.strerror or error}"
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        measures["problem"] = _problem(error)
    else:
        measures["functions"] = len(found)
        measures["branching"] = sum(row[0] for row in found)
        measures["most"] = found[:_MOST]
    measures["started"], measures["ended"] = started, time.monotonic()
    measures["cpu_seconds"] = time.thread_time() - cpu
    return measures


def _parse(source: bytes, path: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in other people's files
        return ast.parse(source, path)


def _problem(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        line = f" in line {error.lineno}" if error.lineno else ""
        return f"{type(error).__name__}{line}: {error.msg}"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _functions(module: ast.Module) -> Iterator[list[Any]]:
    """Yield [complexity, qualified name, line] of every function, those inside classes and functions too."""
    waiting: list[tuple[ast.AST, str]] = [(module, "")]
    while waiting:
        node, prefix = waiting.pop()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, _Function):
                yield [complexity(child), prefix + child.name, child.lineno]
                waiting.append((child, f"{prefix}{child.name}."))
            elif isinstance(child, ast.ClassDef):
                waiting.append((child, f"{prefix}{child.name}."))
            elif isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
                waiting.append((child, prefix))


def complexity(function: _Function) -> int:
    """Return McCabe's cyclomatic complexity of one function, without the functions inside it."""
    decisions = 0
    waiting: list[ast.AST] = [*function.body]
    while waiting:
        node = waiting.pop()
        if isinstance(node, _Function):
            continue
        if isinstance(node, _DECISIONS):
            decisions += 1
            if isinstance(node, ast.comprehension):
                decisions += len(node.ifs)
        elif isinstance(node, ast.BoolOp):
            decisions += len(node.values) - 1
        elif isinstance(node, ast.match_case) and not _irrefutable(node):
            decisions += 1
        waiting.extend(ast.iter_child_nodes(node))
    return decisions + 1


def _irrefutable(case: ast.match_case) -> bool:
    return case.guard is None and isinstance(case.pattern, ast.MatchAs) and case.pattern.pattern is None


def report(results: Iterable[dict[str, Any]]) -> str:
    """Return the text that adds up what `measure` returned for many files."""
    files = list(results)
    bad = [file for file in files if file["problem"] is not None]
    cpu = sum(file["cpu_seconds"] for file in files)
    wall = max((file["ended"] for file in files), default=0.0) - min((file["started"] for file in files), default=0.0)
    functions = sum(file["functions"] for file in files)
    branching = sum(file["branching"] for file in files)
    rows = [
        ("files", f"{len(files):,}"),
        ("lines", f"{sum(file['lines'] for file in files):,}"),
        ("functions", f"{functions:,}"),
        ("branching", f"{branching:,} in all, {branching / functions:.2f} a function" if functions else "none"),
        ("CPU time", f"{cpu:.2f} s in {wall:.2f} s: speed-up {cpu / wall:.2f}" if wall > 0 else f"{cpu:.2f} s"),
    ]
    text = [f"{word:<12}{value}" for word, value in rows]
    text += _most(files) + _unparsable(bad)
    return "\n".join(text)


def _most(files: Sequence[dict[str, Any]]) -> list[str]:
    found = [(row[0], file["path"], row[1], row[2]) for file in files for row in file["most"]]
    found.sort(key=lambda row: (-row[0], row[1:]))
    if not found:
        return []
    return ["most complex functions", *(f"  {row[0]:>5}  {row[2]}  {row[1]}:{row[3]}" for row in found[:_MOST])]


def _unparsable(bad: Sequence[dict[str, Any]]) -> list[str]:
    if not bad:
        return ["unparsable  none"]
    return [f"unparsable  {len(bad):,}", *(f"  {file['path']}: {file['problem']}" for file in bad)]


def default_inputs() -> list[str]:
    """Return the pattern of every source file of this Python's standard library."""
    return [f"{sysconfig.get_path('stdlib')}/**/*.py"]


#: Packages that were installed beside the standard library are not of it.
default_exclude = ("*/site-packages/*", "*/dist-packages/*")

default_collect = report
