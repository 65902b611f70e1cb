"""Break text into lines between words."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence

#: A space that no line ends at, between a number and its percent sign.
BOUND_SPACE = "\u00a0"
#: Where a word that is longer than a whole line, such as an address of the web, may end a line.
JOINTS = r"[^/,_\-?&=.:;]+[/,_\-?&=.:;]*|[/,_\-?&=.:;]+"


def wrapped(text: str, width: int, indent: str = "") -> list[str]:
    """Break text into lines of at most `width` characters, between words. indent: before all lines but the first.

    A word longer than a line is broken after one of its signs (a slash, a comma), since there is no other way.

    >>> wrapped("at most 93 % of the peak", 11)
    ['at most', '93 % of the', 'peak']
    >>> wrapped("see https://example.org/a/long/path", 20, "  ")
    ['see https://example.', '  org/a/long/path']
    """
    room = max(1, width - len(indent))
    whole = re.split(r"[ \t\n]+", text.replace(" %", f"{BOUND_SPACE}%"))
    words = [piece for word in whole for piece in _pieces(word, room)]
    lines = textwrap.wrap(
        " ".join(words), max(width, 1), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return [line.replace(BOUND_SPACE, " ") for line in lines]


def _pieces(word: str, room: int) -> Iterator[str]:
    """Yield a word that fits into `room` characters whole, and a longer one in parts that fit."""
    if len(word) <= room:
        yield word
        return
    part = ""
    for joint in re.findall(JOINTS, word):
        if part and len(part) + len(joint) > room:
            yield part
            part = ""
        part += joint
        while len(part) > room:
            yield part[:room]
            part = part[room:]
    if part:
        yield part


def narrowest(words: Sequence[str], lines: int) -> int:
    """Return the least width at which the words, in order, fill at most `lines` lines.

    >>> narrowest(["In", "flight", "per", "replica"], 2), narrowest(["In", "flight", "per", "replica"], 4)
    (11, 7)
    """
    text = " ".join(words)
    longest = max(map(len, words), default=0)
    if lines == 1 or len(words) <= lines:
        return len(text) if lines == 1 else longest
    return next((w for w in range(longest, len(text)) if len(wrapped(text, w)) <= lines), max(len(text), longest))
