"""`steps:` of a manifest: which folders, which numbers, which names; and `--checkpoints`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ptharness.cli import main
from ptharness.errors import ManifestError
from ptharness.manifest import read_manifest
from ptharness.plugins import load_plugins
from ptharness.registry import Registry
from ptharness.report.lineage import Checkpoint as Shown
from ptharness.report.lineage import Lineage as ShownLineage
from ptharness.resolve import Evaluation, Overrides, resolve
from ptharness.steps import MOST_STEPS, find_steps
from tests.conftest import write_checkpoint

Edited = Callable[..., Path]

GRPO = "{path: checkpoints/grpo, parent: sft, method: grpo}"


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_plugins(installed=False).registry()


@pytest.fixture
def stepped(edited: Edited, registry: Registry) -> Callable[..., Evaluation]:
    """`stepped(entry, folders...)`: the manifest with that entry for grpo, resolved."""

    def evaluation(entry: str, *folders: str, **overrides: Any) -> Evaluation:
        path = edited(GRPO, entry)
        for folder in folders:
            write_checkpoint(path.parent / folder)
        return resolve(read_manifest(path), registry, Overrides(**overrides))

    return evaluation


def steps_of(evaluation: Evaluation) -> dict[str, int | None]:
    return {c.name: c.step for c in evaluation.lineage.checkpoints}


THREE = [f"checkpoints/grpo/checkpoint-{step}" for step in (1000, 50, 200)]
BESIDE = (
    "{path: checkpoints/grpo, steps: 'checkpoints/grpo/checkpoint-*', parent: sft, method: grpo}"
)
INSTEAD = "{steps: 'checkpoints/grpo/checkpoint-*', parent: sft, method: grpo}"


def test_steps_beside_a_path_are_further_checkpoints_of_the_same_stage(
    stepped: Callable[..., Evaluation],
) -> None:
    entry = BESIDE.replace("grpo}", "{name: grpo, replay_buffer: true}, role: consolidation}")
    evaluation = stepped(entry, *THREE)
    lineage = evaluation.lineage
    assert list(steps_of(evaluation).items()) == [
        ("base", None),
        ("sft", None),
        ("grpo-50", 50),
        ("grpo-200", 200),
        ("grpo-1000", 1000),
        ("grpo", None),
    ]
    assert len({id(c.stage) for c in lineage.checkpoints}) == 6
    assert all(lineage.by_name[n].stage == lineage.by_name["grpo"].stage for n in STEP_NAMES)
    step = lineage.by_name["grpo-50"]
    assert step.source == "checkpoints/grpo/checkpoint-50"
    assert step.directory == evaluation.manifest_path.parent / step.source
    edges = [(e.source, e.target) for e in lineage.edges() if e.relation == "edge"]
    assert edges == [("base", "sft"), *(("sft", name) for name in (*STEP_NAMES, "grpo"))]


STEP_NAMES = ("grpo-50", "grpo-200", "grpo-1000")


def test_steps_instead_of_a_path_make_the_last_one_the_checkpoint_itself(
    stepped: Callable[..., Evaluation],
) -> None:
    evaluation = stepped(INSTEAD, *THREE)
    assert list(steps_of(evaluation).items())[2:] == [
        ("grpo-50", 50),
        ("grpo-200", 200),
        ("grpo", 1000),
    ]
    assert evaluation.lineage.by_name["grpo"].source == "checkpoints/grpo/checkpoint-1000"


@pytest.mark.parametrize(
    ("entry", "step"),
    [
        (BESIDE.replace("grpo,", "grpo, step: 1000,", 1), 1000),
        (BESIDE.replace("checkpoints/grpo,", "checkpoints/grpo/checkpoint-1000,"), 1000),
        (BESIDE.replace("checkpoints/grpo,", "checkpoints/link,"), 1000),
        (BESIDE.replace("grpo,", "grpo, step: 1400,", 1), 1400),
    ],
)
def test_a_step_that_is_the_checkpoint_itself_is_not_there_twice(
    stepped: Callable[..., Evaluation], edited: Edited, entry: str, step: int
) -> None:
    checkpoints = edited().parent / "checkpoints"
    (checkpoints / "link").symlink_to(checkpoints / "grpo" / "checkpoint-1000")
    found = steps_of(stepped(entry, *THREE))
    assert found["grpo"] == step
    assert ("grpo-1000" in found) == (step == 1400)


def test_a_step_can_be_a_parent_or_a_teacher(stepped: Callable[..., Evaluation]) -> None:
    entry = f"{BESIDE}\n  student: {{path: checkpoints/sft, parent: grpo-50, teacher: grpo, "
    lineage = stepped(entry + "method: sequence_kd}", *THREE).lineage
    assert lineage.by_name["student"].parents == ("grpo-50",)
    assert lineage.depths["student"] == 3


def test_the_main_path_of_the_report_goes_to_the_end_of_a_stage() -> None:
    def checkpoint(index: int, name: str, parents: tuple[str, ...], step: int | None) -> Any:
        return Shown(index, name, parents, None, "sft", None, (), step, 0, None, None)

    lineage = ShownLineage(
        "demo",
        (
            checkpoint(0, "base-5", (), 5),
            checkpoint(1, "base", (), 9),
            checkpoint(2, "sft-10", ("base",), 10),
            checkpoint(3, "sft", ("base",), None),
            checkpoint(4, "sft-2", ("base",), None),
        ),
        (),
    )
    assert [c.name for c in lineage.main_path] == ["base", "sft"]
    on_the_way = [c.name for c in lineage.checkpoints if lineage.is_on_the_way(c)]
    assert on_the_way == ["base-5", "sft-10"]


def test_a_root_has_steps_of_its_pre_training(edited: Edited, registry: Registry) -> None:
    path = edited("{path: checkpoints/base}", "{steps: 'pre/step_*/hf'}")
    for step in (9, 10):
        write_checkpoint(path.parent / "pre" / f"step_{step}" / "hf")
    lineage = resolve(read_manifest(path), registry).lineage
    roots = [(c.name, c.step) for c in lineage.checkpoints if c.stage is None]
    assert roots == [("base-9", 9), ("base", 10)]
    assert [(e.source, e.target) for e in lineage.edges() if e.source.startswith("base")] == [
        ("base", "sft"),
        ("base", "grpo"),
    ]


def test_adapters_have_steps_on_the_same_base(stepped: Callable[..., Evaluation]) -> None:
    entry = BESIDE.replace("path: ", "adapter: ")
    lineage = stepped(entry, *THREE).lineage
    folder = lineage.by_name["sft"].directory
    for name in (*STEP_NAMES, "grpo"):
        assert lineage.by_name[name].directory == folder
    assert lineage.by_name["grpo-50"].adapter == folder.parent / "grpo" / "checkpoint-50"


# --- which folders, which numbers -------------------------------------------------------------


@pytest.mark.parametrize(
    ("patterns", "folders", "numbers"),
    [
        (["step_*"], ["step_500", "step_0900", "other_7", ".step_1"], [500, 900]),
        (["checkpoint-5*"], ["checkpoint-500", "checkpoint-51", "checkpoint-600"], [51, 500]),
        (["g_*/actor/hf"], ["g_500/actor/hf", "g_60/actor/hf", "g_7/critic"], [60, 500]),
        (["7b-run[12]/*"], ["7b-run1/3", "7b-run2/4"], [3, 4]),
        (["7b-run?/hf"], ["7b-run1/hf", "7b-run2/hf"], [1, 2]),
        (["a-*", "b/c-12"], ["a-1", "b/c-12"], [1, 12]),
        (["a-*", "a-?"], ["a-1"], [1]),
        (["a-1*"], ["a-1", "a-12"], [1, 12]),
        (["./a-*/"], ["a-1"], [1]),
        (["../here/a-*"], ["a-1"], [1]),
        (["[!b]-*"], ["a-1", "b-1"], [1]),
    ],
)
def test_numbers_are_found_where_the_pattern_matches(
    tmp_path: Path, patterns: list[str], folders: list[str], numbers: list[int]
) -> None:
    here = tmp_path / "here[1]"
    here.mkdir()
    (tmp_path / "here").symlink_to(here)
    for folder in folders:
        (here / folder).mkdir(parents=True)
    (here / "step_9.log").touch()
    (here / "a-2").touch()
    found = find_steps(patterns, here)
    assert [step.number for step in found] == numbers
    assert all((here / step.source).samefile(step.folder) for step in found)


def test_absolute_patterns_and_home_are_taken_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere" / "step-3").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path))
    for pattern in (str(tmp_path / "elsewhere" / "step-*"), "~/elsewhere/step-*"):
        (step,) = find_steps([pattern], Path("/nowhere"))
        assert (step.number, step.source) == (3, str(tmp_path / "elsewhere" / "step-3"))


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("chekpoint-*", "in {base} none matches 'chekpoint-*'; it holds 'checkpoint-1'"),
        ("checkpoint-1/step-*", "in {base}/checkpoint-1 none matches 'step-*'; no folders are"),
        ("checkpoint-*", "{base}/checkpoint-last has no step number"),
        ("run-*", "{base}/run-1 and {base}/run-1b are both step 1"),
        ("checkpoint-last", "{base}/checkpoint-last has no step number"),
        ("*.log", "'*.log' matches files (step-9.log), and a checkpoint is a folder"),
        ("**/checkpoint-1", "has a `**`; name every level"),
        ("a[z-a]*", "'a[z-a]*' is no pattern"),
        ("a\0*", "is no path"),
        ("~nobody-of-this-name/*", "is no path"),
        ("big-*", "which no training run reaches"),
        ("huge-*", "which no training run reaches"),
    ],
)
def test_what_cannot_be_is_named(tmp_path: Path, pattern: str, said: str) -> None:
    names = ("checkpoint-1", "checkpoint-last", "run-1", "run-1b", f"big-{2**60}")
    for name in (*names, "huge-" + "9" * 200):
        (tmp_path / name).mkdir()
    (tmp_path / "step-9.log").touch()
    with pytest.raises(ManifestError) as caught:
        find_steps([pattern], tmp_path)
    assert said.format(base=tmp_path) in str(caught.value)


def test_a_loop_of_links_and_a_crowd_end_in_an_error(tmp_path: Path) -> None:
    (tmp_path / "run-1").mkdir()
    (tmp_path / "run-1" / "again-2").symlink_to(tmp_path, target_is_directory=True)
    assert [step.number for step in find_steps(["run-*/*/run-*"], tmp_path)] == [1]
    for number in range(MOST_STEPS + 1):
        (tmp_path / f"s-{number}").mkdir()
    with pytest.raises(ManifestError, match="1,001 folders match, more than 1,000"):
        find_steps(["s-*"], tmp_path)


def test_a_pattern_that_reads_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ptharness.steps.MOST_ENTRIES", 10)
    for number in range(4):
        for other in range(4):
            (tmp_path / f"a{number}" / f"b{other}").mkdir(parents=True)
    with pytest.raises(ManifestError, match="more than 10 names"):
        find_steps(["*/b*"], tmp_path)


WRONG = {
    "its own name": (
        f"{BESIDE}\n  grpo-50: {GRPO}",
        "checkpoints.grpo.steps",
        "`checkpoints.grpo-50`",
    ),
    "another's step": (
        f"{BESIDE}\n  grpo-1: {{path: checkpoints/grpo, steps: [checkpoints/grpo/1-0], "
        f"parent: sft, method: grpo}}\n  grpo-1-0: {GRPO}",
        "checkpoints.grpo-1.steps",
        "`checkpoints.grpo-1-0`",
    ),
    "contradiction": (
        BESIDE.replace("grpo,", "grpo/checkpoint-50, step: 3,", 1),
        "checkpoints.grpo.steps",
        "is the checkpoint's own folder and step 50, but `step` is 3",
    ),
    "no match": (BESIDE.replace("-*", "_*"), "checkpoints.grpo.steps", "it holds 'checkpoint-"),
    "long name": (
        f"{BESIDE}\n  {'x' * 99}: {INSTEAD}",
        f"checkpoints.{'x' * 99}.steps",
        "of more than 100 characters",
    ),
    "unknown parent": (
        BESIDE.replace("parent: sft", "parent: stf"),
        "checkpoints.grpo.parent",
        "did you mean 'sft'",
    ),
    "unknown method": (
        BESIDE.replace("method: grpo", "method: gprm"),
        "checkpoints.grpo.method",
        "unknown method 'gprm'",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_errors_name_the_entry_that_can_be_repaired(
    stepped: Callable[..., Evaluation], wrong: str
) -> None:
    entry, key, said = WRONG[wrong]
    with pytest.raises(ManifestError) as caught:
        stepped(entry, *THREE, "checkpoints/grpo/1-0")
    assert caught.value.key == key
    assert said in str(caught.value)


# --- --checkpoints ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        ((), ["base", "sft", "grpo-50", "grpo-200", "grpo-1000", "grpo"]),
        (("grpo*", "sft"), ["sft", "grpo-50", "grpo-200", "grpo-1000", "grpo"]),
        (("grpo",), ["grpo"]),
        (("grpo-?00", "grpo-[5]0"), ["grpo-50", "grpo-200"]),
    ],
)
def test_patterns_select_and_the_lineage_stays(
    stepped: Callable[..., Evaluation], patterns: tuple[str, ...], names: list[str]
) -> None:
    evaluation = stepped(BESIDE, *THREE, checkpoints=patterns)
    assert [c.name for c in evaluation.checkpoints] == names
    assert len(evaluation.lineage.checkpoints) == 6


def test_a_pattern_that_selects_nothing_is_an_error(stepped: Callable[..., Evaluation]) -> None:
    with pytest.raises(ManifestError) as caught:
        stepped(BESIDE, *THREE, checkpoints=("sft", "gpro*"))
    assert caught.value.key == "--checkpoints"
    assert "'gpro*' is no checkpoint of this manifest (did you mean 'grpo" in str(caught.value)


def test_what_is_not_selected_need_not_be_there(
    stepped: Callable[..., Evaluation], edited: Edited
) -> None:
    folder = edited().parent / "checkpoints"
    shutil.rmtree(folder / "base")
    assert stepped(BESIDE, *THREE, checkpoints=("grpo*", "sft")).lineage.by_name["base"]
    with pytest.raises(ManifestError, match="no such folder"):
        stepped(BESIDE, checkpoints=("base",))
    shutil.rmtree(folder / "sft")
    adapters = BESIDE.replace("path: ", "adapter: ")
    with pytest.raises(ManifestError, match="no such folder") as caught:
        stepped(adapters, checkpoints=("grpo-50",))
    assert caught.value.key == "checkpoints.sft.path"


# --- on the command line ----------------------------------------------------------------------


def test_check_shows_every_step(
    stepped: Callable[..., Evaluation], capsys: pytest.CaptureFixture[str]
) -> None:
    path = stepped(BESIDE, *THREE).manifest_path
    assert main(["check", str(path), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["checkpoints"]
    assert [(c["checkpoint"], c["step"]) for c in shown][2:4] == [
        ("grpo-50", 50),
        ("grpo-200", 200),
    ]
    assert main(["check", str(path)]) == 0
    table = capsys.readouterr().out
    assert "step" in table
    assert "grpo-1000" in table


def test_an_unknown_checkpoint_is_one_line_and_exit_code_two(
    stepped: Callable[..., Evaluation], capsys: pytest.CaptureFixture[str]
) -> None:
    path = stepped(BESIDE, *THREE).manifest_path
    for command in ("run", "plan"):
        assert main([command, str(path), "--checkpoints", "grpo-*,sfft"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert (
            "--checkpoints: 'sfft' is no checkpoint of this manifest (did you mean 'sft'?)" in line
        )
