"""Reports of made-up results, each written once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ptharness.report import write_report
from ptharness.results import Results
from tests.report.pages import Page
from tests.report.tables import HOSTILE, LINEAGE, Made, Stage, many, write_results

NAMES = (
    "<img src=x onerror=window.planted=7>",
    "datum['s'];window.planted=8;\"+{{7*7}}",
    "a.b[0]\\'\"<b>&lt;",
)
"""No manifest allows them, yet results may come from anywhere."""

HALF = "half a pair \ud800"
"""JSON can hold it, UTF-8 cannot."""

KINDS: dict[str, Made] = {
    "whole": Made(),
    "hostile": Made(
        hostile=True,
        failures=(
            {"checkpoint": "grpo", "task": "add", "stage": "score", "message": HOSTILE[1] + HALF},
        ),
    ),
    "unanalysed": Made(analysis=()),
    "undefined": Made(undefined=True),
    "alone": Made(stages=(Stage("base"),)),
    "choices": Made(tasks=()),
    "certified nothing": Made(certified_items=0),
    "one task": Made(tasks=("add",), choices=(), stages=LINEAGE[:2]),
    "names": Made(
        stages=(
            Stage("__proto__"),
            Stage(NAMES[0], ("__proto__",), NAMES[1], "mixed", ("policy_reshaping",), "mixed"),
            Stage("constructor", (NAMES[0],), "sft", NAMES[2], (NAMES[0],), NAMES[1], NAMES[2]),
            Stage(NAMES[1], ("constructor",), "sft", "on_policy", (), "none", teacher=NAMES[0]),
        ),
        tasks=("toString", NAMES[2], NAMES[1]),
        choices=(),
    ),
    "long": Made(
        stages=(
            Stage("base"),
            *(
                Stage(f"sft-of-{'a-very-long-name-' * n}epoch3-{end}", ("base",), "sft")
                for n, end in ((0, "a"), (0, "b"), (1, "c"), (5, "d"))
            ),
        ),
    ),
    "zoo": many(15, 9),
}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`folder(kind)`: a results folder of that kind, with its report in it."""
    written: dict[str, Path] = {}

    def find(kind: str) -> Path:
        if kind not in written:
            place = tmp_path_factory.mktemp("made") / "made-up"
            written[kind] = write_results(place, KINDS[kind])
            assert write_report(Results(place)) == place / "report.html"
        return written[kind]

    return find


@pytest.fixture(scope="session")
def page(folder: Callable[[str], Path]) -> Callable[[str], Page]:
    """`page(kind)`: the report of such a folder, parsed."""
    parsed: dict[str, Page] = {}

    def find(kind: str) -> Page:
        if kind not in parsed:
            html = (folder(kind) / "report.html").read_text(encoding="utf-8")
            parsed[kind] = Page(html)
        return parsed[kind]

    return find
