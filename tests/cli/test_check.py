from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ptharness.cli import main
from tests.conftest import LORA_FACTORS, write_checkpoint, write_lora
from tests.methods.folders import DPO_KEYS, SFT_KEYS, with_card, with_log

Edited = Callable[..., Path]


@pytest.fixture
def checked(capsys: pytest.CaptureFixture[str]) -> Any:
    """`checked(path)`: exit code and JSON of `ptharness check`."""

    def check(path: Path, code: int = 0) -> Any:
        assert main(["check", str(path), "--json"]) == code
        return json.loads(capsys.readouterr().out)

    return check


def messages(found: Any) -> list[tuple[str, str]]:
    return [(finding["where"], finding["message"]) for finding in found["findings"]]


def test_a_sound_manifest_is_shown_with_provenance_and_role(edited: Edited, checked: Any) -> None:
    found = checked(edited())
    assert found["findings"] == []
    assert [c["checkpoint"] for c in found["checkpoints"]] == ["base", "sft", "grpo"]
    assert [c["provenance"] for c in found["checkpoints"]] == [None, "off_policy", "on_policy"]
    assert found["checkpoints"][2]["roles"] == ["policy_reshaping"]
    assert found["tasks"] == ["arith_add", "arith_rot"]
    assert found["engine"] == "fake"


def test_people_get_a_table(edited: Edited, capsys: pytest.CaptureFixture[str]) -> None:
    with_card(edited().parent / "checkpoints" / "sft", "dpo")
    assert main(["check", str(edited())]) == 0
    out = capsys.readouterr().out
    assert "    grpo" in out
    assert "on_policy" in out
    assert "tasks: arith_add, arith_rot" in out
    assert "warning: sft: is declared sft, but its folder looks like the output of dpo" in out
    assert out.endswith("0 problems, 1 warning\n")


def test_the_table_is_a_tree(edited: Edited, capsys: pytest.CaptureFixture[str]) -> None:
    path = edited(
        "evaluate:",
        "  dpo: {path: checkpoints/grpo, parent: base, method: dpo}\n"
        "  late: {path: checkpoints/grpo, parent: sft, method: sft}\n"
        "  merged: {path: checkpoints/grpo, parent: [grpo, dpo], method: merge}\n"
        "  other: {path: checkpoints/base}\n"
        "evaluate:",
    )
    assert main(["check", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    first = next(n for n, line in enumerate(lines) if line.startswith(" base"))
    # Each stands below its first parent, and as deep as it stands there.
    assert [line[1:13].rstrip() for line in lines[first : first + 7]] == [
        "base",
        "  sft",
        "    grpo",
        "      merged",
        "    late",
        "  dpo",
        "other",
    ]


def test_evidence_against_the_declared_method_is_a_warning(edited: Edited, checked: Any) -> None:
    folder = edited().parent / "checkpoints"
    with_log(folder / "sft", DPO_KEYS)
    with_log(folder / "base", SFT_KEYS)
    with_card(folder / "grpo", "rloo")  # another method of the same family
    found = checked(edited())
    assert [where for where, _ in messages(found)] == ["base", "sft"]
    assert "is a root, but its folder looks like the output of sft" in messages(found)[0][1]
    assert "is declared sft, but its folder looks like the output of dpo" in messages(found)[1][1]
    assert found["checkpoints"][2]["evidence"][0]["method"] == "rloo"


def test_a_method_that_no_plugin_knows_is_not_held_against_evidence(
    edited: Edited, checked: Any
) -> None:
    path = edited(
        "method: sft",
        "method: {name: mine, provenance: mixed, interface: rewards, role: consolidation}",
    )
    with_card(path.parent / "checkpoints" / "sft", "dpo")
    assert checked(path)["findings"] == []


def test_edges_that_differ_are_native(edited: Edited, checked: Any) -> None:
    folder = edited().parent / "checkpoints"
    (folder / "sft" / "chat_template.jinja").write_text("{{ messages }}")
    (folder / "grpo" / "chat_template.jinja").write_text("{{ messages }}")
    (folder / "grpo" / "config.json").write_text(
        json.dumps({"model_type": "llama", "hidden_size": 4, "num_hidden_layers": 1})
    )
    found = messages(checked(edited()))
    assert found == [
        (
            "base -> sft",
            "chat template: base has none, sft has one: comparable as each is used (native), "
            "not the same",
        ),
        ("sft -> grpo", "another architecture (hidden_size 8 / 4) and no teacher; right parent?"),
    ]
    with_teacher = edited("method: grpo", "method: grpo, teacher: base")
    assert [where for where, _ in messages(checked(with_teacher))] == ["base -> sft"]


def test_unusable_checkpoints_are_problems(edited: Edited, checked: Any) -> None:
    folder = edited().parent / "checkpoints"
    weights = folder / "base" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    (folder / "sft" / "model.safetensors").rename(folder / "sft" / "pytorch_model.bin")
    (folder / "grpo" / "config.json").write_text("{")
    found = checked(edited(), code=2)
    assert [f["where"] for f in found["findings"] if f["is_problem"]] == ["base", "sft", "grpo"]
    texts = [message for _, message in messages(found)]
    assert "not a whole safetensors file" in texts[0]
    assert "only pickled weights (pytorch_model.bin)" in texts[1]
    assert "cannot be read as JSON" in texts[2]


def test_an_adapters_own_folder_is_looked_at(edited: Edited, checked: Any) -> None:
    path = edited("{path: checkpoints/grpo", "{adapter: checkpoints/lora")
    with_card(write_lora(path.parent / "checkpoints" / "lora"), "sft")
    found = checked(path)
    assert "is declared grpo" in messages(found)[0][1]


DOWN, UP = LORA_FACTORS


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"use_dora": True}, "use_dora: True: DoRA"),
        ({"bias": "all"}, "bias 'all'; only none is served"),
        ({"peft_type": "IA3"}, "peft_type 'IA3'; only LORA is served"),
        ({"lora_alpha": float("nan")}, "lora_alpha nan is not a finite number"),
        ({"lora_alpha": 10**400}, "is not a finite number"),
        ({"r": 3}, "has shape [2, 8], but adapter_config.json gives this layer rank 3"),
        ({"factors": {DOWN: (2, 8)}}, f"tensor {UP!r} is missing"),
        ({"factors": {**LORA_FACTORS, "more": (1,)}}, "tensor 'more' is no LoRA factor"),
    ],
)
def test_unusable_adapters_are_problems(
    edited: Edited, checked: Any, settings: dict[str, Any], message: str
) -> None:
    path = edited("{path: checkpoints/grpo", "{adapter: checkpoints/lora")
    adapter = write_lora(path.parent / "checkpoints" / "lora", **settings)
    (found,) = checked(path, code=2)["findings"]
    assert (found["where"], found["is_problem"]) == ("grpo", True)
    assert str(adapter) in found["message"]
    assert message in found["message"]


def test_an_adapter_without_a_config_is_a_problem_in_words(edited: Edited, checked: Any) -> None:
    path = edited("{path: checkpoints/grpo", "{adapter: checkpoints/lora")
    config = write_lora(path.parent / "checkpoints" / "lora") / "adapter_config.json"
    config.write_text("{")
    assert "adapter_config.json: cannot be read as JSON" in messages(checked(path, 2))[0][1]
    config.unlink()
    assert messages(checked(path, 2)) == [
        ("grpo", f"{config}: missing; is this a checkpoint folder?")
    ]


def test_a_server_sees_to_its_adapters_itself(edited: Edited, checked: Any) -> None:
    engine = "{name: 'lm_eval:local-completions', base_url: 'http://localhost:1/v1/completions'}"
    path = edited("{path: checkpoints/grpo", "{adapter: checkpoints/lora", "{name: fake}", engine)
    write_lora(path.parent / "checkpoints" / "lora", use_dora=True)
    assert checked(path)["findings"] == []


def test_an_adapter_of_another_base_is_a_problem(edited: Edited, checked: Any) -> None:
    path = edited("{path: checkpoints/grpo", "{adapter: checkpoints/lora")
    base = path.parent / "checkpoints" / "sft"
    weights = write_lora(path.parent / "other", factors={"layer.weight": (8, 9)})
    (weights / "adapter_model.safetensors").rename(base / "model.safetensors")
    write_lora(path.parent / "checkpoints" / "lora")
    (text,) = (text for where, text in messages(checked(path, 2)) if where == "grpo")
    assert f"has shape [2, 8] where {base} needs [2, 9]" in text


FOREIGN = """\
task: mine
dataset_path: json
dataset_kwargs: {data_files: {test: data.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: !function my_code.target
"""


def test_foreign_code_of_a_task_is_said_and_not_run(edited: Edited, checked: Any) -> None:
    path = edited("arith_rot]", "mine.yaml]")
    (path.parent / "mine.yaml").write_text(FOREIGN)
    (path.parent / "data.jsonl").write_text('{"question": "1+1"}\n')
    (path.parent / "my_code.py").write_text("raise SystemExit('executed')\n")
    found = messages(checked(path))
    code = path.parent / "my_code.py"
    assert found == [("mine", f"loading this task runs code of yours: {code}")]


def test_hostile_names_do_not_reach_the_terminal(
    edited: Edited, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = edited().parent / "checkpoints"
    write_checkpoint(folder / "x\x1b[2J[red]y")
    weights = folder / "x\x1b[2J[red]y" / "model.safetensors"
    weights.write_bytes(b"short")
    assert main(["check", str(edited("checkpoints/sft", '"checkpoints/x\\e[2J[red]y"'))]) == 2
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "x\\x1b[2J[red]y" in out


def test_tasks_that_will_be_refused_are_problems(edited: Edited, checked: Any) -> None:
    """By name, from lm-eval's own; without a data set or a library of theirs."""
    path = edited("[arith_add, arith_rot]", "[arith_add, humaneval, mbpp, chartqa, mine.yaml]")
    (path.parent / "mine.yaml").write_text(FOREIGN)
    found = checked(path, code=2)
    problems = {f["where"]: f["message"] for f in found["findings"] if f["is_problem"]}
    assert list(problems) == ["humaneval", "mbpp", "chartqa", "mine"]
    for name in ("humaneval", "mbpp"):
        assert problems[name] == (
            f"task {name!r}: runs code that the model wrote (unsafe_code), and there is no sandbox "
            "for it yet; leave it out"
        )
    assert "only text tasks are supported" in problems["chartqa"]
    assert "data.jsonl: there is no such file" in problems["mine"]
