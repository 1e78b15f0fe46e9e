"""Makes text that came from outside safe to print: on one line, of bounded length, without control characters."""

from __future__ import annotations

import re
from pathlib import Path

_MOST_CHARACTERS = 2000
_LONGEST_VALUE = 200
_KEPT = 80
_LONG_WORD = re.compile(r"\S{400,}")


def shown_value(value: object) -> str:
    """`repr`, shortened; also of an integer with more digits than Python prints."""
    try:
        text = repr(value)
    except ValueError:
        return "a number of thousands of digits"
    except RecursionError:
        return "a value nested thousands deep"
    return shortened(text)


def shortened(text: str, most: int = _LONGEST_VALUE) -> str:
    """The text, or its beginning and end and how much is left out."""
    if len(text) <= most:
        return text
    return f"{text[: most - _KEPT]} … {text[-_KEPT:]} ({len(text)} characters)"


def one_line(text: str) -> str:
    """The text; its `repr` where it holds control characters."""
    return text if text.isprintable() else repr(text)


def shown_name(name: str | Path) -> str:
    """A name or a path on one line: its `repr` where it holds control characters; shortened."""
    return shortened(one_line(str(name)))


def escaped(text: str) -> str:
    """The text with control characters escaped, but for line feeds, so that none reaches a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c == "\n" or c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shown_message(text: str) -> str:
    """A message of ours for a terminal: control characters escaped but for line feeds, cut after 2,000 characters.

    Words of more than 400 characters, such as paths, are shortened first, so that what is said of them is not cut.
    """
    safe = _LONG_WORD.sub(lambda word: shortened(word[0]), escaped(text))
    if len(safe) <= _MOST_CHARACTERS:
        return safe
    return f"{safe[:_MOST_CHARACTERS]} … and {len(safe) - _MOST_CHARACTERS:,} characters more"
