from __future__ import annotations

import sys
import unicodedata

import pytest

from ptharness.cli.output import print_table, print_text
from ptharness.text import safe


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain [bold]text[/bold] \\ ä 漢 😀", "plain [bold]text[/bold] \\ ä 漢 😀"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x9b2J", "\\x9b2J"),
        ("a\rb\nc\td\be", "a\\rb\\nc\\td\\x08e"),
        ("abc\u202edcba\u2066", "abc\\u202edcba\\u2066"),
        ("zero\u200bwidth\ufeff", "zero\\u200bwidth\\ufeff"),
        ("line\u2028paragraph\u2029", "line\\u2028paragraph\\u2029"),
        ("half\ud800", "half\\ud800"),
        ("tag\U000e0041", "tag\\U000e0041"),
    ],
)
def test_what_could_move_hide_or_reorder_is_escaped(text: str, shown: str) -> None:
    assert safe(text) == shown


def test_line_breaks_can_be_kept() -> None:
    assert safe("a\nb\x1b\r", keep_lines=True) == "a\nb\\x1b\\r"


def test_no_character_that_a_terminal_obeys_is_left() -> None:
    everything = "".join(chr(code) for code in range(sys.maxunicode + 1))
    left = {unicodedata.category(character) for character in safe(everything)}
    assert not any(category.startswith("C") for category in left)
    assert not left & {"Zl", "Zp"}


def test_a_table_shows_markup_and_escapes_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "[red]x[/red] [link=file:///etc]y[/link] \x1b[2J :bomb:"
    print_table(("column",), [(hostile,)], title=hostile)
    print_text(hostile)
    out = capsys.readouterr().out
    assert out.count("[red]x[/red] [link=file:///etc]y[/link] \\x1b[2J :bomb:") == 3
    assert "\x1b" not in out
