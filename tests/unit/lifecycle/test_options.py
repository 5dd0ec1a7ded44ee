"""Options, settings, requests and secrets: what is wrong is refused at the door, by name."""

from __future__ import annotations

import pickle
from datetime import datetime
from typing import Any

import attrs
import pytest

from rxtasks.config import Settings, make_settings
from rxtasks.errors import SettingsError
from rxtasks.lifecycle.options import ResourceLimits, TaskOptions, merge_options
from rxtasks.lifecycle.retry import RetryPolicy
from rxtasks.lifecycle.secret import Secret
from rxtasks.lifecycle.signals import Reschedule, Retry
from rxtasks.lifecycle.task import TaskRequest, new_id
from rxtasks.pool.info import WorkerSpec


@pytest.mark.parametrize(
    "wrong",
    [
        {"priority": 1.5},
        {"priority": 2**31},
        {"priority": True},
        {"delay": -1},
        {"delay": float("nan")},
        {"run_at": datetime(2030, 1, 1)},
        {"run_at": "tomorrow"},
        {"timeout": 0},
        {"timeout": "3"},
        {"grace": -0.1},
        {"grace": None},
        {"retry": 3},
        {"max_crashes": 0},
        {"on_dependency_failure": "ignore"},
        {"queue": 5},
        {"name": b"x"},
        {"tags": 5},
        {"depends_on": (1,)},
        {"limits": 5},
    ],
    ids=str,
)
def test_a_wrong_option_is_refused_by_name(wrong: dict[str, Any]) -> None:
    """E-16: the message names the option and shows the value."""
    ((name, value),) = wrong.items()
    with pytest.raises(SettingsError, match=f"TaskOptions.{name}"):
        TaskOptions(**wrong)
    with pytest.raises(SettingsError, match=name):
        merge_options(TaskOptions(), {name: value})


def test_an_unknown_option_is_refused_with_those_there_are() -> None:
    """E-16: merge_options names it and lists the others."""
    with pytest.raises(SettingsError, match=r"no 'prio'.*priority"):
        merge_options(TaskOptions(), {"prio": 1})


def test_options_merge_and_words_become_tuples() -> None:
    """E-16: what is not named stays."""
    base = TaskOptions(tags="one", retry=RetryPolicy(max_attempts=2))
    merged = merge_options(base, {"priority": 3, "depends_on": ["a", "b"]})
    assert (("one",), 3, ("a", "b"), 2) == (
        merged.tags,
        merged.priority,
        merged.depends_on,
        merged.retry.max_attempts,
    )
    assert base is merge_options(base, {})


@pytest.mark.parametrize("wrong", [{"cpu_percent": 0}, {"memory_bytes": float("inf")}, {"over_limit": "pray"}], ids=str)
def test_a_wrong_limit_is_refused_by_name(wrong: dict[str, Any]) -> None:
    """L-01: limits are numbers above 0."""
    (name,) = wrong
    with pytest.raises(SettingsError, match=f"ResourceLimits.{name}"):
        ResourceLimits(**wrong)


@pytest.mark.parametrize("field", attrs.fields(Settings), ids=lambda field: field.name)
def test_every_setting_refuses_nonsense_by_name(field: Any) -> None:
    """C-05: the message names the setting."""
    with pytest.raises(SettingsError, match=field.name):
        make_settings({field.name: ["nonsense"]})
    assert field.default == getattr(Settings(), field.name)


@pytest.mark.parametrize("wrong", [{"heartbeat": 0}, {"credit": 1}, {"max_queue": 0}, {"drain_timeout": float("nan")}])
def test_a_setting_out_of_range_is_refused(wrong: dict[str, Any]) -> None:
    """C-05: with the least that is accepted."""
    with pytest.raises(SettingsError, match="from"):
        make_settings(wrong)


def test_an_unknown_setting_is_refused_with_the_nearest() -> None:
    """C-05: a slip of the pen is answered with the name that was meant."""
    with pytest.raises(SettingsError, match=r"'drain_timout'.*did you mean drain_timeout"):
        make_settings({"drain_timout": 3})


def test_requests_have_ids_of_their_own() -> None:
    """E-06: 26 characters, in order of creation, args as a tuple."""
    first, second = TaskRequest("m:f", [1, 2]), TaskRequest("m:f")
    assert (1, 2) == first.args
    assert first.task_id != second.task_id
    assert 26 == len(new_id())


@pytest.mark.parametrize(
    "wrong",
    [
        {"args": 5},
        {"args": "abc"},
        {"kwargs": 5},
        {"kwargs": {5: 1}},
        {"options": {"timeout": 1}},
        {"task_id": 5},
        {"task_id": ""},
        {"trace": 5},
    ],
    ids=str,
)
def test_a_wrong_field_of_a_request_is_refused_by_name(wrong: dict[str, Any]) -> None:
    """E-06: where it was written, not where it is pushed."""
    ((name, _),) = wrong.items()
    with pytest.raises(SettingsError, match=f"TaskRequest.{name}"):
        TaskRequest("m:f", **wrong)


@pytest.mark.parametrize("wrong", ["x", -1, float("nan"), float("inf"), True])
def test_a_retry_after_no_number_of_seconds_is_refused(wrong: Any) -> None:
    """E-12: where the handler says it."""
    with pytest.raises(SettingsError, match=r"Retry\(delay"):
        Retry(wrong)


@pytest.mark.parametrize("wrong", [5, None, datetime(2026, 1, 2)])
def test_a_reschedule_to_no_aware_time_is_refused(wrong: Any) -> None:
    """E-12: where the handler says it."""
    with pytest.raises(SettingsError, match="aware datetime"):
        Reschedule(wrong)


@pytest.mark.parametrize("wrong", [{"queues": 5}, {"queues": [5]}, {"limits": 5}, {"count": 0}], ids=str)
def test_a_wrong_field_of_a_worker_spec_is_refused_by_name(wrong: dict[str, Any]) -> None:
    """W-01: the message names the field and shows the value."""
    ((name, _),) = wrong.items()
    with pytest.raises(SettingsError, match=f"WorkerSpec.{name}"):
        WorkerSpec(**wrong)


def test_a_secret_is_read_where_it_is_revealed_and_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A-03: it travels as a name."""
    monkeypatch.setenv("RXTASKS_TEST_SECRET", "canary-4711")
    secret = Secret("env:RXTASKS_TEST_SECRET")
    data = pickle.dumps(secret)
    assert b"canary" not in data
    assert "canary" not in f"{secret!r} {secret}"
    again = pickle.loads(data)
    assert (secret, hash(secret), "canary-4711") == (again, hash(again), again.reveal())
    monkeypatch.delenv("RXTASKS_TEST_SECRET")
    with pytest.raises(SettingsError, match="RXTASKS_TEST_SECRET"):
        secret.reveal()


@pytest.mark.parametrize("source", ["", "env:", "NAME", "file:/etc/passwd", 5, None])
def test_a_secret_of_no_known_source_is_refused(source: Any) -> None:
    """A-03: env:NAME is what there is."""
    with pytest.raises(SettingsError, match="env:NAME"):
        Secret(source)
