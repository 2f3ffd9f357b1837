"""The page on measurement is true: its Python prints what stands there, its numbers are checked."""

from __future__ import annotations

import re
from contextlib import redirect_stdout
from fractions import Fraction
from io import StringIO
from math import comb, log
from pathlib import Path

import numpy as np
import pytest

from ptharness.analysis import decompose, retention
from ptharness.analysis.certification import support_threshold
from ptharness.analysis.comparison import RESHAPING_REPLICATES
from ptharness.analysis.decomposition import QUANTITIES as CELLS
from ptharness.analysis.decomposition import item_terms
from ptharness.analysis.inputs import Settings
from ptharness.analysis.roles import judge
from ptharness.manifest import DEFAULT_SUPPORT_BUDGET
from ptharness.quantities import QUANTITIES
from ptharness.taxonomy import Role

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "explanation" / "measurement.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def table(header: str) -> list[list[str]]:
    """The cells of the table whose header row begins so, without that row."""
    lines = PAGE[PAGE.index(f"| {header}") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_python_of_the_page_prints_what_stands_below_it() -> None:
    blocks = BLOCK.findall(PAGE)
    assert len(blocks) == PAGE.count("```python") == PAGE.count("```text") == 5
    names: dict[str, object] = {}
    for code, expected in blocks:
        printed = StringIO()
        with redirect_stdout(printed):
            exec(compile(code, "measurement.md", "exec"), names)
        assert printed.getvalue() == expected


def by_hand(c0: int, c1: int, n: int = 4, k: int = 2) -> list[Fraction]:
    """U0, PU0, U1, PU1, exp, rsh, att, res, delta of an item, as the page's formulas say."""
    u0, u1 = (Fraction(comb(n - c, k), comb(n, k)) for c in (c0, c1))
    pu0, pu1 = (Fraction(c, n) * Fraction(comb(n - c, k), comb(n - 1, k)) for c in (c0, c1))
    p0, p1 = Fraction(c0, n), Fraction(c1, n)
    cells = [
        u0 * (p1 - pu1) - pu0 * (1 - u1),
        (1 - u0) * (p1 - pu1) - (p0 - pu0) * (1 - u1),
        (1 - u0) * pu1 - (p0 - pu0) * u1,
        u0 * pu1 - pu0 * u1,
    ]
    return [u0, pu0, u1, pu1, *cells, p1 - p0]


def test_the_four_items_by_hand() -> None:
    *items, mean = table("item | c0 | c1")
    counts = [(int(row[1]), int(row[2])) for row in items]
    shown = [[Fraction(cell) for cell in row[3:]] for row in items]
    assert shown == [by_hand(c0, c1) for c0, c1 in counts]
    for row in shown:
        assert sum(row[4:8]) == row[8]
    means = [Fraction(cell) for cell in mean[7:]]
    assert means == [sum(column) / 4 for column in list(zip(*shown, strict=True))[4:]]
    assert sum(means[:4]) == means[4]

    parent, child = np.array(counts).T
    terms = item_terms(np.full(4, 4), parent, np.full(4, 4), child, 2)
    order = [CELLS.index(name) for name in ("exp", "rsh", "att", "res", "delta")]
    np.testing.assert_allclose(
        terms[:, order], [[float(cell) for cell in row[4:]] for row in shown], atol=1e-12
    )
    found = decompose(4, parent, 4, child, k=2)
    assert [
        getattr(found, name).estimate for name in ("exp", "rsh", "att", "res", "delta")
    ] == pytest.approx([float(cell) for cell in means])


def test_the_verdicts_are_as_in_the_table() -> None:
    rows = table("declared \\ measured")
    header = PAGE[PAGE.index("| declared \\ measured") :].splitlines()[0].strip("|").split("|")
    measured = [name.strip() for name in header[1:]]
    declared: dict[str, list[str]] = {
        "support_expansion": [Role.SUPPORT_EXPANSION],
        "policy_reshaping": [Role.POLICY_RESHAPING],
        "either of the two": [Role.SUPPORT_EXPANSION, Role.POLICY_RESHAPING],
        "nothing (a second run)": [],
    }
    assert [row[0] for row in rows] == list(declared)
    for name, *verdicts in rows:
        assert verdicts == [judge(declared[name], role)[0] for role in measured], name


def test_every_quantity_of_the_tables_is_explained() -> None:
    assert [name for name in QUANTITIES if f"`{name}`" not in PAGE] == []


def test_the_defaults_are_those_of_the_program() -> None:
    settings = Settings()
    assert settings.k == DEFAULT_SUPPORT_BUDGET
    for said in (
        f"default {settings.k})",
        f"q <= {settings.thresholds.fdr:g};",
        f"at {100 * settings.level:.0f} %:",
        f"a change of {100 * settings.thresholds.smallest_effect:.0f} pp",
        f"({settings.replicates} replicates of clusters)",
        f"({RESHAPING_REPLICATES} replicates)",
        f"{support_threshold(16):.4f} for k = 16",
        f"about {-log(1 - settings.level):.0f} / G",
    ):
        assert said in PAGE, said
    assert (1 - 0.001) ** 16 > 0.98


def test_the_ways_to_an_interval_exist() -> None:
    source = "".join(
        path.read_text(encoding="utf-8")
        for folder in ("analysis", "publish")
        for path in (ROOT / "ptharness" / folder).glob("*.py")
    )
    for row in table("`ci_method`"):
        assert f'"{row[0].strip("`")}"' in source


def test_retention_without_split_samples_reads_too_low() -> None:
    random = np.random.default_rng(0)
    start = random.beta(2, 2, 20_000)
    after = np.clip(start + random.choice([0, 0.2], 20_000), 0, 1)
    before, gained, later = (random.binomial(8, p) for p in (start, after, after))
    up = gained > before
    naive = (later - before)[up].sum() / (gained - before)[up].sum()
    assert f"a truth of 1 reads {naive:.2f}" in PAGE
    assert retention((8, before), (8, gained), (8, later)).estimate == pytest.approx(1, abs=0.05)
