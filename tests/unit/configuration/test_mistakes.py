"""A wrong key or value is an error that names it, where it stands, and what to try."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rxtasks.configuration import ConfigurationError, load
from rxtasks.configuration.redaction import redacted_url
from rxtasks.errors import SettingsError


def mistake(directory: Path, flags: dict[str, object] | None = None, **environ: str) -> str:
    """Return what loading says is wrong."""
    with pytest.raises(SettingsError) as caught:
        load(flags or {}, directory=directory, environ={"HOME": str(directory), **environ})
    assert "Traceback" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("workers: {cuont: 4}", "no setting workers.cuont; did you mean workers.count?"),
        ("worker: {count: 4}", "no setting worker; did you mean workers?"),
        ("WORKERS: {count: 4}", "no setting WORKERS; did you mean workers?"),
        ("workers: {Count: 4}", "no setting workers.Count; did you mean workers.count?"),
        ("pollIntervalMs: 4", "no setting pollIntervalMs; did you mean workers.pollIntervalMs?"),
        ("workers: {limits: {memory_mg: 4}}", "did you mean workers.limits.memory_mb?"),
        ("service: {drain_timeout: 4}", "did you mean workers.drain_timeout_seconds?"),
        ("retention: 4", "did you mean retain_days?"),
        ("isolation: thread", "did you mean workers.mode?"),
        ("zzz: 4", "no setting zzz; settings are control, logs, modules"),
        ("workers: {count: '4'}", "workers.count is a whole number from 0 to 1000 or none, not '4'; write it without"),
        ("workers: {count: yes}", "workers.count is a whole number from 0 to 1000 or none, not True"),
        ("workers: {count: 4.5}", "workers.count is a whole number"),
        ("workers: {count: -1}", "from 0 to 1000 or none, not -1"),
        (
            "workers: {pollIntervalMs: 1}",
            "workers.pollIntervalMs is a number of milliseconds from 10 to 86400000, not 1",
        ),
        ("workers: {mode: docker}", "workers.mode is one of process, inline, thread, not 'docker'"),
        ("workers: {mode: proces}", "did you mean process?"),
        ("workers: {mode: }", "workers.mode is one of process, inline, thread, not empty"),
        (
            "workers: {limits: {memoryMb: 512MB}}",
            "workers.limits.memoryMb is a number above 0 and at most 1000000000 or none, not '512MB'",
        ),
        ("workers: 4", "workers is a table of settings, not 4"),
        ("workers: [4]", "workers is a table of settings"),
        (
            "workers: {pollIntervalMs: 20, poll_interval_ms: 20}",
            "poll_interval_ms and workers.pollIntervalMs are the same",
        ),
        ("workers: {count: 4}\nworkers.count: 5", "workers.count stands there twice"),
        (
            "workers: {idleBackoffMaxMs: 100}",
            "idle_backoff_max_ms is at least workers.poll_interval_ms (1000: default)",
        ),
        ("service: {lease: 5, leaseRenewal: 4}", "service.lease_renewal is at most half of service.lease (5 s)"),
        ("service: {maxRunning: {mail: 0}}", "service.maxRunning holds whole numbers from 1 by name"),
        ("service: {rates: {mail: fast}}", "service.rates holds rates by name"),
        ("service: {heartbeat: .nan}", "service.heartbeat is a number from 0.05, not nan"),
        ("service: {keepTemp: 'true'}", "service.keepTemp is true or false, not 'true'; write it without quotes"),
        ("service: {cgroups: nowhere}", 'service.cgroups is "auto", "off" or a directory that exists'),
        ("store: tasks.db", "for a file write sqlite:///tasks.db"),
        ("store: sqlite://tasks.db", "three slashes"),
        ("store: ''", "store is memory or sqlite:///PATH, not an empty text"),
        ("modules: tasks.py", "the file tasks.py is the module tasks"),
        ("modules: [a, 3]", "modules is a list of names of modules"),
        ("control: {listen: 8080}", "control.listen is ADDRESS:PORT"),
        ("control: {listen: '0.0.0.0:99999'}", "a port is a number from 0 to 65535"),
        ("control: {token: abc}", "control.token_file"),
        ("1: 2", "a key is a name, not 1"),
        ("- a", "holds settings by name"),
    ],
)
def test_a_wrong_key_or_value_in_a_file_is_named_with_the_file(text: str, words: str, tmp_path: Path) -> None:
    """C-05: the key as it is written, the file, and the nearest key or the range."""
    (tmp_path / "rxtasks.yaml").write_text(text)
    said = mistake(tmp_path)
    assert words in said
    assert str(tmp_path / "rxtasks.yaml") in said


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("rxtasks.yaml", b"a: [", "line 1 is not well-formed YAML"),
        ("rxtasks.yaml", b"workers:\n\tcount: 4\n", "line 2 is not well-formed YAML"),
        ("rxtasks.yaml", b"workers:\n  count: 4\n  count: 5\n", "line 3: 'count' stands there twice (first in line 2)"),
        ("rxtasks.yaml", b"workers: {count: 4, count: 5}", "line 1: 'count' stands there twice"),
        ("rxtasks.yaml", b"a: 1\n---\nb: 2\n", "line 2 is not well-formed YAML"),
        ("rxtasks.yaml", b"x: !!python/object/apply:os.getpid []", "line 1 is not well-formed YAML"),
        ("rxtasks.yaml", b"a: \x00", "not well-formed YAML"),
        ("rxtasks.yaml", b"[" * 100_000, "not well-formed YAML"),
        ("rxtasks.toml", b"[workers]\ncount = \nmode = 3\n", "line 2 is not well-formed TOML"),
        ("rxtasks.toml", b"[workers]\ncount = 4\ncount = 5\n", "line 3 is not well-formed TOML"),
        ("rxtasks.toml", b"a = 1\n[b", "line 2 is not well-formed TOML"),
        ("rxtasks.toml", b"a = 1\nb = '\xff'\n", "line 2: this is not UTF-8"),
        ("rxtasks.toml", b"x = " + b"[" * 100_000, "not well-formed TOML"),
        ("rxtasks.toml", b"# " + b"x" * 2**20, "larger than 1 MiB"),
        ("rxtasks.toml", b"[tool.rxtasks]\nstore = 'memory'\n", "stand without [tool.rxtasks]"),
        ("pyproject.toml", b"[tool.rxtasks", "line 1 is not well-formed TOML"),
        ("pyproject.toml", b"[tool]\nrxtasks = 3\n", "tool.rxtasks is a table"),
    ],
)
def test_a_file_that_cannot_be_parsed_is_named_with_the_line(
    name: str, data: bytes, words: str, tmp_path: Path
) -> None:
    """C-05: bad TOML, bad YAML, bad bytes."""
    (tmp_path / name).write_bytes(data)
    said = mistake(tmp_path)
    assert words in said
    assert str(tmp_path / name) in said


def test_a_small_file_that_unfolds_to_gigabytes_is_refused_at_once(tmp_path: Path) -> None:
    """C-05: aliases of aliases; neither read out nor shown whole."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    (tmp_path / "rxtasks.yaml").write_text("\n".join([*lines, "modules: *a11"]))
    assert len(mistake(tmp_path)) < 5000


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("RXTASKS_WORKERS_COUNT", "four", "RXTASKS_WORKERS_COUNT is a whole number from 0 to 1000 or none, not 'four'"),
        ("RXTASKS_WORKERS_COUNT", "", "not an empty text; unset it"),
        ("RXTASKS_WORKERS_COUNT", "4.0", "RXTASKS_WORKERS_COUNT is a whole number"),
        ("RXTASKS_WORKERS_COUNT", "1_0", "RXTASKS_WORKERS_COUNT is a whole number"),
        ("RXTASKS_STORE", "", "RXTASKS_STORE is memory or sqlite:///PATH, not an empty text; unset it"),
        ("RXTASKS_LOGS_DUPLICATES", "maybe", "RXTASKS_LOGS_DUPLICATES is true or false, not 'maybe'"),
        ("RXTASKS_MODULES", "a,,b", "one of them is empty"),
        ("RXTASKS_SERVICE_MAX_RUNNING", "mail", "name=value,name=value"),
        ("RXTASKS_WORKER_COUNT", "3", "no setting RXTASKS_WORKER_COUNT; did you mean RXTASKS_WORKERS_COUNT?"),
        ("RXTASKS_STROE", "memory", "did you mean RXTASKS_STORE?"),
        ("RXTASKS_WORKERS", "4", "did you mean RXTASKS_WORKERS_COUNT?"),
        ("RXTASKS_MODE", "thread", "did you mean RXTASKS_WORKERS_MODE?"),
        ("RXTASKS_CONFIG", "/nowhere/rxtasks.toml", "RXTASKS_CONFIG: there is no file /nowhere/rxtasks.toml"),
        ("RXTASKS_CONFIG", "/tmp", ".toml, .yaml or .yml"),
    ],
)
def test_a_wrong_variable_is_named(name: str, value: str, words: str, tmp_path: Path) -> None:
    """C-05: also one that is nearly a setting's: it would do nothing."""
    said = mistake(tmp_path, **{name: value})
    assert words in said
    assert name in said


def test_a_variable_that_is_nothing_like_a_setting_is_told_and_no_more(tmp_path: Path) -> None:
    """C-05: it may be another version's, or an application's own."""
    environ = {"HOME": str(tmp_path), "RXTASKS_FOO": "1", "RXTASKS_CONTROL_TOKEN": "t", "RXTASKS_WORKER_ID": "w"}
    (warning,) = load(directory=tmp_path, environ=environ).warnings
    assert "RXTASKS_FOO" in warning
    mine = {"RXTASKS_CONTROL_TOKEN_ENV": "RXTASKS_MINE_ALONE", "RXTASKS_MINE_ALONE": "t"}
    assert load(directory=tmp_path, environ={"HOME": str(tmp_path), **mine}).warnings == ()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"store": "x"}, "flag: --store is memory or sqlite:///PATH, not 'x'"),
        ({"workers.count": "x"}, "flag: --count is a whole number"),
        ({"workers.count": True}, "flag: --count is a whole number"),
        ({"workers.cuont": 3}, "no setting workers.cuont; did you mean workers.count?"),
        ({"workers": "3"}, "did you mean workers.count?"),
        (
            {"workers.limits.memory_mb": "0"},
            "--set workers.limits.memory_mb is a number above 0 and at most 1000000000 or none, not '0'",
        ),
    ],
)
def test_a_wrong_flag_is_named(flags: dict[str, object], words: str, tmp_path: Path) -> None:
    """C-05: as it is written on the command line."""
    assert words in mistake(tmp_path, flags)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    """C-05: one sentence for each, wherever it stands."""
    (tmp_path / "rxtasks.toml").write_text("wokers = 3\n[workers]\ncount = 'x'\n")
    with pytest.raises(ConfigurationError) as caught:
        load({"store": "y"}, directory=tmp_path, environ={"HOME": str(tmp_path), "RXTASKS_WORKERS_MODE": "p"})
    assert len(caught.value.mistakes) == 4
    assert all(mistake in str(caught.value) for mistake in caught.value.mistakes)


def test_a_file_that_is_something_else_is_not_told_to_its_last_line(tmp_path: Path) -> None:
    """C-05: thousands of keys that are none, or one without end: an error that can be read."""
    (tmp_path / "rxtasks.yaml").write_text("".join(f"key{number}: 1\n" for number in range(10_000)))
    said = mistake(tmp_path).splitlines()
    assert len(said) == 22
    assert "more" in said[-1]
    (tmp_path / "rxtasks.yaml").write_text(f"{'k' * 900}: 1\n")
    assert len(mistake(tmp_path)) < 400


def test_a_file_that_is_named_has_to_be_there_and_to_hold_settings(tmp_path: Path) -> None:
    """C-05: a name that leads nowhere is no default."""
    for name, text, words in (
        ("gone.toml", None, "flag --config: there is no file"),
        ("pyproject.toml", "[tool.other]\n", "has no table"),
        ("settings.ini", "", ".toml, .yaml or .yml"),
    ):
        if text is not None:
            (tmp_path / name).write_text(text)
        with pytest.raises(SettingsError, match=words):
            load(directory=tmp_path, environ={"HOME": str(tmp_path)}, file=Path(name))


def test_a_pipe_in_the_place_of_the_file_holds_nobody_up(tmp_path: Path) -> None:
    """C-05: reading never waits."""
    os.mkfifo(tmp_path / "rxtasks.toml")
    assert "no regular file" in mistake(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read everything")
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """C-05: nothing is passed over because of its mode."""
    (tmp_path / "rxtasks.toml").write_text("")
    (tmp_path / "rxtasks.toml").chmod(0)
    assert "cannot be read: Permission denied" in mistake(tmp_path)


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("postgresql://me:hunter2@db/x", "postgresql://***@db/x"),
        ("postgresql://me:hun/t@er2@db/x?password=hunter2&a=b", "postgresql://***@db/x?password=***&a=***"),
        ("sqlite:////tmp/a@b.db", "sqlite:////tmp/a@b.db"),
        ("see 'http://u:p@h/' there", "see 'http://***@h/' there"),
    ],
)
def test_user_information_and_queries_of_urls_are_hidden(text: str, hidden: str) -> None:
    """C-05: security rule 3."""
    assert redacted_url(text) == hidden


def test_no_secret_stands_in_an_error(tmp_path: Path) -> None:
    """C-05: neither of a store's URL, nor of a key that is a secret by its name, nor of an unknown key."""
    text = "store: postgresql://me:hunter2@db/x\ncontrol: {token: hunter2, tokenFile: [hunter2]}\npassword: hunter2\n"
    (tmp_path / "rxtasks.yaml").write_text(text)
    said = mistake(tmp_path, {"store": "mysql://me:hunter2@db"}, RXTASKS_STORE="x://me@host?key=hunter2")
    assert said.count("\n- ") == 6
    assert "hunter2" not in said
