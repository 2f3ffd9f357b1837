from __future__ import annotations

import json
import time
import zipfile
from pathlib import Path

import pytest

from ptharness.leftovers import MOST_CARD_BYTES, read_leftovers, step_folders, step_of
from tests.methods.folders import GRPO_KEYS, SFT_KEYS, with_card, with_log


def card_tags(folder: Path) -> frozenset[str]:
    return read_leftovers(folder).tags


def logged_keys(folder: Path) -> frozenset[str]:
    return read_leftovers(folder).logged


def test_tags_are_read_from_the_front_matter(tmp_path: Path) -> None:
    assert card_tags(with_card(tmp_path, "dpo")) == {"generated_from_trainer", "trl", "dpo"}


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"b{i}: &b{i} [{', '.join([f'*b{i - 1}' if i else '*a'] * 10)}]\n" for i in range(30)
)


@pytest.mark.parametrize(
    "card",
    [
        "",
        "no front matter",
        "---\ntags: [trl, sft]\n",  # never closed
        "---\ntags: {trl: sft}\n---\n",
        "---\ntags: trl\n---\n",
        "---\n[1\n---\n",
        "---\ntags: [!!python/object/apply:os.system [id], trl]\n---\n",
        f"---\n{BOMB}tags: [trl, sft]\n---\n",
        "---\n" + "[" * 5000 + "\n---\n",
        "text before\n---\ntags: [trl, sft]\n---\n",
        "---\ntags: [trl, sft]\n---\n" + "x" * MOST_CARD_BYTES,
    ],
)
def test_a_broken_or_hostile_card_is_passed_over(card: str, tmp_path: Path) -> None:
    started = time.monotonic()
    (tmp_path / "README.md").write_text(card)
    assert card_tags(tmp_path) == frozenset()
    assert time.monotonic() - started < 10


def test_keys_are_read_from_the_trainer_state(tmp_path: Path) -> None:
    assert logged_keys(with_log(tmp_path, SFT_KEYS)) == {*SFT_KEYS, "train_runtime"}


def test_the_latest_step_inside_is_read_where_the_folder_has_no_state(tmp_path: Path) -> None:
    with_log(tmp_path / "checkpoint-9", SFT_KEYS)
    with_log(tmp_path / "checkpoint-100", GRPO_KEYS)
    (tmp_path / "checkpoint-last").mkdir()
    (tmp_path / "checkpoint-²").mkdir()
    assert "reward" in logged_keys(tmp_path)


@pytest.mark.parametrize(
    "state",
    ["", "{", "[]", "3", '{"log_history": 3}', '{"log_history": [1, null]}', "[" * 100_000, "\0"],
)
def test_a_broken_or_hostile_state_is_passed_over(state: str, tmp_path: Path) -> None:
    (tmp_path / "trainer_state.json").write_text(state)
    assert logged_keys(tmp_path) == frozenset()


def test_a_folder_of_oddities_is_passed_over_quickly(tmp_path: Path) -> None:
    (tmp_path / "README.md").symlink_to(tmp_path / "README.md")
    (tmp_path / "trainer_state.json").mkdir()
    (tmp_path / "checkpoint-1").symlink_to(tmp_path)
    for number in range(10_000):
        (tmp_path / f"file-{number}").touch()
    started = time.monotonic()
    assert card_tags(tmp_path) == frozenset()
    assert logged_keys(tmp_path) == frozenset()
    assert time.monotonic() - started < 5


def test_a_pickle_is_never_read(tmp_path: Path) -> None:
    proof = tmp_path / "executed"
    code = f"cos\nsystem\n(S'touch {proof}'\ntR.".encode()
    (tmp_path / "training_args.bin").write_bytes(code)
    (tmp_path / "trainer_state.json").write_bytes(code)
    (tmp_path / "README.md").write_bytes(code)
    assert card_tags(tmp_path) == logged_keys(tmp_path) == frozenset()
    assert not proof.exists()


def test_a_long_history_is_read(tmp_path: Path) -> None:
    history = [{"loss": 0.1, "reward": 1.0, "step": step} for step in range(20_000)]
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": history}))
    assert logged_keys(tmp_path) == {"loss", "reward", "step"}


def test_the_parents_that_files_name(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\nbase_model: [org/one, ' ', null, org/two]\n---\n")
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "../sft"}')
    assert read_leftovers(tmp_path).base_models == ("../sft", "org/one", "org/two")
    (tmp_path / "README.md").write_text("---\nbase_model: None\n---\n")
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": 3}')
    assert read_leftovers(tmp_path).base_models == ()


def test_a_merge_recipe_names_its_models_wherever_they_stand(tmp_path: Path) -> None:
    (tmp_path / "mergekit_config.yml").write_text(
        "base_model: base\nslices:\n- sources: [{model: a, layer_range: [0, 2]}, {model: b}]\n"
    )
    assert set(read_leftovers(tmp_path).merged) == {"base", "a", "b"}
    (tmp_path / "mergekit_config.yml").write_text(BOMB)
    assert read_leftovers(tmp_path).merged == ()


def test_learning_rates_add_up_over_the_steps(tmp_path: Path) -> None:
    history = [
        {"learning_rate": 1e-3},
        {"learning_rate": 3e-3},
        {"loss": 2},
        {"learning_rate": 2e-3},
        {"learning_rate": "x"},
    ]
    state = {"global_step": 100, "log_history": history}
    (tmp_path / "trainer_state.json").write_text(json.dumps(state))
    left = read_leftovers(tmp_path)
    assert left.step == 100
    assert left.learning_rate_sum == pytest.approx(0.2)


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    with_card(tmp_path, "sft")
    assert "sft" in read_leftovers(tmp_path).tags
    (tmp_path / "README.md").write_text("---\ntags: [trl, online-dpo]\n---\n")
    assert "online-dpo" in read_leftovers(tmp_path).tags


def test_steps_are_folders_with_a_number(tmp_path: Path) -> None:
    for name in ("checkpoint-10", "checkpoint-9", "checkpoint-x", "checkpoint-²", "10"):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoint-11").symlink_to(tmp_path / "checkpoint-10")
    (tmp_path / "checkpoint-12").touch()
    assert list(step_folders(tmp_path)) == [9, 10]
    assert step_of("checkpoint-1" + "0" * 20) is None
    assert step_folders(tmp_path / "missing") == {}


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_bomb_in_the_settings_does_not_expand(method: int, tmp_path: Path) -> None:
    """torch.save compresses nothing: what is compressed is not opened at all."""
    content = b"\x80\x02ctrl.trainer\nGRPOConfig\n" + bytes(100_000_000)
    with zipfile.ZipFile(tmp_path / "training_args.bin", "w", method) as archive:
        archive.writestr("training_args/data.pkl", content)
    assert (tmp_path / "training_args.bin").stat().st_size < 1_000_000
    assert read_leftovers(tmp_path).trainer_arguments == ""


def test_a_card_with_windows_line_ends_is_read(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_bytes(b"---\r\ntags: [trl, dpo]\r\nbase_model: sft\r\n---\r\n")
    assert read_leftovers(tmp_path).tags == {"trl", "dpo"}
    assert read_leftovers(tmp_path).base_models == ("sft",)


@pytest.mark.parametrize("step", ["true", "-5", "1e999", "1" + "0" * 400, '"3"', "null"])
def test_an_odd_step_is_none(step: str, tmp_path: Path) -> None:
    rates = ", ".join(['{"learning_rate": 0.001, "a\\nb": 1}'] * 3)
    (tmp_path / "trainer_state.json").write_text(
        f'{{"global_step": {step}, "log_history": [{rates}]}}'
    )
    left = read_leftovers(tmp_path)
    assert left.step is None
    assert left.learning_rate_sum is None
    assert left.logged == {"learning_rate"}
