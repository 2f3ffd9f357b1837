"""Text from models, checkpoints and manifests, made safe to show in a terminal or a page."""

from __future__ import annotations

import unicodedata

_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Control, format (bidirectional overrides, zero width), surrogate, private, unassigned, line
and paragraph separators: what can move the cursor, reorder a line or hide in it."""


def safe(text: object, *, keep_lines: bool = False) -> str:
    r"""The text with every control, bidirectional and invisible character escaped.

    With `keep_lines`, line breaks stay.

    >>> safe("\x1b[2Jgone\u202e")
    '\\x1b[2Jgone\\u202e'
    """
    text = str(text)
    if (text.replace("\n", "") if keep_lines else text).isprintable():
        # Nothing of those categories is printable, and nearly every text is.
        return text
    kept = "\n" if keep_lines else ""
    return "".join(
        character
        if character in kept or unicodedata.category(character) not in _UNSAFE_CATEGORIES
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )
