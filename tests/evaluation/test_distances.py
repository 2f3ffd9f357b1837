"""Which pairs are measured exactly, and what is refused: with the fake engine."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from ptharness.cli.progress import ProgressObserver
from ptharness.distances import DistanceSettings, Method, measure_distances, pairs
from ptharness.distances.rows import Item, Judged, distance_rows
from ptharness.distances.texts import TextSet, _said, respell
from ptharness.engines.fake import FakeEngine
from ptharness.errors import EngineError
from ptharness.evaluation import Request
from ptharness.lineage import Checkpoint
from ptharness.observer import Observer
from ptharness.plugins import load_plugins
from ptharness.prompts import PromptSet, PromptSetHeader
from ptharness.results import Results
from ptharness.schema import PROMPTS
from ptharness.store import UnitStore
from ptharness.tasks.encoding import PromptEncoder
from tests.evaluation.conftest import PLUGIN, Toys
from tests.test_tokenizer import ids_of, made


def write_code_points(folder: Path, without: str = "") -> None:
    """A tokenizer of the tokens that the fake engine says: code points, but for some."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {chr(i): i for i in range(1, 128) if chr(i) not in without}
    core = Tokenizer(models.WordLevel({"<unk>": 0, **vocabulary}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    core.decoder = decoders.Fuse()
    core.add_special_tokens(["<unk>"])
    PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>").save_pretrained(folder)


@pytest.fixture(autouse=True)
def tokenizers(toys: Toys) -> None:
    for name in ("base", "sft", "grpo"):
        write_code_points(toys.folder / "checkpoints" / name)


def pad(toys: Toys, **tokens: int) -> None:
    """Say in the checkpoints' configs how many tokens they predict."""
    for name, count in tokens.items():
        path = toys.folder / "checkpoints" / name / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "vocab_size": count}))


def measure(toys: Toys, method: Method = "auto", **narrowed: Any) -> list[dict[str, Any]]:
    request = Request(toys.folder / "lineage.yaml", toys.out, **narrowed)
    settings = DistanceSettings(documents=4, samples=2, method=method)
    _, rows, failures = measure_distances(request, settings, load_plugins([PLUGIN]), Observer())
    assert not failures
    return rows


def test_each_pair_is_measured_as_exactly_as_it_can_be(toys: Toys) -> None:
    pad(toys, base=128, sft=128, grpo=130)
    rows = measure(toys)
    method = {(row["source"], row["target"]): row["method"] for row in rows}
    assert method == {
        pair: "exact" if "grpo" not in pair else "sampled"
        for pair in (
            *(("base", "sft"), ("base", "grpo"), ("sft", "base")),
            *(("sft", "grpo"), ("grpo", "base"), ("grpo", "sft")),
        )
    }
    for row in rows:
        assert row["samples"] == 4 * 2
        assert row["method"] == "sampled" or row["nats_per_token"] > 0
    before = toys.units("generation")
    assert {row["method"] for row in measure(toys, "sampled")} == {"sampled"}
    assert toys.units("generation") == before, "what is sampled is stored with what is exact"


def test_what_was_not_measured_again_stays(toys: Toys) -> None:
    toys.manifest("tasks: [toy]", "tasks: [toy, toy_two]")
    toys.task("toy_two", prompt="another {}")

    def places(*tables: str) -> list[set[tuple[str, ...]]]:
        names = {"distances": ["scope"], "token_likelihoods": ["sample"]}
        return [
            {
                tuple(map(str, row))
                for row in Results(toys.out / "toys")
                .read(table)[["source", "target", "task", *names[table]]]
                .itertuples(index=False)
            }
            for table in tables
        ]

    toys.run()
    measure(toys)
    every = places("distances", "token_likelihoods")
    assert len(every[0]) == 6 * 3
    assert {task for *_, task, _ in every[1]} == {"toy", "toy_two"}
    pooled = Results(toys.out / "toys").read("distances").query("scope == 'pooled'")
    assert set(pooled.tasks) == {2}
    measure(toys, tasks=("toy",))
    assert places("distances", "token_likelihoods") == every
    again = Results(toys.out / "toys").read("distances").query("scope == 'pooled'")
    assert set(again.tasks) == {2}, "those of one task say less"
    measure(toys, checkpoints=("base", "sft"))
    assert places("distances", "token_likelihoods") == every


def test_what_would_be_too_large_is_sampled(toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    pad(toys, base=128, sft=128, grpo=128)
    monkeypatch.setattr(pairs, "MOST_EXACT_BYTES", 4 * 2 * 128 * 4)
    assert {row["method"] for row in measure(toys)} == {"sampled"}, "of more than one token each"
    assert {row["method"] for row in measure(toys, "exact")} == {"exact"}, "as it was asked for"


def test_an_infinite_divergence_is_of_its_task_alone() -> None:
    one = Item("a", "0", 1.0, 2.0, 3.0, 4.0, 2.0, 1)
    items = [replace(one, cluster=str(place), nats=place + 1.0) for place in range(3)]
    ruled_out = [replace(item, task="b", nats=math.inf) for item in items]
    judged = [Judged(n, n, tuple(i), 3, 0, 0) for n, i in (("a", items), ("b", ruled_out))]
    rows = {row["task"]: row for row in distance_rows({"method": "exact"}, judged, 0.95)}
    assert (rows["a"]["nats_per_token"], rows["a"]["reason"]) == (1.0, None)
    for task in ("b", "pooled"):
        assert "nats_per_token" not in rows[task]
        assert rows[task]["reason"].startswith("infinite: ")
        assert rows[task]["excess_bits_per_byte"] == pytest.approx(0.5)


def test_a_table_with_other_columns_is_replaced(toys: Toys) -> None:
    measure(toys)
    file = toys.out / "toys" / "distances.parquet"
    whole = pq.read_table(file)
    pq.write_table(whole.drop_columns(["protocol"]), file)
    measure(toys, checkpoints=("base", "sft"))
    assert pq.read_table(file).num_rows == 4, "of what cannot be told whether it holds, none stays"
    pq.write_table(whole.append_column("more", pa.nulls(whole.num_rows)), file)
    measure(toys, checkpoints=("base", "sft"))
    assert pq.read_table(file).schema.names == whole.schema.names
    assert pq.read_table(file).num_rows == whole.num_rows


def test_a_checkpoint_that_cannot_be_loaded_is_named_once(toys: Toys) -> None:
    toys.manifest(fail_on="sft")
    request = Request(toys.folder / "lineage.yaml", toys.out)
    _, rows, failures = measure_distances(
        request, DistanceSettings(documents=4, samples=2), load_plugins([PLUGIN]), Observer()
    )
    assert [failure.checkpoint for failure in failures] == ["sft"]
    assert {(row["source"], row["target"]) for row in rows} == {("base", "grpo"), ("grpo", "base")}


def test_what_the_fake_engine_says_may_be_beyond_the_vocabulary(toys: Toys) -> None:
    pad(toys, base=20, sft=20, grpo=20)
    assert {row["method"] for row in measure(toys)} == {"exact"}


@pytest.mark.parametrize(
    ("tokens", "told"),
    [
        ({}, "names no vocab_size"),
        ({"base": 128, "sft": 130, "grpo": 128}, "base and sft: .* 128 tokens .* 130"),
        ({"base": 5000, "sft": 5000, "grpo": 5000}, "5,000 tokens are too large.* 1,024 at most"),
    ],
)
def test_exact_sums_that_cannot_be_had_are_refused(
    toys: Toys, tokens: dict[str, int], told: str
) -> None:
    pad(toys, **tokens)
    with pytest.raises(EngineError, match=f"{told}.*; choose the method auto or sampled"):
        measure(toys, "exact")
    assert not toys.units("generation"), "it is said before anything is generated"


def test_texts_that_another_vocabulary_cannot_spell_are_left_out(toys: Toys) -> None:
    toys.manifest("tasks: [toy]", "tasks: [toy, toy_two]")
    toys.task("toy_two", prompt="another {}")
    write_code_points(toys.folder / "checkpoints" / "grpo", without="4a")
    rows = measure(toys)
    found = {(row["source"], row["target"], row["task"]): row for row in rows}
    left_out = {}
    for task, texts in (("toy", 8), ("toy_two", 8), ("pooled", 16)):
        row = found["sft", "grpo", task]
        assert (row["method"], row["nats_per_token"]) == (None, None)
        assert row["excess_bits_per_byte_ci_low"] < row["excess_bits_per_byte_ci_high"]
        left_out[task] = texts - row["samples"]
        assert row["reason"] == (
            "another vocabulary: its tokens are not these; the target's tokenizer cannot spell "
            f"{left_out[task]} of {texts} texts"
        )
        assert found["grpo", "sft", task]["samples"] == texts
    assert 0 < left_out["toy"] < 8
    assert left_out["pooled"] == left_out["toy"] + left_out["toy_two"]
    assert found["sft", "base", "toy"]["method"] == "sampled"


def test_where_no_text_can_be_spelled_nothing_is_told_of_it(toys: Toys) -> None:
    letters = "".join(map(chr, range(33, 127)))
    write_code_points(toys.folder / "checkpoints" / "grpo", without=letters)
    rows = [r for r in measure(toys) if (r["source"], r["target"]) == ("sft", "grpo")]
    assert [row["task"] for row in rows] == ["pooled", "toy"]
    for row in rows:
        assert (row["samples"], row["target_bits_per_byte"]) == (0, None)
        assert "cannot spell 8 of 8 texts" in row["reason"]


def respelled(tokenizer: Any, store: Path, *samples: list[int]) -> tuple[TextSet, TextSet]:
    """What a checkpoint said after the prompt `b`, and that in the tokens of a judge with the very
    same tokenizer."""
    (asked,) = PromptEncoder(tokenizer).prompts(["b"])
    about = {"item": "0", "cluster": "0", "prompt": "b", "prompt_token_ids": asked, "document": 0}
    rows = [
        {**about, "request": number, "continuation_token_ids": ids}
        for number, ids in enumerate(samples)
    ]
    header = PromptSetHeader(task="t", kind="loglikelihood", documents=1)
    table = PromptSet(header, pa.Table.from_pylist(rows, schema=PROMPTS)).to_table()
    drawn = [
        {
            **row,
            "sample": row["request"],
            "token_ids": ids,
            "token_logprobs_nats": [-1.0] * len(ids),
        }
        for row, ids in zip(rows, samples, strict=True)
    ]
    prompts = PromptSet.from_table(table)
    said = _said(drawn, tokenizer)
    texts = TextSet(Checkpoint("sft", store, ""), "t", "", "key", prompts, said)
    return texts, respell(texts, prompts, "asked", tokenizer, UnitStore(store))


def test_a_text_keeps_the_space_that_it_begins_with(tmp_path: Path) -> None:
    tokenizer = made("spaces")
    ids = tokenizer.convert_tokens_to_ids(["\u2581", "a", "\u2581", "b"])
    texts, judged = respelled(tokenizer, tmp_path, ids)
    assert texts.said[0, 0].text == " a b"
    assert judged.prompts.rows["continuation_token_ids"].to_pylist() == [ids]


def test_texts_that_are_other_texts_to_the_judge_are_left_out(tmp_path: Path) -> None:
    tokenizer = made("bytes")
    end = tokenizer.add_special_tokens({"eos_token": "</s>"}) and tokenizer.eos_token_id
    whole, ends, cut = (ids_of(tokenizer, text) for text in ("a\u00e9", "a", "a\u00e9"))
    literal = [token for letter in "</s>" for token in ids_of(tokenizer, letter)]
    texts, judged = respelled(tokenizer, tmp_path, whole, [*ends, end], cut[:-1], literal, [end])
    assert [texts.said[0, number].text for number in range(5)] == [
        *("a\u00e9", "a", "a\ufffd", "</s>", "")
    ]
    assert judged.prompts.rows["continuation"].to_pylist() == ["a\u00e9", "a"]
    assert judged.unspelled == 2, "half a character, and letters that make a special token"


def test_texts_that_do_not_fit_the_judge_are_said(toys: Toys) -> None:
    toys.task(prompt="q{}")
    pad(toys, base=128, sft=128, grpo=128)
    path = toys.folder / "checkpoints" / "grpo" / "config.json"
    config = json.loads(path.read_text())
    for positions, some in ((8, True), (2, False)):
        path.write_text(json.dumps(config | {"max_position_embeddings": positions}))
        request = Request(toys.folder / "lineage.yaml", toys.out)
        settings = DistanceSettings(documents=12, samples=2)
        told = StringIO()
        observer = ProgressObserver(Console(file=told))
        with observer.showing():
            _, rows, _ = measure_distances(request, settings, load_plugins([PLUGIN]), observer)
        assert "prompts do not fit; a request may have" in told.getvalue().replace("\n", " ")
        row = next(r for r in rows if (r["source"], r["target"]) == ("base", "grpo"))
        assert (0 < row["samples"] < 24) == some
        assert row["reason"].endswith(
            f"{24 - row['samples']} of 24 texts do not fit the target's context"
        )
        assert (row["nats_per_token"] is not None) == some
        assert next(r for r in rows if r["target"] == "sft")["reason"] is None


def test_empty_texts_have_neither_bits_nor_bytes(toys: Toys) -> None:
    """Both ways of judging rest on the same samples."""
    toys.manifest(answer="", success=0.5)
    write_code_points(toys.folder / "checkpoints" / "grpo", without="~")
    rows = {(row["source"], row["target"]): row for row in measure(toys)}
    assert rows["base", "sft"]["samples"] == rows["base", "grpo"]["samples"]
    inside, across = rows["base", "sft"], rows["base", "grpo"]
    assert inside["source_bits_per_byte"] == pytest.approx(across["source_bits_per_byte"])


def test_rows_of_another_parent_or_tokenizer_do_not_stay(toys: Toys) -> None:
    toys.run()
    measure(toys)

    def relations(**narrowed: Any) -> dict[tuple[str, str], str]:
        measure(toys, **narrowed)
        rows = Results(toys.out / "toys").read("distances")
        return dict(zip(zip(rows.source, rows.target, strict=True), rows.relation, strict=True))

    assert relations()["grpo", "sft"] == "child"
    toys.manifest("parent: sft", "parent: base")
    narrowed = relations(checkpoints=("base", "sft"))
    assert not {("grpo", "sft"), ("grpo", "base"), ("sft", "grpo")} & narrowed.keys()
    assert relations()["grpo", "base"] == "child"
    tokens = Results(toys.out / "toys").read("token_likelihoods")
    assert set(zip(tokens.source, tokens.target, strict=True)) == {
        ("sft", "base"),
        ("grpo", "base"),
    }
    write_code_points(toys.folder / "checkpoints" / "grpo", without="~")
    toys.run()
    rows = Results(toys.out / "toys").read("distances")
    assert set(rows.source) == {"base", "sft"} == set(rows.target)
    measure(toys)
    tokens = Results(toys.out / "toys").read("token_likelihoods")
    assert set(tokens.source) == {"sft"}, "another vocabulary has no common tokens"


def test_as_many_samples_are_judged_as_are_asked_for(toys: Toys) -> None:
    toys.manifest("samples: 20", "samples: 1")
    assert {row["samples"] for row in measure(toys)} == {4 * 2}
    before = toys.units("generation")
    toys.manifest("samples: 20", "samples: 20\n  temperature: 1.0")
    toys.run()
    run_made = toys.units("generation").keys() - before.keys()
    request = Request(toys.folder / "lineage.yaml", toys.out)
    settings = DistanceSettings(documents=64, samples=2)
    _, rows, _ = measure_distances(request, settings, load_plugins([PLUGIN]), Observer())
    assert {row["samples"] for row in rows} == {64 * 2}
    new = toys.units("generation").keys() - before.keys() - run_made
    assert len(new) == 6, "judged anew, by two others each, and nothing drawn anew"


def test_an_engine_without_distributions_is_named(
    toys: Toys, monkeypatch: pytest.MonkeyPatch
) -> None:
    pad(toys, base=128, sft=128, grpo=128)
    monkeypatch.setattr(
        FakeEngine, "capabilities", replace(FakeEngine.capabilities, distributions=0)
    )
    with pytest.raises(EngineError, match="the fake engine gives no distributions"):
        measure(toys, "exact")
