"""How tasks depend on each other (pure): who waits for whom, circles, and what follows from an end.

A task with dependencies is blocked until each of them has ended well. The end of the last one and the release of what waited
for it are one step of the store. When one fails or is cancelled, its dependents are cancelled in turn, unless they are to
run all the same (on_dependency_failure="run").
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from rxtasks.errors import SettingsError
from rxtasks.lifecycle.status import TaskStatus

__all__ = ["check_circles", "missing", "why_not"]


def check_circles(starts: Iterable[str], needs: Callable[[str], Iterable[str]]) -> None:
    """Do nothing if following `needs` from the starts never leads back.

    Raises:
        SettingsError: it does; shows the way.
    """
    done: set[str] = set()
    for start in starts:
        if start in done:
            continue
        path: list[str] = [start]
        on_path = {start}
        ways = [iter(needs(start))]
        while ways:
            step = next(ways[-1], None)
            if step is None:
                ways.pop()
                on_path.discard(path[-1])
                done.add(path.pop())
            elif step in on_path:
                circle = [*path[path.index(step) :], step]
                raise SettingsError(
                    f"tasks depend on each other in a circle: {' -> '.join(circle)}; none of them could ever run"
                )
            elif step not in done:
                path.append(step)
                on_path.add(step)
                ways.append(iter(needs(step)))


def missing(task_id: str, dependency: str) -> SettingsError:
    """Return the error of a dependency that the store does not have."""
    return SettingsError(
        f"task {task_id} depends on {dependency}, which the store does not have ({task_id} -> {dependency}): push that one"
        " first or in the same batch; one that ended long ago is forgotten (retention), so leave it out"
    )


def why_not(dependency: str, status: TaskStatus) -> str:
    """Return why a dependent of a task that ended so is cancelled."""
    return f"its dependency {dependency} {'has failed' if status is TaskStatus.FAILED else 'was cancelled'}"
