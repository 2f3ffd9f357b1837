"""Tables in terminals of different widths."""

from __future__ import annotations

import sys

import click
import pytest

from ptharness.cli.output import print_table

COLUMNS = ("stage", "parent", "measured", "gap", "prompts")
ROWS = [("dpo", "sft-of-two-epochs", "parent_unlike", "+0.144 [0.094, 0.193]", "200")]


@pytest.mark.parametrize(
    ("width", "shown"), [(100, COLUMNS), (70, COLUMNS[:4]), (50, ("stage", "measured", "gap"))]
)
def test_a_narrow_terminal_shows_fewer_columns_and_whole_words(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    width: int,
    shown: tuple[str, ...],
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(width))
    print_table(COLUMNS, ROWS, spare=("prompts", "parent"))
    lines = [line for line in click.unstyle(capsys.readouterr().out).splitlines() if line.strip()]
    heading, _, cells = lines
    assert tuple(heading.split()) == shown
    row = dict(zip(COLUMNS, ROWS[0], strict=True))
    assert cells.split() == " ".join(row[name] for name in shown).split()
    assert max(map(len, lines)) <= width
