"""What `ptharness distances` prints: a matrix, or a line per stage where that would be too wide."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from ptharness.cli.distances import _show
from ptharness.schema import DISTANCES


def rows(*names: str, other: str = "") -> list[dict[str, Any]]:
    """Every pair of a chain; between `other` and the rest the vocabularies differ."""
    made = []
    for place, (source, target) in enumerate(permutations(names, 2)):
        row = {
            **dict.fromkeys(DISTANCES.names),
            "source": source,
            "target": target,
            "scope": "pooled",
            "task": "pooled",
            "relation": "child" if names.index(source) == names.index(target) + 1 else "other",
            "excess_bits_per_byte": place / 10,
        }
        if other in (source, target):
            row["reason"] = "another vocabulary"
        else:
            row |= {
                "method": "sampled",
                "level": 0.9,
                "nats_per_token": place - 0.0001,
                "nats_per_token_ci_low": place - 0.25,
                "nats_per_token_ci_high": place + 0.75,
            }
        made.append(row)
    return made


def cells(line: str) -> list[str]:
    return [cell for cell in line.split("  ") if cell.strip()]


def test_a_few_checkpoints_are_a_matrix(capsys: pytest.CaptureFixture[str]) -> None:
    _show(rows("base", "sft"))
    out = capsys.readouterr().out
    assert "says / judged by" in out
    assert "0.000 \u00b10.750" in out, "never -0.000"
    assert "1.000 \u00b10.750" in out
    assert "90 % intervals (sampled)" in out
    assert "bits per byte" not in out, "one vocabulary"


def test_between_vocabularies_there_are_bits(capsys: pytest.CaptureFixture[str]) -> None:
    _show(rows("base", "sft", "student", other="student"))
    out = capsys.readouterr().out
    assert "base -> student, sft -> student, student -> base and 1 more: another vocabulary" in out
    tables = [
        next(line for line in part.splitlines() if line.strip().startswith("student "))
        for part in out.split("says / judged by")[1:]
    ]
    assert [line.split() for line in tables] == [
        ["student", "-", "-"],
        ["student", "0.400", "0.500"],
    ]
    assert "bits per byte of text that the judge needs more than its writer" in out


def test_many_checkpoints_are_a_line_per_stage(capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"step-{number}" for number in range(9)]
    _show(rows(*names))
    out = capsys.readouterr().out
    assert "says / judged by" not in out
    assert "KL(child || parent)" in out
    lines = [line for line in out.splitlines() if line.strip().startswith("step-")]
    assert len(lines) == 8
    at = list(permutations(names, 2)).index
    there, back = at(("step-3", "step-2")), at(("step-2", "step-3"))
    assert [cell.strip() for cell in cells(lines[2])] == [
        *("step-3", "step-2"),
        f"{there:.3f} [{there - 0.25:.3f}, {there + 0.75:.3f}]",
        f"{back:.3f} [{back - 0.25:.3f}, {back + 0.75:.3f}]",
    ]
