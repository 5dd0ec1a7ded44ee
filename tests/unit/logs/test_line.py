"""A line of the merged log, its JSON form, and how it is shown."""

from __future__ import annotations

import io
import unicodedata
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxtasks import ProtocolError, SettingsError
from rxtasks.logs import LogLine, choose_format, export, render
from rxtasks.logs.poollines import line_of
from tests.unit.logs.support import at, happened, line, said

_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
_lines = st.builds(
    LogLine,
    st.floats(0, 1e9).map(at),
    st.sampled_from(["INFO", "ERROR", "CUSTOM"]),
    st.text(),
    st.none() | st.text(),
    st.none() | st.text(),
    st.none() | st.text(),
    st.sampled_from(["log", "stdout", "pool"]),
    st.dictionaries(st.text(), _json, max_size=3),
    st.integers(0, 100),
    st.booleans(),
)


@given(_lines)
def test_a_line_is_read_as_it_was_written(one: LogLine) -> None:
    """C-06: the JSON form gives an equal line, on one line."""
    data = one.to_json()
    assert one == LogLine.from_json(data)
    assert b"\n" not in data


def test_the_json_form_is_as_documented() -> None:
    """C-06: the names and the order of the keys are stable."""
    body = orjson.loads(line(0.5, "wrote a.png", fields={"size": 3}).to_json())
    assert {
        "v": 1,
        "time": "2026-11-22T10:00:00.500000+00:00",
        "level": "INFO",
        "source": "0ABCDE app.images:resize",
        "message": "wrote a.png",
        "task_id": "01TASK00000000000000000001",
        "task_name": "app.images:resize",
        "worker_id": "01WORKER0000000000000ABCDE",
        "stream": "log",
        "fields": {"size": 3},
    } == body
    more = orjson.loads(line(0, repeated=3, late=True).to_json())
    assert (3, True) == (more["repeated"], more["late"])


@pytest.mark.parametrize("fields", [{"n": 2**70}, {"s": "\ud800"}, {1: 2}, {"o": object()}, {"t": {(1, 2): 3}}])
def test_whatever_fields_hold_a_line_can_be_written(fields: dict[Any, Any]) -> None:
    """C-06: what is not JSON does not cost the line."""
    assert "kept" == LogLine.from_json(line(0, "kept", fields=fields).to_json()).message


def test_a_lone_surrogate_in_the_message_does_not_cost_the_line() -> None:
    """C-06: what no codec takes is written as its escape."""
    data = line(0, "a\ud800b").to_json()
    assert "a\\ud800b" == LogLine.from_json(data).message


@pytest.mark.parametrize(
    "data",
    [
        *(
            b"",
            b"{",
            b"[]",
            b"{}",
            b'{"v":1}',
            b"\xff",
            b'{"v":1,"time":"x","level":"INFO","message":""}',
            b"null",
            b'"v"',
        ),
        b'{"v":1,"time":"2026-11-22T10:00:00","level":"INFO","message":"no zone"}',
        b'{"v":1,"time":"2026-11-22T10:00:00Z","level":1,"message":"x"}',
        b'{"v":1,"time":"2026-11-22T10:00:00Z","level":"INFO","message":"x","worker_id":5}',
        b'{"v":2,"time":"2026-11-22T10:00:00Z","level":"INFO","message":"x"}',
    ],
)
def test_what_is_no_line_is_a_protocol_error(data: bytes) -> None:
    """C-06: a torn line is told from a line."""
    with pytest.raises(ProtocolError):
        LogLine.from_json(data)


def test_keys_of_a_later_version_are_ignored() -> None:
    """C-06: later versions can add keys."""
    body = {**orjson.loads(line(1).to_json()), "colour": "blue"}
    assert line(1) == LogLine.from_json(orjson.dumps(body))


def test_what_is_over_its_limit_is_cut_and_marked() -> None:
    """C-06: security rule 7: a message of 64 KiB, fields of 16 KiB."""
    cut = LogLine.of_event(said(0, "x" * 200_000, fields={"a": "y" * 50_000}))
    assert 64 * 1024 >= len(cut.message.encode()) > 60_000 and "[cut: 200000 bytes]" in cut.message
    assert {"cut"} == set(cut.fields)
    whole = LogLine.of_event(said(0, "x" * 60_000, fields={"a": "y" * 10_000}))
    assert (60_000, 10_000) == (len(whole.message), len(whole.fields["a"]))


@given(_lines)
def test_nothing_shown_can_steer_a_terminal(one: LogLine) -> None:
    """C-06: security rule 6: control characters, ESC, bidi marks and line ends are escaped in each format."""
    for format in ("plain", "json"):
        text = render(one, format)  # type: ignore[arg-type]
        assert not {unicodedata.category(char) for char in text} & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}, text
    assert LogLine.from_json(render(one, "json")) == one


def test_a_terminal_is_not_steered_by_a_message() -> None:
    """C-06: security rule 6."""
    evil = line(0, "a\x1b[2Jb\r\n\u202ec\u200bd\x9b31m", task_name="n\x1b]0;t\x07", fields={"k\n": "\x1b[1m"})
    for format in ("plain", "json"):
        assert render(evil, format).isprintable()  # type: ignore[arg-type]
    coloured = render(evil, "color")
    assert "\x1b[2J" not in coloured and "\x1b]" not in coloured and "\n" not in coloured and "\x1b[1m" not in coloured
    assert r"a\x1b[2Jb\r\n\u202ec\u200bd\x9b31m" in coloured


def test_plain_says_when_how_bad_who_and_what() -> None:
    """C-06: time, level, source tag, message; where it came from if that is not usual."""
    text = render(line(0, "done", level="WARNING", stream="stderr", fields={"n": 1, "who": "me"}))
    assert text.endswith("WARNING  0ABCDE app.images:resize stderr | done [n=1 who=me]")
    assert "(late)" in render(line(0, late=True))
    assert f"{at(0).astimezone():%Y-%m-%d %H:%M:%S}.000" == text[:23]


def test_a_line_of_a_damaged_file_can_be_shown_whatever_it_says() -> None:
    """C-06: the year 1, a level of a megabyte."""
    strange = LogLine.from_json(
        b'{"v":1,"time":"0001-01-01T00:00:00+00:00","level":"%s","message":"x"}' % (b"L" * 2**20)
    )
    assert render(strange).endswith("| x") and len(render(strange)) < 100


def test_levels_have_colours_and_a_wrong_format_is_told() -> None:
    """C-06: coloured; a wrong format names those there are."""
    assert "\x1b[31m" in render(line(0, level="ERROR"), "color")
    assert "\x1b" not in render(line(0, level="ERROR"), "plain")
    with pytest.raises(SettingsError, match="plain, json, color, not 'html'"):
        render(line(0), "html")  # type: ignore[arg-type]


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "environ", "expected"),
    [
        (_Terminal(), {}, "color"),
        (_Terminal(), {"NO_COLOR": "1"}, "plain"),
        (_Terminal(), {"NO_COLOR": ""}, "color"),
        (_Terminal(), {"TERM": "dumb"}, "plain"),
        (io.StringIO(), {}, "plain"),
        (None, {}, "plain"),
    ],
)
def test_colour_is_for_terminals_that_want_it(stream: Any, environ: dict[str, str], expected: str) -> None:
    """C-06: NO_COLOR (no-color.org: set and not empty)."""
    assert expected == choose_format(stream, environ)


def test_events_of_the_pool_that_matter_are_lines() -> None:
    """C-06: workers lost, pressure, recovery, store trouble; not each busy and idle."""
    lost = line_of(happened(0, "failed", "killed by signal 9", task_ids=["a", "b"], signal=9))
    assert lost is not None
    assert ("pool", "ERROR", "worker lost: killed by signal 9 (it held 2 tasks)") == (
        lost.source,
        lost.level,
        lost.message,
    )
    assert 9 == lost.fields["signal"]
    for kind in ("busy", "idle", "heartbeat", "of a later version"):
        assert line_of(happened(0, kind)) is None
    trouble = line_of(happened(0, "warning", "the store failed at commit: disk full"))
    assert trouble is not None and ("WARNING", "the store failed at commit: disk full") == (
        trouble.level,
        trouble.message,
    )
    own = line_of(happened(0, "log", "hello", level="DEBUG", stream="stderr"))
    assert own is not None and ("DEBUG", "stderr") == (own.level, own.stream)


def test_lines_are_exported_whole_or_not_at_all(tmp_path: Any) -> None:
    """C-06: export to a file or a stream, in any format."""
    target = tmp_path / "out.jsonl"
    assert 2 == export([line(0), line(1)], target)
    assert [line(0), line(1)] == [LogLine.from_json(text) for text in target.read_text().splitlines()]

    def breaks() -> Any:
        yield line(2)
        raise RuntimeError("the source failed")

    with pytest.raises(RuntimeError):
        export(breaks(), target)
    assert 2 == len(target.read_text().splitlines()) and [target] == list(tmp_path.iterdir())
    stream = io.StringIO()
    assert 1 == export([line(0, "x")], stream, "plain")
    assert stream.getvalue().endswith("| x\n")
