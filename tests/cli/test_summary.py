"""The last thing a run prints: right numbers, any width, no markup from names."""

import dataclasses
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from ptharness.cli.summary import summary_json, summary_table
from ptharness.lineage import Checkpoint, Lineage
from ptharness.results import Results
from tests.synthetic import Run


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    run = Run(tmp_path_factory.mktemp("summary")).fill()
    run.publish(work=[w for w in run.work if w is not run.of("grpo", "pick")])
    return Results(run.folder)


def shown(results: Results, width: int = 160) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, highlight=False, force_terminal=False).print(
        summary_table(results)
    )
    return stream.getvalue()


def test_cells_show_pass_at_one_its_interval_and_pass_at_n(results: Results) -> None:
    lines = shown(results).splitlines()
    base, sft, grpo = (
        next(line for line in lines if line.startswith(f" {name} "))
        for name in ("base", "sft", "grpo")
    )
    cells = summary_json(results)["checkpoints"][1]["tasks"]["add"]
    expected = (
        f"{100 * cells['value']:.1f} [{100 * cells['ci_low']:.1f}, {100 * cells['ci_high']:.1f}]"
        f" · {100 * cells['pass_at']['4']:.1f}"
    )
    assert expected in sft
    assert "off_policy   support_expansion" in sft
    assert "100.0 [90.9, 100.0] · 100.0" in grpo
    assert grpo.rstrip().endswith("-"), "what was not evaluated is no number"
    assert "40.0 [0.0, 88.0]" in base
    assert "· " not in base.split("40.0")[1], "choices have no pass@n"


def test_truncation_is_shown_where_it_is_not_small(results: Results, tmp_path: Path) -> None:
    assert shown(results).count("cut 8.3 %") == 3
    rare = Run(tmp_path, documents=1, samples=101, failing=frozenset()).fill()
    rare.publish()
    assert summary_json(Results(rare.folder))["checkpoints"][0]["tasks"]["add"][
        "truncation_rate"
    ] == pytest.approx(1 / 101)
    assert "cut" not in shown(Results(rare.folder))


@pytest.mark.parametrize("width", [200, 100, 72])
def test_tasks_wrap_into_blocks_and_nothing_is_lost(results: Results, width: int) -> None:
    text = shown(results, width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "pick" in text
    assert "add" in text
    assert text.count("checkpoint  ") == (1 if width == 200 else 2)


def test_json_is_plain_and_whole(results: Results) -> None:
    content = json.loads(json.dumps(summary_json(results), allow_nan=False))
    assert [c["checkpoint"] for c in content["checkpoints"]] == ["base", "sft", "grpo"]
    assert content["checkpoints"][2]["role"] == ["policy_reshaping", "consolidation"]
    assert set(content["checkpoints"][2]["tasks"]) == {"add"}
    cell = content["checkpoints"][0]["tasks"]["add"]
    assert cell["metric"] == "exact_match"
    assert set(cell["pass_at"]) == {"1", "2", "4"}
    assert cell["value"] == cell["pass_at"]["1"]
    assert (cell["n"], cell["samples"], cell["binary"]) == (66, 4, True)
    assert content["lineage"] == "arith"


def test_names_are_shown_as_they_are(tmp_path: Path) -> None:
    names = ("[red]x[/red]", "\x1b[2Jb", "\u202ec")
    run = Run(
        tmp_path,
        lineage=Lineage("odd", tuple(Checkpoint(n, Path("/x"), "x") for n in names)),
        documents=2,
        failing=frozenset(),
        correct=lambda checkpoint, document, sample: True,
        text=lambda checkpoint, document, sample: "x",
        task="[bold]\x1b]0;gone\x07",
    )
    work = [w for w in run.work if w.planned is run.add]
    for w in work:
        run.generate(w)
        run.score(w)
    run.publish(work=work)
    text = shown(Results(run.folder))
    assert "[red]x[/red]" in text
    assert r"\x1b[2Jb" in text
    assert r"\u202ec" in text
    assert not {"\x1b", "\x07", "\u202e"} & set(text)


def test_a_metric_that_is_no_share_is_no_percentage(tmp_path: Path) -> None:
    run = Run(tmp_path, documents=4, failing=frozenset())
    header = dataclasses.replace(run.add.prompts.header, binary=False, primary=("length", "strict"))
    object.__setattr__(run.add.prompts, "header", header)
    run.fill().publish()
    text = shown(Results(run.folder))
    # 2 on all items, of which no interval is known.
    (line,) = [line for line in text.splitlines() if line.startswith(" sft ")]
    assert "2" in line.split()
    assert "200" not in text
    assert "no yes/no" in text


def test_no_results_at_all(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.publish()
    text = shown(Results(run.folder))
    assert "base" in text
    assert "provenance" in text
