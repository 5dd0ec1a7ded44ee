"""The manual's page of settings says what the classes say."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import attrs
import pytest
import yaml

from rxtasks.config import Settings
from rxtasks.configuration import load
from rxtasks.configuration.keys import variable
from rxtasks.configuration.loading import kinds_by_path
from rxtasks.configuration.reading import flag_of
from rxtasks.configuration.reference import page
from rxtasks.configuration.tree import COVERED

MANUAL = Path(__file__).parents[3] / "rxtasks" / "manual" / "settings.md"
TEXT = MANUAL.read_text("utf-8")


def test_the_page_is_the_one_that_the_classes_make() -> None:
    """G-01: one source of truth. The page out of date: make it anew with the command in the message."""
    assert page() == TEXT, "run: python -m rxtasks.configuration.reference > rxtasks/manual/settings.md"


@pytest.mark.parametrize("path", list(kinds_by_path()))
def test_every_setting_is_on_it_with_its_meaning_default_and_spellings(path: str) -> None:
    """G-01: in a section of its own."""
    section = TEXT.partition(f"\n### {path}\n")[2].partition("\n##")[0]
    assert len(section.split("- value:")[0].split()) >= 3, "a meaning of some words"
    assert f"`{variable(path)}`" in section
    assert f"`{flag_of(path)}" in section
    assert "- default: " in section
    assert f"`{path.rpartition('.')[2]}`" in section


def test_every_setting_of_the_service_is_one_here() -> None:
    """C-05: no setting can be given to a TaskService that the file does not know."""
    paths = kinds_by_path()
    for name in attrs.fields_dict(Settings):
        path = COVERED.get(name, f"service.{name}")
        assert path in paths or any(other.startswith(f"{path}.") for other in paths), name


def test_the_two_files_of_the_page_say_the_same(tmp_path: Path) -> None:
    """G-01: its blocks load, TOML and YAML alike."""
    loaded: list[Any] = []
    for language, parse in (("toml", tomllib.loads), ("yaml", yaml.safe_load)):
        (block,) = re.findall(rf"```{language}\n(.*?)```", TEXT, re.S)
        assert parse(block)
        folder = tmp_path / language
        folder.mkdir()
        (folder / f"rxtasks.{language}").write_text(block)
        loaded.append(load(directory=folder, environ={"HOME": str(tmp_path)}))
    ours, theirs = (attrs.asdict(each.values) for each in loaded)
    assert ours.pop("store") == f"sqlite:///{tmp_path}/toml/data/tasks.db"
    assert theirs.pop("store") == f"sqlite:///{tmp_path}/yaml/data/tasks.db"
    assert ours == theirs
    assert ours["workers"]["limits"]["memory_mb"] == 512
