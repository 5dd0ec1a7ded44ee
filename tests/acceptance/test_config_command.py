"""`rxtasks config` and `rxtasks manual`, as real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


class Shell:
    """Runs commands in a project, as a user who has nothing else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "home").mkdir()
        self.project = folder / "project"
        self.project.mkdir()

    def __call__(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("RXTASKS_", "XDG_"))}
        return subprocess.run(
            [sys.executable, "-m", "rxtasks", *arguments],
            cwd=self.project,
            env={**clean, "PYTHONPATH": str(ROOT), "HOME": str(self.folder / "home"), **environ},
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def test_show_prints_each_value_with_its_source(shell: Shell) -> None:
    """C-05: as text and as one JSON object."""
    (shell.project / "rxtasks.yaml").write_text("workers: {count: 4, pollIntervalMs: 50}\n")
    done = shell("config", "show", "--set", "retain_days=3", RXTASKS_MODULES="a,b")
    assert (done.returncode, done.stderr) == (0, "")
    lines = {line.split(" = ")[0].strip(): line.split(" = ")[1].split("  ") for line in done.stdout.splitlines()}
    found = {path: (parts[0].strip(), parts[-1].strip()) for path, parts in lines.items()}
    file = str(shell.project / "rxtasks.yaml")
    assert found["workers.count"] == ("4", file)
    assert found["modules"] == ("a,b", "environment RXTASKS_MODULES")
    assert found["retain_days"] == ("3", "flag --set retain_days")
    assert found["workers.mode"] == ("process", "default")
    assert found["store"][1] == "state directory"
    done = shell("config", "show", "workers.count", "store", "--json", RXTASKS_STORE="sqlite:////tmp/x.db")
    assert json.loads(done.stdout) == {
        "file": file,
        "warnings": [],
        "settings": {
            "workers.count": {"value": 4, "source": file},
            "store": {"value": "sqlite:////tmp/x.db", "source": "environment RXTASKS_STORE"},
        },
    }
    done = shell("config", "show", "--changed", "--json")
    assert list(json.loads(done.stdout)["settings"]) == ["workers.count", "workers.poll_interval_ms"]
    assert not list((shell.folder / "home").iterdir()), "showing makes nothing"


def test_set_reaches_a_command_that_has_a_flag_of_its_own_for_it(shell: Shell) -> None:
    """C-05: a flag that was not given says nothing."""
    done = shell("config", "show", "store", "workers.count", "--set", "store=memory", "--set", "workers.count=3")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[2] for line in done.stdout.splitlines()] == ["memory", "3"]
    url = f"sqlite:///{shell.project}/tasks.db"
    done = shell(
        *("worker", "start", "--burst", "--mode", "thread"),
        *("--set", "workers.count=3", "--set", f"store={url}", "--set", f"logs.directory={shell.folder}/logs"),
        RXTASKS_WORKERS_COUNT="1",
    )
    assert done.returncode == 0, done.stderr
    assert f"ready: 3 thread workers on {url}" in done.stderr


def test_check_tells_every_mistake_and_ends_with_2(shell: Shell) -> None:
    """C-05: on stderr, a line for each; --json on stdout."""
    done = shell("config", "check")
    assert (done.returncode, done.stdout) == (0, "no configuration file; all is in order\n")
    (shell.project / "rxtasks.toml").write_text("wokers = 3\nstore = 'postgresql://me:hunter2@db/x'\n")
    done = shell("config", "check", RXTASKS_WORKERS_COUNT="x\x1b[31m")
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 3
    assert "did you mean workers?" in done.stderr
    assert "hunter2" not in done.stderr
    assert "\x1b" not in done.stderr
    done = shell("config", "check", "rxtasks.toml", "--json", RXTASKS_WORKERS_COUNT="x")
    told = json.loads(done.stdout)
    assert (done.returncode, told["ok"], len(told["mistakes"])) == (2, False, 2)
    (shell.project / "good.yaml").write_text("workers: {count: 4}\n")
    done = shell("config", "check", "good.yaml", RXTASKS_WORKERS_COUNT="x")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("good.yaml is in order\n")


def test_path_says_which_file_is_read(shell: Shell) -> None:
    """C-05: 3 when there is none."""
    done = shell("config", "path")
    assert (done.returncode, done.stdout) == (3, "")
    (shell.project / "rxtasks.toml").write_text("")
    done = shell("config", "path")
    assert (done.returncode, done.stdout) == (0, f"{shell.project}/rxtasks.toml\n")
    done = shell("config", "path", "--json")
    told = json.loads(done.stdout)
    assert told["file"] == f"{shell.project}/rxtasks.toml" == told["searched"][0]
    assert told["searched"][-1] == "/etc/rxtasks/rxtasks.yml"
    done = shell("config", "path", RXTASKS_CONFIG="/nowhere.toml")
    assert (done.returncode, done.stdout) == (2, "")
    assert "RXTASKS_CONFIG" in done.stderr


def test_a_wrong_setting_ends_any_command_with_2_and_one_sentence(shell: Shell) -> None:
    """C-05: no traceback."""
    done = shell("config", "show", "--set", "workers.cuont=3")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "rxtasks: flag: there is no setting workers.cuont; did you mean workers.count?\n"


def test_the_manual_shows_its_pages(shell: Shell) -> None:
    """G-01: as they lie in the package, also to a terminal that knows ASCII only."""
    done = shell("manual")
    assert done.returncode == 0
    for line in done.stdout.splitlines():
        name = line.split()[0]
        page = shell("manual", name, PYTHONIOENCODING="ascii")
        assert (page.returncode, page.stderr) == (0, "")
        assert page.stdout == (ROOT / "rxtasks" / "manual" / f"{name}.md").read_text("utf-8")
    assert "settings" in done.stdout
    done = shell("manual", "nothing")
    assert (done.returncode, done.stdout) == (2, "")
    assert "settings" in done.stderr
