"""load(): where settings come from, and which source wins."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rxtasks.config import make_settings
from rxtasks.configuration import Configuration, assignments, load
from rxtasks.configuration.keys import camel, snake, variable
from rxtasks.configuration.loading import kinds_by_path
from rxtasks.errors import SettingsError
from rxtasks.lifecycle.options import ResourceLimits
from rxtasks.pool.info import WorkerSpec

ROOT = Path(__file__).parents[3]
#: The pool manual's example (C-05), as it is.
MANUAL = """\
workers: {count: 4, mode: process, pollIntervalMs: 1000, idleBackoffMaxMs: 30000, drainTimeoutSeconds: 60,
  limits: {cpuPercent: 25, memoryMb: 512, diskMb: 1024}, resources: {overLimitAction: warn}}
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The home directory of a user who has nothing."""
    made = tmp_path / "home"
    made.mkdir()
    return made


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory of a project."""
    made = tmp_path / "project"
    made.mkdir()
    return made


def loaded(project: Path, home: Path, flags: dict[str, object] | None = None, **environ: str) -> Configuration:
    return load(flags or {}, directory=project, environ={"HOME": str(home), **environ})


def test_the_pool_manuals_yaml_loads_as_it_is(project: Path, home: Path) -> None:
    """C-05: camelCase keys, nested tables."""
    (project / "rxtasks.yaml").write_text(MANUAL)
    workers = loaded(project, home).values.workers
    assert (workers.count, workers.mode) == (4, "process")
    assert (workers.poll_interval_ms, workers.idle_backoff_max_ms, workers.drain_timeout_seconds) == (1000, 30_000, 60)
    assert (workers.limits.cpu_percent, workers.limits.memory_mb, workers.limits.disk_mb) == (25, 512, 1024)
    assert workers.resources.over_limit_action == "warn"


def test_every_key_of_the_manual_reaches_the_service(project: Path, home: Path) -> None:
    """C-05: what stands in the file is what a TaskService gets."""
    text = MANUAL.replace("1000,", "250,").replace("30000", "8000").replace("60,", "7,").replace("warn", "kill")
    (project / "rxtasks.yaml").write_text(text)
    arguments = loaded(project, home, RXTASKS_STORE="memory").service_arguments()
    assert (arguments["workers"], arguments["isolation"]) == (4, "process")
    assert (arguments["poll_interval"], arguments["idle_backoff_max"], arguments["drain_timeout"]) == (0.25, 8.0, 7.0)
    assert arguments["limits"] == ResourceLimits(25, 512 * 2**20, 1024 * 2**20, "kill")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rxtasks.toml", "[workers]\ncount = 3\npoll_interval_ms = 50\n"),
        ("rxtasks.toml", "[workers]\ncount = 3\npollIntervalMs = 50\n"),
        ("rxtasks.toml", "workers.count = 3\nworkers.poll-interval-ms = 50\n"),
        ("pyproject.toml", "[tool.rxtasks.workers]\ncount = 3\npoll_interval_ms = 50\n"),
        ("rxtasks.yaml", "workers:\n  count: 3\n  pollIntervalMs: 50\n"),
        ("rxtasks.yml", "workers:\n  count: 3\n  poll_interval_ms: 50\n"),
        ("rxtasks.yaml", "\ufeffworkers:\r\n  count: 3\r\n  poll_interval_ms: 50\r\n"),
        ("rxtasks.yaml", "x: &x {}\n".replace("x: &x {}", "workers: &w {count: 3, pollIntervalMs: 50}")),
    ],
)
def test_each_kind_of_file_is_read_and_named_as_the_source(name: str, text: str, project: Path, home: Path) -> None:
    """C-05: TOML, [tool.rxtasks] and YAML; the keys in snake_case or camelCase."""
    (project / name).write_bytes(text.encode())
    configuration = loaded(project, home)
    assert (configuration.values.workers.count, configuration.values.workers.poll_interval_ms) == (3, 50)
    assert configuration.sources["workers.count"] == str(project / name) == str(configuration.file)
    assert configuration.sources["workers.mode"] == "default"


def test_flags_beat_the_environment_which_beats_the_file_which_beats_the_default(project: Path, home: Path) -> None:
    """C-05: in this order, each value with its source."""
    file = project / "rxtasks.toml"
    file.write_text('[workers]\ncount = 2\nmode = "thread"\nconcurrency = 2\n')
    environ = {"RXTASKS_WORKERS_COUNT": "3", "RXTASKS_WORKERS_MODE": "inline"}
    configuration = loaded(project, home, {"workers.count": 4, "workers.mode": None}, **environ)
    workers = configuration.values.workers
    assert (workers.count, workers.mode, workers.concurrency, workers.queues) == (4, "inline", 2, None)
    assert {
        "workers.count": "flag --count",
        "workers.mode": "environment RXTASKS_WORKERS_MODE",
        "workers.concurrency": str(file),
        "workers.queues": "default",
    } == {path: configuration.sources[path] for path in configuration.sources if path in _FOUR}


_FOUR = ("workers.count", "workers.mode", "workers.concurrency", "workers.queues")


def test_a_source_that_says_nothing_about_a_table_leaves_the_rest_of_it_alone(project: Path, home: Path) -> None:
    """C-05: sources are merged key by key, not table by table."""
    (project / "rxtasks.toml").write_text("[workers.limits]\ncpu_percent = 50\n")
    limits = loaded(project, home, {"workers.limits.disk_mb": "3"}, RXTASKS_WORKERS_LIMITS_MEMORY_MB="9").values.workers
    assert (limits.limits.cpu_percent, limits.limits.memory_mb, limits.limits.disk_mb) == (50, 9, 3)


# -- which file --------------------------------------------------------------------------------------------------------


def test_the_nearest_file_upwards_is_the_only_one(project: Path, home: Path) -> None:
    """C-05: a file of a directory above is found; the nearest one counts, and it alone."""
    (project / "rxtasks.toml").write_text("retain_days = 1\n[workers]\ncount = 1\n")
    deep = project / "a" / "b"
    deep.mkdir(parents=True)
    assert loaded(deep, home).values.workers.count == 1
    (project / "a" / "rxtasks.yaml").write_text("workers: {count: 2}\n")
    values = loaded(deep, home).values
    assert (values.workers.count, values.retain_days) == (2, 30.0)


def test_a_pyproject_without_our_table_is_passed_over(project: Path, home: Path) -> None:
    """C-05: another tool's pyproject.toml ends no search."""
    (project / "rxtasks.toml").write_text("[workers]\ncount = 1\n")
    below = project / "below"
    below.mkdir()
    (below / "pyproject.toml").write_text("[tool.other]\nx = 1\n")
    assert loaded(below, home).values.workers.count == 1


def test_then_the_users_directory_then_the_systems(project: Path, home: Path, tmp_path: Path) -> None:
    """C-05: $XDG_CONFIG_HOME/rxtasks, by default ~/.config/rxtasks."""
    (home / ".config" / "rxtasks").mkdir(parents=True)
    (home / ".config" / "rxtasks" / "rxtasks.yaml").write_text("workers: {count: 5}\n")
    assert loaded(project, home).values.workers.count == 5
    other = tmp_path / "other"
    (other / "rxtasks").mkdir(parents=True)
    (other / "rxtasks" / "rxtasks.toml").write_text("[workers]\ncount = 6\n")
    assert loaded(project, home, XDG_CONFIG_HOME=str(other)).values.workers.count == 6
    (project / "rxtasks.toml").write_text("[workers]\ncount = 7\n")
    assert loaded(project, home, XDG_CONFIG_HOME=str(other)).values.workers.count == 7


def test_a_file_that_is_named_is_the_one(project: Path, home: Path) -> None:
    """C-05: --config beats RXTASKS_CONFIG, which beats the search."""
    for number, name in enumerate(("rxtasks.toml", "a.toml", "b.toml"), 1):
        (project / name).write_text(f"[workers]\ncount = {number}\n")
    assert loaded(project, home, RXTASKS_CONFIG="a.toml").values.workers.count == 2
    environ = {"HOME": str(home), "RXTASKS_CONFIG": "a.toml"}
    configuration = load(directory=project, environ=environ, file=Path("b.toml"))
    assert (configuration.values.workers.count, configuration.file) == (3, project / "b.toml")


def test_of_two_files_in_one_directory_the_first_kind_counts_and_the_other_is_told(project: Path, home: Path) -> None:
    """C-05: rxtasks.toml, pyproject.toml, rxtasks.yaml; nothing is passed over silently."""
    (project / "rxtasks.yaml").write_text("workers: {count: 2}\n")
    (project / "pyproject.toml").write_text("[tool.rxtasks.workers]\ncount = 3\n")
    configuration = loaded(project, home)
    assert configuration.values.workers.count == 3
    (warning,) = configuration.warnings
    assert str(project / "rxtasks.yaml") in warning


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_that_nobody_named_is_refused(project: Path, home: Path) -> None:
    """C-05: it could name modules to import; named, it is read."""
    file = project / "rxtasks.toml"
    file.write_text("[workers]\ncount = 2\n")
    os.chown(file, 65534, -1)
    with pytest.raises(SettingsError, match=r"another user.*--config"):
        loaded(project, home)
    assert load(directory=project, environ={"HOME": str(home)}, file=file).values.workers.count == 2


# -- the store ---------------------------------------------------------------------------------------------------------


def test_the_store_comes_from_the_flag_the_environment_the_file_or_the_state_directory(
    project: Path, home: Path
) -> None:
    """C-05: sources["store"] says which; a relative path counts from where it is written."""
    where = loaded(project, home)
    assert where.values.store == f"sqlite:///{home}/.local/state/rxtasks/tasks.db"
    assert where.sources["store"] == "state directory"
    where = loaded(project, home, XDG_STATE_HOME=str(project / "state"))
    assert where.values.store == f"sqlite:///{project}/state/rxtasks/tasks.db"
    file = project / "rxtasks.toml"
    file.write_text('store = "sqlite:///data/tasks.db"\n')
    below = project / "below"
    below.mkdir()
    where = loaded(below, home)
    assert (where.values.store, where.sources["store"]) == (f"sqlite:///{project}/data/tasks.db", str(file))
    where = loaded(below, home, RXTASKS_STORE="sqlite:///mine.db")
    assert where.values.store == f"sqlite:///{below}/mine.db"
    assert where.sources["store"] == "environment RXTASKS_STORE"
    where = loaded(below, home, {"store": "memory"}, RXTASKS_STORE="sqlite:///mine.db")
    assert (where.values.store, where.sources["store"]) == ("memory", "flag --store")


def test_the_default_stores_directory_is_made_for_its_user_only(project: Path, home: Path) -> None:
    """C-05: mode 0700, and only when it is used."""
    configuration = loaded(project, home)
    assert not (home / ".local").exists(), "loading alone makes nothing"
    configuration.service_arguments()
    made = home / ".local" / "state" / "rxtasks"
    assert made.stat().st_mode & 0o777 == 0o700
    made.chmod(0o777)
    with pytest.raises(SettingsError, match="chmod 700"):
        configuration.service_arguments()


def test_a_relative_xdg_directory_counts_for_none(project: Path, home: Path) -> None:
    """C-05: as the XDG specification says."""
    assert loaded(project, home, XDG_STATE_HOME="here").values.store.startswith(f"sqlite:///{home}/")


def test_paths_of_a_file_count_from_the_file(project: Path, home: Path) -> None:
    """C-05: the same file means the same in every directory."""
    text = 'logs.directory = "logs"\ncontrol.token_file = "~/token"\nservice.record = "run.jsonl"\n'
    (project / "rxtasks.toml").write_text(text)
    below = project / "below"
    below.mkdir()
    values = loaded(below, home).values
    assert (values.logs.directory, values.service.record) == (str(project / "logs"), str(project / "run.jsonl"))
    assert values.control.token_file == os.path.expanduser("~/token")


# -- values ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("workers.count", "4", 4),
        ("workers.count", " 4 ", 4),
        ("workers.count", "none", None),
        ("workers.drain_timeout_seconds", "1.5", 1.5),
        ("modules", "a,b", ("a", "b")),
        ("modules", "a.b, c", ("a.b", "c")),
        ("modules", "", ()),
        ("workers.queues", "mail", ("mail",)),
        ("logs.duplicates", "yes", True),
        ("logs.duplicates", "0", False),
        ("logs.level", "WARNING", "warning"),
        ("service.keep_temp", "on", True),
        ("service.max_running", "mail=4,web=2", {"mail": 4, "web": 2}),
        ("service.rates", "mail=10/min", {"mail": "10/min"}),
        ("service.max_queue", "none", None),
        ("retain_days", "none", None),
        ("control.listen", "127.0.0.1:8080", "127.0.0.1:8080"),
        ("control.listen", "[::1]:0", "[::1]:0"),
        ("store", "sqlite:////tmp/x.db", "sqlite:////tmp/x.db"),
    ],
)
def test_text_of_the_environment_and_of_flags_becomes_a_value(
    path: str, text: str, value: Any, project: Path, home: Path
) -> None:
    """C-05: "4" is 4, "a,b" is a list, "none" is nothing."""
    by_environment = loaded(project, home, **{variable(path): text})
    by_flag = loaded(project, home, {path: text})
    assert value == by_environment.value(path) == by_flag.value(path)
    assert by_environment.sources[path] == f"environment {variable(path)}"
    assert by_flag.sources[path].startswith("flag --")


def test_settings_given_one_by_one_are_flags(project: Path, home: Path) -> None:
    """C-05: --set KEY=VALUE; a value may hold a = itself."""
    flags = assignments(
        ["workers.limits.memory_mb=512", "service.max_running=mail=4", "workers.count=1", "store=memory"],
        {"workers.count": 2, "store": None},
    )
    assert (flags["workers.count"], flags["store"]) == (2, "memory"), "a flag of its own wins, if it was given"
    configuration = loaded(project, home, dict(flags))
    assert configuration.value("workers.limits.memory_mb") == 512
    assert configuration.value("service.max_running") == {"mail": 4}
    assert configuration.sources["workers.limits.memory_mb"] == "flag --set workers.limits.memory_mb"
    with pytest.raises(SettingsError, match="KEY=VALUE"):
        assignments(["workers.count"])


def test_queues_make_workers_that_take_them_alone(project: Path, home: Path) -> None:
    """C-05: workers.queues."""
    flags = {"store": "memory", "workers.queues": ["mail"], "workers.count": 2, "workers.mode": "thread"}
    arguments = loaded(project, home, dict(flags)).service_arguments()
    assert arguments["workers"] == [WorkerSpec(2, "thread", queues=("mail",))]


def test_settings_that_nobody_gave_are_those_of_the_service(project: Path, home: Path) -> None:
    """C-05: the defaults of both are the same, so that a pool without a file is a TaskService without arguments."""
    arguments = loaded(project, home, RXTASKS_STORE="memory").service_arguments()
    settings = {name: value for name, value in arguments.items() if name not in _OTHERS}
    assert make_settings(settings) == make_settings({})


_OTHERS = ("store", "modules", "fallback", "isolation", "concurrency", "workers")


def test_every_setting_has_one_spelling_of_each_kind() -> None:
    """C-05: no two settings share an environment variable, and camelCase leads back to the name."""
    paths = list(kinds_by_path())
    assert len({variable(path) for path in paths}) == len(paths) > 40
    for path in paths:
        for part in path.split("."):
            assert snake(camel(part)) == part


def test_importing_it_brings_none_of_the_libraries() -> None:
    """C-05: typed-settings and PyYAML cost nothing until something is loaded, and are named when they are missing."""
    program = """
import sys
sys.modules["typed_settings"] = None
import rxtasks.configuration
assert "yaml" not in sys.modules and "click" not in sys.modules and "reactivex" not in sys.modules
try:
    rxtasks.configuration.load(environ={})
except rxtasks.SettingsError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "typed-settings" in done.stdout
    assert "pip install 'rxtasks[cli]'" in done.stdout
