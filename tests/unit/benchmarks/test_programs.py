"""A program is found on the system, else in the package that brings it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.programs import PACKAGES, find_program


def test_a_program_of_the_system_comes_first_and_that_of_a_package_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, inside = PACKAGES["redis-server"]
    system, brought = tmp_path / "bin" / "redis-server", tmp_path / "site" / package / inside
    monkeypatch.setenv("PATH", str(system.parent))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    brought.parent.mkdir(parents=True)
    (tmp_path / "site" / package / "__init__.py").touch()
    brought.touch()
    assert find_program("redis-server") is None, "it cannot be executed"
    brought.chmod(0o755)
    assert str(brought) == find_program("redis-server")
    system.parent.mkdir()
    system.touch()
    system.chmod(0o755)
    assert str(system) == find_program("redis-server")
    assert find_program("no-such-program") is None
