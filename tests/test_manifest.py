from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from ptharness.cli import main
from ptharness.errors import ManifestError
from ptharness.manifest import Manifest, manifest_schema, read_manifest
from ptharness.taxonomy import Provenance, Role

Edited = Callable[..., Path]

DESIGN = """\
lineage: arith
checkpoints:
  base: {path: checkpoints/base}
  sft:
    path: checkpoints/sft
    parent: base
    method: sft
    trajectories: data/sft.jsonl
  dpo: {path: checkpoints/dpo, parent: sft, method: dpo}
  grpo: {path: checkpoints/grpo, parent: dpo, method: grpo, step: 400}
  lora: {adapter: checkpoints/lora, parent: sft, method: sft}
  sft-again: {path: checkpoints/sft, replicate: 1}
  small: {path: org/small@main}
  student: {path: checkpoints/student, parent: small, teacher: grpo, method: sequence_kd}
  merged:
    path: checkpoints/merged
    parent: [dpo, grpo]
    method: {name: merge, weights: [0.5, 0.5], provenance: mixed}
    role: [consolidation, policy_reshaping]
evaluate:
  tasks:
    - arith_add
    - my_task.yaml
    - {task: gsm8k, num_fewshot: 4, max_tokens: 512, samples: 16, temperature: null}
  samples: 32
  temperature: 1
  top_p: 1.0
  max_tokens: 64
  stop: "\\n"
  seed: 0
  chat_template: auto
  system_prompt: null
  support_budget: 16
engine: {name: vllm, dtype: float32}
"""


def test_the_manifest_of_the_design_is_read(tmp_path: Path) -> None:
    path = tmp_path / "lineage.yaml"
    path.write_text(DESIGN)
    manifest = read_manifest(path)
    assert list(manifest.checkpoints) == DESIGN_NAMES
    assert manifest.path == path
    assert manifest.folder == tmp_path
    assert manifest.text == DESIGN
    merged = manifest.checkpoints["merged"]
    assert merged.parent == ["dpo", "grpo"]
    assert merged.role == [Role.CONSOLIDATION, Role.POLICY_RESHAPING]
    assert merged.method is not None
    assert merged.method.provenance is Provenance.MIXED
    assert merged.method.options == {"weights": [0.5, 0.5]}
    assert [task.task for task in manifest.evaluate.tasks] == ["arith_add", "my_task.yaml", "gsm8k"]
    assert "temperature" in manifest.evaluate.tasks[2].model_fields_set
    assert manifest.evaluate.stop == ["\n"]
    assert manifest.engine.options == {"dtype": "float32"}


DESIGN_NAMES = ["base", "sft", "dpo", "grpo", "lora", "sft-again", "small", "student", "merged"]

WRONG: dict[str, tuple[tuple[str, str], str, str]] = {
    # what: ((old text, new text), key, part of the remedy)
    "unknown key": (("samples:", "sampels:"), "evaluate.sampels", "did you mean 'samples'"),
    "unknown key, top": (("evaluate:", "evalute:"), "evalute", "did you mean 'evaluate'"),
    "unknown key, case": (("samples:", "Samples:"), "evaluate.Samples", "did you mean 'samples'"),
    "key one level up": (("engine:", "top_p: 1\nengine:"), "top_p", "belongs under `evaluate`"),
    "checkpoint key elsewhere": (
        ("  samples:", "  parent: x\n  samples:"),
        "evaluate.parent",
        "belongs under `checkpoints.NAME`",
    ),
    "unknown key of a task": (
        ("[arith_add,", "[{task: arith_add, smaples: 3},"),
        "evaluate.tasks[0].smaples",
        "did you mean 'samples'",
    ),
    "unknown key of a checkpoint": (
        ("base: {path:", "base: {paht:"),
        "checkpoints.base.paht",
        "did you mean 'path'",
    ),
    "missing key": (("lineage: demo\n", ""), "lineage", "add `lineage: NAME`"),
    "no tasks": (("[arith_add, arith_rot]", "[]"), "evaluate.tasks", "give at least one"),
    "zero samples": (("samples: 32", "samples: 0"), "evaluate.samples", "at least 1, not 0"),
    "negative samples": (("samples: 32", "samples: -4"), "evaluate.samples", "at least 1, not -4"),
    "samples as text": (
        ("samples: 32", "samples: '32'"),
        "evaluate.samples",
        "a whole number, not the text '32'",
    ),
    "samples as truth": (
        ("samples: 32", "samples: yes"),
        "evaluate.samples",
        "a whole number, not the truth value true",
    ),
    "fractional samples": (
        ("samples: 32", "samples: 1.5"),
        "evaluate.samples",
        "a whole number, not the number 1.5",
    ),
    "infinite temperature": (
        ("temperature: 1.0", "temperature: .inf"),
        "evaluate.temperature",
        "must be a finite number, not the number inf",
    ),
    "top_p above one": (("samples: 32", "top_p: 1.5"), "evaluate.top_p", "at most 1.0, not 1.5"),
    "duplicate checkpoint": (
        ("  sft: {path", "  base: {path: x}\n  sft: {path"),
        "checkpoints.base",
        "written twice, on line 3 and line 4; remove or rename one",
    ),
    "duplicate key": (("samples: 32", "samples: 1\n  samples: 2"), "evaluate.samples", "remove"),
    "illegal checkpoint": (("base: {", "../x: {"), "checkpoints.../x", "starting with a letter"),
    "illegal lineage": (("demo", "../x"), "lineage", "starting with a letter or digit"),
    "leading dot": (("demo", ".."), "lineage", "starting with a letter or digit"),
    "leading dash": (("demo", "-rf"), "lineage", "starting with a letter or digit"),
    "slash": (("demo", "a/b"), "lineage", "starting with a letter or digit"),
    "control character": (("demo", '"a\\eb"'), "lineage", "starting with a letter or digit"),
    "trailing line break": (("demo", '"a\\n"'), "lineage", "starting with a letter or digit"),
    "reserved lineage": (("demo", "units"), "lineage", "choose another"),
    "number as name": (("demo", "2024"), "lineage", "must be text, not the number 2024"),
    "method on a root": (
        ("checkpoints/base}", "checkpoints/base, method: sft}"),
        "checkpoints.base.method",
        "add `parent: NAME`, or remove method",
    ),
    "teacher on a root": (
        ("checkpoints/base}", "checkpoints/base, teacher: sft}"),
        "checkpoints.base.teacher",
        "add `parent: NAME`, or remove teacher",
    ),
    "stage without method": (
        (", method: sft", ""),
        "checkpoints.sft.method",
        "`ptharness methods` lists them",
    ),
    "step of the last of steps": (
        ("{path: checkpoints/sft,", "{steps: a-*, step: 3,"),
        "checkpoints.sft.step",
        "its step is that of the last folder",
    ),
    "no pattern of steps": (
        ("{path: checkpoints/sft,", "{path: a, steps: [],"),
        "checkpoints.sft.steps",
        "give at least one",
    ),
    "no weights": (("{path: checkpoints/base}", "{}"), "checkpoints.base", "give it `path:`"),
    "path and adapter": (
        ("{path: checkpoints/sft,", "{path: a, adapter: b,"),
        "checkpoints.sft.adapter",
        "remove path",
    ),
    "adapter on a root": (
        ("{path: checkpoints/base}", "{adapter: b}"),
        "checkpoints.base.parent",
        "as `parent: NAME`",
    ),
    "adapter on two": (
        ("{path: checkpoints/sft, parent: base", "{adapter: b, parent: [base, grpo]"),
        "checkpoints.sft.parent",
        "adapter with 2 parents",
    ),
    "parent twice": (("parent: base", "parent: [base, base]"), "checkpoints.sft", "parent twice"),
    "bad provenance": (
        ("method: sft", "method: sft, provenance: onpolicy"),
        "checkpoints.sft.provenance",
        "one of: off_policy, on_policy, mixed",
    ),
    "bad role": (
        ("method: sft", "method: sft, role: [consolidation, magic]"),
        "checkpoints.sft.role[1]",
        "support_expansion, policy_reshaping, consolidation",
    ),
    "checkpoint as text": (
        ("{path: checkpoints/base}", "checkpoints/base"),
        "checkpoints.base",
        "must be a mapping",
    ),
    "engine without name": (("{name: fake}", "{dtype: x}"), "engine.name", "add `name: NAME`"),
    "zero budget": (("samples: 32", "support_budget: 0"), "evaluate.support_budget", "at least 1"),
    "name that YAML reads as number": (
        ("  base: {", "  1: {"),
        "checkpoints",
        "write it in quotes",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_manifest_is_one_line_with_file_key_and_remedy(
    what: str, edited: Edited, capsys: pytest.CaptureFixture[str]
) -> None:
    replacement, key, remedy = WRONG[what]
    path = edited(*replacement)
    code = main(["check", str(path)])
    line = capsys.readouterr().err
    assert code == 2
    assert line.startswith(f"error: {path}: {key}: ")
    assert remedy in line
    assert line.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty; a manifest has the keys lineage, checkpoints and evaluate"),
        ("# only a comment\n", "is empty"),
        ("[1, 2]", "holds a list, not keys and values"),
        ("just text", "holds the text 'just text'"),
        ("lineage: a\n  b: [", "line 2, column 4: not YAML"),
        ("lineage: [a", "line 1, column 12: not YAML"),
        ("a: &a [*a]", "the alias contains itself"),
    ],
)
def test_what_is_no_manifest_is_one_line(
    content: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(content)
    assert main(["check", str(path)]) == 2
    line = capsys.readouterr().err
    assert line.startswith(f"error: {path}: ")
    assert said in line
    assert line.count("\n") == 1


def test_a_missing_manifest_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["check", str(tmp_path / "absent.yaml")]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path}/absent.yaml: no such file\n"


def test_further_errors_are_counted(edited: Edited) -> None:
    with pytest.raises(ManifestError, match=r"\(and 1 more\)"):
        read_manifest(edited("samples: 32", "samples: 0\n  top_p: 7"))


def test_short_forms_are_the_long_forms(edited: Edited) -> None:
    short = read_manifest(edited("{name: fake}", "fake", "[arith_add, arith_rot]", "arith_add"))
    long = read_manifest(
        edited(
            *("[arith_add, arith_rot]", "[{task: arith_add}]"),
            *("method: sft", "method: {name: sft}", "parent: base", "parent: [base]"),
        )
    )
    assert short.model_dump() == long.model_dump()


def test_the_schema_accepts_the_design_and_refuses_a_typo() -> None:
    import yaml

    schema = manifest_schema()
    validator = jsonschema.Draft202012Validator(schema)
    assert list(validator.iter_errors(yaml.safe_load(DESIGN))) == []
    typo = yaml.safe_load(DESIGN.replace("samples: 32", "sampels: 32"))
    assert [error.validator for error in validator.iter_errors(typo)] == ["additionalProperties"]
    assert json.loads(json.dumps(schema)) == schema


def test_every_key_is_described() -> None:
    schema = Manifest.model_json_schema()
    for model in (schema, *(d for d in schema["$defs"].values() if "properties" in d)):
        for key, value in model["properties"].items():
            assert value.get("description"), f"{model['title']}.{key}"
