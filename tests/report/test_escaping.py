"""Foreign text is shown and never obeyed: not by the page, not by its scripts, not by the eye."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable

import pytest

from ptharness.report.escaping import as_json, block, shown
from tests.report.conftest import NAMES
from tests.report.pages import Page
from tests.report.tables import HOSTILE, RLO, SEPARATOR, ZERO_WIDTH

Pages = Callable[[str], Page]

INVISIBLE = re.compile(
    "[\u0000-\u0008\u000b\u000e-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069]"
)


def foreign(page: Page) -> str:
    """The file without the library, whose text is not ours to judge."""
    library = max(page.scripts, key=lambda script: len(script.text))
    return page.html.replace(library.text, "")


def test_a_planted_completion_adds_no_element(page: Pages) -> None:
    plain, hostile = page("whole"), page("hostile")
    assert len(hostile.scripts) == len(plain.scripts) == 2
    known = {element.tag for element in plain.root.every()}
    # The failure of the hostile run, and characters set off in completions, are ours.
    assert {element.tag for element in hostile.root.every()} <= known
    for element in hostile.root.every():
        assert not any(name.startswith("on") for name in element.attributes)
        assert "style" not in element.attributes
        assert element.attributes.get("href", "#").startswith("#")
        assert "src" not in element.attributes


def test_names_are_text_too(page: Pages) -> None:
    made = page("names")
    assert len(made.scripts) == 2
    assert not made.root.every("img")
    assert not made.root.every("b")
    for name in NAMES:
        assert name in made.section("stages").text
    classes = {c for e in made.root.every() for c in e.attributes.get("class", "").split()}
    # A foreign word is no class: it could hide, or look like something else.
    assert not any(set("<;'") & set(name) for name in classes)


def test_planted_texts_are_there_to_be_read(page: Pages) -> None:
    words = page("hostile").root.text
    for text in HOSTILE[:5]:
        assert text in words
    assert "right\\u202eleft zero\\u200bwidth line\\u2028break \\x1b[31m\\x00" in words


def test_nothing_hidden_is_left(page: Pages) -> None:
    assert not INVISIBLE.search(foreign(page("hostile")))
    assert "half a pair \\ud800" in page("hostile").section("methods").text


def test_data_blocks_cannot_end_and_are_whole(page: Pages) -> None:
    for element in page("hostile").root.every("script"):
        if element.attributes.get("type") == "application/json":
            assert not re.search("[<>&\u2028\u2029]", element.text)
            json.loads(element.text)


def test_only_our_own_scripts_and_style_may_run(page: Pages) -> None:
    for kind in ("whole", "hostile"):
        made = page(kind)
        policy = next(
            meta.attributes["content"]
            for meta in made.root.every("meta")
            if meta.attributes.get("http-equiv") == "Content-Security-Policy"
        )
        rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
        assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
        for name, elements in (
            ("script-src", made.scripts),
            ("style-src", made.root.every("style")),
        ):
            assert rules[name].split() == [hashed(element.text) for element in elements]
        assert "unsafe" not in policy


def hashed(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def test_charts_hold_foreign_text_in_their_rows_alone(page: Pages) -> None:
    """Fields, expressions and titles are the same for friendly and for hostile tables."""
    plain, hostile = page("whole").data, page("hostile").data
    assert set(plain) == set(hostile)
    for name, data in plain.items():
        if "spec" in data:
            bare = [
                {key: value for key, value in each["spec"].items() if key != "datasets"}
                for each in (data, hostile[name])
            ]
            assert bare[0] == bare[1]


@pytest.mark.parametrize(
    ("text", "markup"),
    [
        ("a < b & c", "a &lt; b &amp; c"),
        ("two\r\nlines", "two\nlines"),
        (f"a{RLO}b", 'a<span class="hidden">\\u202e</span>b'),
        ("written \\u202e out", "written \\u202e out"),
        (f"{ZERO_WIDTH}", '<span class="hidden">\\u200b</span>'),
        ("\ud800", '<span class="hidden">\\ud800</span>'),
    ],
)
def test_blocks_set_hidden_characters_off(text: str, markup: str) -> None:
    assert block(text) == markup


def test_data_keeps_values_and_escapes_texts() -> None:
    value = {"n": [1, 2.5, None, True], "t": f"</script>{SEPARATOR}\u00e4 two\nlines"}
    text = as_json(value)
    assert "<" not in text
    assert text.isascii()
    assert json.loads(text) == {**value, "t": "</script>\\u2028\u00e4 two\nlines"}


def test_what_a_template_prints_is_safe_text() -> None:
    assert shown(f"a{RLO}\nb") == "a\\u202e\\nb"
    assert shown(None) == ""
    assert shown(3) == "3"
