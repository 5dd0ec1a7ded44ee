"""Cards, as text and as HTML: what comes from tasks is escaped."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxtasks import (
    LogEvent,
    OutputEvent,
    ProgressEvent,
    StatusEvent,
    TaskErrorInfo,
    TaskEvent,
    TaskService,
    TaskStatus,
    WorkerEvent,
)
from rxtasks.engine.report import StopReport
from rxtasks.jupyter import bundle
from rxtasks.jupyter.card import Card, Line, Row
from rxtasks.jupyter.cards import card_of
from rxtasks.jupyter.render import as_html, as_text
from tests.acceptance.support import SOON, service

EVIL = "<script>alert('x')</script>&\"' \x1b[31m\u202e\n</div>"
NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)

texts = st.text(max_size=20) | st.just(EVIL)
cards = st.builds(
    Card,
    texts,
    texts,
    fraction=st.none() | st.floats(0, 1),
    measure=texts,
    facts=st.lists(st.tuples(texts, texts), max_size=2),
    columns=st.just(("one", "two")),
    rows=st.lists(st.builds(Row, st.tuples(texts, texts), st.none() | st.floats(0, 1)), max_size=2),
    lines=st.lists(st.builds(Line, texts, texts), max_size=2),
)


class Elements(HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.open: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.open.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@given(cards)
def test_html_has_only_our_own_elements(card: Card) -> None:
    """N-01: whatever the texts are; and nothing in it refers to anything outside."""
    page = Elements(as_html(card))
    assert page.names <= {"div", "b", "span", "progress", "table", "thead", "tbody", "tr", "th", "td", "pre"}
    assert page.attributes <= {"class", "style", "max", "value"}
    assert [] == page.open
    assert card.title in page.text


@given(cards)
def test_text_moves_no_cursor(card: Card) -> None:
    """N-01: control characters, bidi marks and line ends of a task are escaped."""
    text = as_text(card)
    assert not set("\x1b\r\u202e\u200b\x9b") & set(text)
    assert text.count("\n") == len(card.facts) + (len(card.rows) + 1 if card.rows else 0) + len(card.lines)


@given(cards)
def test_a_widget_s_state_is_json(card: Card) -> None:
    """N-01: it goes to the frontend as it is."""
    assert card.state() == attrs.asdict(card)
    assert json.loads(json.dumps(card.state()))["title"] == card.title


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (StatusEvent("T", 2, 1, "W", NOW, TaskStatus.SUCCEEDED, EVIL), "status succeeded"),
        (StatusEvent("T", 2, 2, "W", NOW, TaskStatus.FAILED, None, TaskErrorInfo("ValueError", EVIL)), "attempt: 2"),
        (LogEvent("T", 2, 1, "W", NOW, "ERROR", EVIL), "ERROR: <script>"),
        (ProgressEvent("T", 2, 1, "W", NOW, 1, 4, EVIL), "progress  25 %  1 of 4"),
        (OutputEvent("T", 2, 1, "W", NOW, EVIL), "output"),
        (WorkerEvent("failed", "W", NOW, EVIL), "worker failed"),
        (TaskErrorInfo("ValueError", EVIL, traceback=EVIL), "ValueError: <script>"),
        (StopReport({"log": 3}, (EVIL,), ("T",)), "stop incomplete"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_users_meet_shows_itself(event: Any, expected: str) -> None:
    """N-01: `_repr_mimebundle_` gives text and HTML, escaped, without a notebook too."""
    made = event._repr_mimebundle_()
    assert {"text/plain", "text/html"} == set(made)
    assert expected in made["text/plain"]
    assert "<script" not in made["text/html"] and "\x1b" not in made["text/html"] + made["text/plain"]
    assert {"text/html"} == set(event._repr_mimebundle_(include={"text/html"}))
    assert {"text/plain"} == set(event._repr_mimebundle_(exclude={"text/html"}))


def named(text: str) -> Any:
    return text


def test_a_service_and_what_it_gives_show_themselves() -> None:
    """N-01: service, pool, tracker, record, worker, pool status, ledger."""
    with service() as made:
        tracker = made.with_options(name=EVIL).submit(named, EVIL)
        tracker.result(SOON)
        made.flush(SOON)
        (worker,) = made.workers()
        for thing in (made, made.pool, tracker, made.get(tracker.task_id), worker, made.status(), made.ledger()):
            shown = bundle(thing)
            assert {"text/plain", "text/html"} <= set(shown), thing
            assert "<script" not in shown["text/html"] and "\x1b" not in shown["text/plain"], thing
        assert "succeeded" in bundle(tracker)["text/plain"]
        assert "ledger exact" in bundle(made.ledger())["text/plain"]


def test_an_event_kind_without_a_card_of_its_own_is_shown_all_the_same() -> None:
    """What is not known has its type and a short repr."""
    assert "datetime.datetime" in as_text(card_of(NOW))
    assert "T" in as_text(card_of(TaskEvent("T", 1, 1, None, NOW)))


def test_a_long_text_is_cut() -> None:
    """A card stays short however long a message is."""
    assert len(as_text(Card("x" * 1_000_000))) < 400


def test_the_service_is_not_kept_alive_by_its_picture() -> None:
    """N-01: a pool or service that was shown can be collected."""
    import gc
    import weakref

    made = TaskService(1, isolation="thread")
    bundle(made)
    gone = weakref.ref(made)
    del made
    gc.collect()
    assert gone() is None
