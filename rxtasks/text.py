"""How things from tasks are shown: never trusted, always short."""

from __future__ import annotations

import unicodedata

__all__ = ["amount", "counted", "cut", "duration", "shown", "steers"]

#: Characters that move the cursor, change the direction of writing or hide: Unicode's control, format (bidi marks and
#: zero-width characters among them), surrogate, private, line and paragraph separator categories.
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def steers(char: str) -> bool:
    """Say whether a character could do more to a terminal than be seen, or hides."""
    return unicodedata.category(char) in _UNSAFE


def _escaped(char: str) -> str:
    if char == "\t":
        return "    "
    if not steers(char):
        return char
    return char.encode("unicode_escape", "backslashreplace").decode("ascii")


def shown(text: str) -> str:
    """Return `text` on one line, safe for a terminal: control and invisible characters are escaped as in Python."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_escaped, text))


def cut(text: str, width: int) -> str:
    """Return `text` in at most `width` characters; what is missing in the middle is shown as an ellipsis."""
    if len(text) <= width:
        return text
    if width < 8:
        return text[: max(width, 0)]
    tail = (width - 1) * 2 // 3
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"


def duration(seconds: float) -> str:
    """Return seconds as "0.42 s", "12.3 s", "3:05" or "2:03:05"."""
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def amount(number: float) -> str:
    """Return a number with thousands marked and no needless decimals: 1,234 or 0.5."""
    return f"{number:,.0f}" if number == int(number) else f"{number:,.3g}" if abs(number) < 1000 else f"{number:,.1f}"


def counted(number: int, noun: str) -> str:
    """Return "1 task", "2 tasks"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
