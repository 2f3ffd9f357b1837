r"""Foreign text in the page: shown, never obeyed.

Every text that a template prints goes through `shown`, and every text in a data block through
`as_json`: names, prompts and completions alike. Both make control, bidirectional and invisible
characters visible; the first is then escaped by jinja2, the second can not end its element.
"""

from __future__ import annotations

import json
import re
from typing import Any

from markupsafe import Markup

from ptharness.taxonomy import Provenance, Role
from ptharness.text import safe

_ENDS = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}
_KNOWN = frozenset(
    {*Role, *Provenance, "none", "undetermined", "root", "unmeasured", "teacher"}
    | {"supported", "contradicted"}
)
_BREAKS = re.compile(r"\r\n?|\n")


def shown(value: Any) -> Any:
    """jinja2's `finalize`: a text with its hidden characters made visible; markup as it is."""
    if isinstance(value, Markup):
        return value
    return "" if value is None else safe(value)


def known(name: str) -> str:
    """A word of the vocabulary as a class of the style sheet; any other word is `unknown`.

    A class is no text: a foreign one could take the look of something else, or hide.
    """
    return name if name in _KNOWN else "unknown"


def block(text: str) -> Markup:
    r"""Text of several lines for a `<pre>`: hidden characters set off from what is written out.

    >>> block("a\u202eb")
    Markup('a<span class="hidden">\\u202e</span>b')
    """
    pieces = []
    for character in _BREAKS.sub("\n", text):
        visible = safe(character, keep_lines=True)
        if visible == character:
            pieces.append(Markup.escape(character))
        else:
            pieces.append(Markup('<span class="hidden">{}</span>').format(visible))
    return Markup("").join(pieces)


def as_json(value: Any) -> Markup:
    """JSON for a `<script type="application/json">`, which no text in it can end."""
    text = json.dumps(_safe(value), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.translate(_ENDS))


def _safe(value: Any) -> Any:
    if isinstance(value, str):
        # Expressions of ours have no such character, so all texts can be treated alike.
        return safe(value, keep_lines=True)
    if isinstance(value, dict):
        return {safe(name): _safe(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_safe(entry) for entry in value]
    return value
