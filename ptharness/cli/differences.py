"""Two texts as one in which what differs is marked by characters, not by colour."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from itertools import takewhile

MOST_WORDS = 2000
"""Of longer texts the differences are not looked for."""

MOST_EXACTLY = 200
"""Words (or characters) from which on frequent ones are no anchors: else repetitive texts, which
models write, would take minutes."""

LEAST_SHARED = 0.2
"""Texts that share a smaller part have nothing marked: all would be."""

FEW_WORDS = 2
"""Texts of so few words are compared by character."""

_CHANCE = 3
"""So few equal characters between two differences are taken as chance, and as different too; one
where characters are compared."""

_WORDS = re.compile(r"\w+\s*|[^\w\s]\s*|\s+")


def marked(left: str, here: str) -> tuple[str, str]:
    """`here` with its differences from `left` marked, and `same`, or why nothing is marked.

    >>> marked("x = 1, so 2", "x = 1, so 3")
    ('x = 1, so [-2-]{+3+}', '')
    """
    if left == here:
        return here, "same"
    first, second, chance = _WORDS.findall(left), _WORDS.findall(here), _CHANCE
    if max(len(first), len(second)) > MOST_WORDS:
        return here, "too long to mark"
    if max(len(first), len(second)) <= FEW_WORDS and max(len(left), len(here)) <= MOST_EXACTLY:
        first, second, chance = list(left), list(here), 1
    pieces: list[tuple[str, str, bool]] = []
    matcher = SequenceMatcher(None, first, second, autojunk=len(second) > MOST_EXACTLY)
    changes = matcher.get_opcodes()
    for place, (kind, a, b, c, d) in enumerate(changes):
        removed, added = "".join(first[a:b]), "".join(second[c:d])
        inside = 0 < place < len(changes) - 1
        is_equal = kind == "equal" and not (inside and len(added.strip()) <= chance)
        if pieces and not is_equal and not pieces[-1][2]:
            removed, added = pieces[-1][0] + removed, pieces[-1][1] + added
            pieces.pop()
        pieces.append((removed, added, is_equal))
    shared = sum(len(added) for _, added, is_equal in pieces if is_equal)
    if shared < LEAST_SHARED * max(len(left), len(here)):
        return here, "too different to mark"
    return "".join(_shown(*piece) for piece in pieces), ""


def _shown(removed: str, added: str, is_equal: bool) -> str:
    if is_equal:
        return added
    # A line break that both end with would only tear the marks apart.
    pairs = zip(reversed(removed), reversed(added), strict=False)
    end = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1] and pair[0].isspace(), pairs))
    common = removed[len(removed) - end :]
    removed, added = removed.removesuffix(common), added.removesuffix(common)
    return (f"[-{removed}-]" if removed else "") + (f"{{+{added}+}}" if added else "") + common


def bounded(text: str, most: int) -> str:
    """The text's beginning and end, and how much is left out between them."""
    if len(text) <= most:
        return text
    head, tail = most * 2 // 3, most // 3
    left_out = len(text) - head - tail
    return f"{text[:head]} [... {left_out:,} characters; --full ...] {text[-tail:]}"


def one_line(text: str | None, most: int, *, end: bool = False) -> str:
    """A text as one line of at most so many characters; with `end`, its end."""
    line = " ".join((text or "")[-4 * most :].split()) if end else " ".join((text or "").split())
    if len(line) <= most:
        return line
    return f"\u2026{line[-most + 1 :]}" if end else f"{line[: most - 1]}\u2026"
