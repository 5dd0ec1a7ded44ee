"""The parts of a pool's process: their order, and what a failure leaves behind."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rxtasks.configuration import Configuration, load
from rxtasks.control.client import ControlClient
from rxtasks.control.place import Place, PoolRuns, Running
from rxtasks.errors import ServiceStopped, SettingsError
from rxtasks.host import PoolHost
from rxtasks.logs import LogFilter


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return what makes a configuration of a pool of one thread."""
    with tempfile.TemporaryDirectory(prefix="rx") as runtime:
        monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        monkeypatch.delenv("RXTASKS_STORE", raising=False)

        def make(**flags: object) -> Configuration:
            named = {name.replace("__", "."): value for name, value in flags.items()}
            return load({"workers.count": 1, "workers.mode": "thread", **named}, directory=tmp_path)

        yield make


def test_it_answers_when_it_has_started_and_leaves_nothing_when_it_has_closed(configured: Any) -> None:
    """The place is held from the first to the last moment; nothing is started twice."""
    host, configuration = PoolHost(configured()), configured()
    place = Place.of(configuration.values.store)
    host.start()
    try:
        client = ControlClient(host.socket)
        assert client.get("/health")["ok"] is True
        assert b"workers_active" in host.metrics_text() if host.metrics_text() is not None else True
        with pytest.raises(PoolRuns):
            PoolHost(configuration).start()
        assert client.get("/health")["ok"] is True  # the one that lost has harmed nothing
    finally:
        report = host.drain(force=True)
        assert isinstance(place.find(), Running)
        host.close()
    assert () == report.unfinished and place.find() is None
    assert any("pool started" in line.message for line in host.query_logs(LogFilter()))


def test_what_has_started_before_a_failure_is_stopped_again(configured: Any, tmp_path: Path) -> None:
    """A start that fails at any part leaves the place free, and says which part it was."""
    (tmp_path / "file").write_text("")
    for flags, word in (
        ({"logs__directory": str(tmp_path / "file" / "logs")}, "--log-directory"),
        ({"control__listen": "127.0.0.1:0"}, "there is no token"),
    ):
        configuration = configured(**flags)
        with pytest.raises(SettingsError, match=word):
            PoolHost(configuration).start()
        assert Place.of(configuration.values.store).find() is None
    host = PoolHost(configured())
    host.start()
    host.drain(force=True)
    host.close()


def test_a_part_that_fails_to_stop_keeps_no_other_from_it(configured: Any) -> None:
    """It is told in a sentence; the place is free all the same."""
    told: list[str] = []
    configuration = configured()
    host = PoolHost(configuration, on_problem=told.append)
    host.start()

    def fails() -> None:
        raise OSError("no way")

    host._parts.append(("the test", fails))
    host.drain(force=True)
    host.close()
    assert ["the test could not be stopped in order: OSError: no way"] == told
    assert Place.of(configuration.values.store).find() is None


def test_processing_stops_and_starts_while_the_process_goes_on(configured: Any) -> None:
    """C-09: the control server answers meanwhile; when the process is about to end, it does not start again."""
    host = PoolHost(configured())
    host.start()
    client = ControlClient(host.socket)
    assert client.post("/v1/processing/stop")["pool"]["running"] is False
    assert client.get("/v1/status")["processing"] is False
    assert client.post("/v1/processing/start")["pool"]["running"] is True
    host.drain(force=True)
    with pytest.raises(ServiceStopped, match="about to end"):
        host.start_processing()
    host.close()
