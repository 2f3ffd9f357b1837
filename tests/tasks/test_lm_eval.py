"""The adapter beside parity: what prompt sets say, samples, failures, refusals, digests."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ptharness.errors import TaskError
from ptharness.prompts import PromptSet, Template
from ptharness.tasks.base import Document, LoadedTask, TaskSettings
from ptharness.tasks.catalogue import PathTasks
from tests.tasks.reference import CHECKPOINT, TASKS, scored

NOTHING = TaskSettings()


def load(name: str, settings: TaskSettings = NOTHING, folder: Path = TASKS) -> Any:
    (task,) = PathTasks().find(name, folder)
    return task.load(settings)


@pytest.fixture(scope="module")
def words() -> Any:
    return load("words.yaml")


@pytest.fixture(scope="module")
def sums() -> Any:
    return load("sums.yaml")


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    """`written(old, new, ...)`: words.yaml with pieces replaced, in a folder of its own."""

    def write(*replacements: str) -> Path:
        text = (TASKS / "words.yaml").read_text().replace("items/", f"{TASKS}/items/")
        for old, new in zip(replacements[::2], replacements[1::2], strict=True):
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "words.yaml").write_text(text)
        return tmp_path

    return write


def test_a_prompt_set_says_what_it_is(words: LoadedTask) -> None:
    prompts = words.prompts(CHECKPOINT, Template())
    header = prompts.header
    assert header.kind == "generate"
    assert header.documents == 30
    assert header.generation == {"until": ["\n"], "max_gen_toks": 12, "temperature": 0.0}
    assert header.metrics == tuple(
        (m, f) for f in ("strict", "loose") for m in ("exact_match", "bleu")
    )
    assert header.primary == ("exact_match", "strict")
    assert header.binary
    assert header.version == "2.0"
    assert header.chat_template_used
    assert not header.add_bos
    row = prompts.rows.slice(1, 1).to_pylist()[0]
    assert row["document"] == 1
    assert row["request"] == 0
    assert row["item"].split("-")[0] == "1"
    assert len(row["item"]) == len("1-") + 8
    assert row["cluster"] == "srt"
    assert json.loads(row["metadata"])["question"] == row["prompt"][len("<user>") : -len("<bot>")]
    assert row["gold"] == json.loads(row["metadata"])["answer"]
    assert row["continuation"] is None
    again = PromptSet.from_table(prompts.to_table())
    assert again.header == header


def test_a_choice_has_a_row_per_choice(sums: LoadedTask) -> None:
    prompts = sums.prompts(CHECKPOINT, Template("none"))
    rows = prompts.slice_documents(2, 1).to_pylist()
    assert [row["request"] for row in rows] == list(range(8))
    assert prompts.header.kind == "loglikelihood"
    assert [row["prompt"] for row in rows[4:]] == [""] * 4
    assert rows[0]["gold"] in [row["continuation"].removeprefix(":") for row in rows]
    assert rows[0]["cluster"] == rows[0]["item"]
    assert prompts.header.primary == ("acc", "none")
    assert prompts.header.binary


def test_settings_choose_the_primary_metric() -> None:
    loaded = load("words.yaml", TaskSettings(metric="bleu", filter="loose"))
    assert loaded.primary == ("bleu", "loose")
    assert not loaded.prompts(CHECKPOINT, Template()).header.binary
    for wrong, message in (
        (TaskSettings(metric="exact_mtach"), "metric: 'exact_mtach' .*did you mean 'exact_match'"),
        (TaskSettings(filter="x"), "filter: 'x' is none of its own .legal: loose, strict"),
    ):
        with pytest.raises(TaskError, match=message):
            load("words.yaml", wrong).prompts(CHECKPOINT, Template())


def test_each_sample_is_scored_by_itself(words: LoadedTask) -> None:
    gold = json.loads(words.prompts(CHECKPOINT, Template()).rows["metadata"][0].as_py())["answer"]
    scores = scored(words, [Document(0, [[f":{gold}", gold, "::", ""]])])
    assert [score.sample for score in scores] == [0, 1, 2, 3]
    assert [score.answer for score in scores] == [gold, "[invalid]", "[invalid]", "[invalid]"]
    strict = [score.values["exact_match", "strict"] for score in scores]
    loose = [score.values["exact_match", "loose"] for score in scores]
    assert strict == [1.0, 0.0, 0.0, 0.0]
    assert loose == [1.0, 1.0, 0.0, 0.0]
    assert all(score.raw.keys() == {("bleu", "strict"), ("bleu", "loose")} for score in scores)


def test_the_answer_to_a_choice_is_its_text(sums: Any) -> None:
    choices = sums.documents[0]["choices"]
    conditional = [(-3.0, False), (-2.0, False), (-4.0, False), (-5.0, False)]
    alone = [(-9.0, False), (-1.0, False), (-9.0, False), (-50.0, False)]
    document = Document(0, [[response] for response in conditional + alone])
    (score,) = scored(sums, [document])
    assert score.sample == 0
    assert score.answer == choices[1]
    by_information = load("sums.yaml", TaskSettings(metric="acc_mutual_info"))
    (score,) = scored(by_information, [document])
    assert score.answer == choices[3]
    assert score.values["acc_mutual_info", "none"] == float(sums.documents[0]["label"] == 3)


def test_a_scorer_that_fails_is_named_and_the_others_go_on() -> None:
    loaded = load("own_scorer.yaml")
    documents = [Document(i, [["crash" if i == 1 else "abc", "ab"]]) for i in range(3)]
    scores = scored(loaded, documents)
    assert [(s.document, s.sample) for s in scores] == [(i, j) for i in range(3) for j in range(2)]
    failed = [s for s in scores if s.error]
    assert [(s.document, s.sample) for s in failed] == [(1, 0)]
    item = loaded.prompts(CHECKPOINT, Template()).rows["item"][1].as_py()
    assert failed[0].error == (
        f"task 'own_scorer', item {item}: process_results: "
        "ValueError: the scorer [b]failed[/b] on two lines"
    )
    assert failed[0].values == {}
    table = {a.metric: a for a in loaded.aggregate(scores)}
    assert table["longest"].value == pytest.approx((3 + 2) / 2)
    assert table["middle"].samples == table["same_letters"].samples == 2
    assert table["same_letters"].value == 0.0


def test_vote_without_enough_samples_is_an_error_of_that_filter_alone() -> None:
    loaded = load("votes.yaml")
    single, together = scored(loaded, [Document(0, [["a", "b"]])])[1:]
    assert single.error == ""
    assert together.sample is None
    assert "filter 'maj@3' needs 3 samples of an item and there are 2; set" in together.error
    assert ("exact_match", "maj@4") in together.values
    assert loaded.prompts(CHECKPOINT, Template()).header.generation["repeats"] == 4


UNSUPPORTED = {
    "unsafe code": (
        ("metadata:", "unsafe_code: true\nmetadata:"),
        "runs code that the model wrote",
    ),
    "output type": (
        ("output_type: generate_until", "output_type: telepathy"),
        "output_type 'telepathy' is not supported .supported: generate_until, multiple",
    ),
    "code from the hub": (
        ("metric: exact_match", "metric: exact_match\n    hf_evaluate: true"),
        "metric 'exact_match' has hf_evaluate set, which downloads code from the hub",
    ),
    "images": (("metadata:", "doc_to_image: [question]\nmetadata:"), "doc_to_image is set"),
    "data": (
        (f"{TASKS}/items/words.jsonl", "gone.jsonl"),
        r"words\.yaml: dataset_kwargs\.data_files\.test: gone\.jsonl: there is no such file",
    ),
}


@pytest.mark.parametrize(("change", "message"), UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_what_cannot_be_run_is_refused_at_once(
    change: tuple[str, str], message: str, written: Callable[..., Path]
) -> None:
    (task,) = PathTasks().find("words.yaml", written(*change))
    for attempt in (lambda: task.inputs_digest(NOTHING), lambda: task.load(NOTHING)):
        with pytest.raises(TaskError, match=message):
            attempt()


def test_a_metric_of_the_hub_that_is_never_called_is_lm_evals_own(tmp_path: Path) -> None:
    """Hundreds of lm-eval's choice tasks name one: of choices only the aggregation is used."""
    text = (TASKS / "pairs.yaml").read_text().replace("items/", f"{TASKS}/items/")
    (tmp_path / "pairs.yaml").write_text(
        text.replace("metric: f1,", "metric: f1, hf_evaluate: true,")
    )
    loaded = load("pairs.yaml", folder=tmp_path)
    assert ("f1", "none") in loaded.metrics
    (task,) = PathTasks().find("pairs.yaml", tmp_path)
    assert task.inputs_digest(NOTHING)


THINKING = TaskSettings(think_end_token="</think>")


def test_thoughts_are_not_scored_and_not_stopped() -> None:
    loaded = load("words.yaml", THINKING)
    assert loaded.prompts(CHECKPOINT, Template()).header.generation["until"] == []
    texts = [
        "first\nbggg?</think> :gggb\nand more",  # a stop string in the thought, one in the answer
        "so</think> :bggg</think>\n\n:gggb",
        "</think>:bggg",
        ":gggb, or is it",
        "\n :gggb",
    ]
    scores = scored(loaded, [Document(0, [texts])])
    answers = [score.answer for score in scores]
    assert answers == ["gggb", "gggb", "bggg", "[invalid]", "gggb"]
    values = [score.values["exact_match", "strict"] for score in scores]
    assert values == [1.0, 1.0, 0.0, 0.0, 1.0]


def test_the_manifests_stop_strings_cut_the_answer_instead_of_the_tasks() -> None:
    def answer(text: str, stop: tuple[str, ...] | None) -> str | None:
        loaded = load("words.yaml", TaskSettings(think_end_token="#", stop=stop, filter="loose"))
        return scored(loaded, [Document(0, [[text]])])[0].answer

    assert answer("a.b\n#c.d\ne", None) == "c.d"
    assert answer("a.b\n#c.d\ne", (".",)) == "c"
    assert answer("a.b\n#c.d\ne", ()) == "c.d\ne"


def test_thinking_is_part_of_the_score_digest_and_its_absence_is_not() -> None:
    def digest(**settings: Any) -> str:
        return load("words.yaml", TaskSettings(**settings)).score_digest()

    assert digest() == digest(fewshot_seed=3) == digest(fewshot_as_multiturn=False)
    ways = [digest(), digest(think_end_token="#"), digest(think_end_token="$")]
    ways.append(digest(think_end_token="#", stop=("x",)))
    assert len(set(ways)) == 4


def test_a_special_token_ends_no_thoughts() -> None:
    loaded = load("words.yaml", TaskSettings(think_end_token="<bot>"))
    with pytest.raises(TaskError, match="'<bot>' is a special token of the tokenizer"):
        loaded.prompts(CHECKPOINT, Template())
    # Nothing is completed there.
    load("sums.yaml", TaskSettings(think_end_token="<bot>")).prompts(CHECKPOINT, Template())


def test_whole_texts_are_one_request_each() -> None:
    loaded = load("texts.yaml", folder=TASKS.parent / "matrix")
    prompts = loaded.prompts(CHECKPOINT, Template())
    assert prompts.header.kind == "loglikelihood_rolling"
    assert not prompts.header.binary
    rows = prompts.rows.to_pylist()
    assert [row["document"] for row in rows] == list(range(7))
    assert {tuple(row["prompt_token_ids"]) for row in rows} == {(4,)}, "the end-of-sequence token"
    assert rows[0]["prompt"] == ""
    assert rows[0]["continuation"] == rows[0]["gold"] != ""
    assert [len(row["continuation_token_ids"]) == 0 for row in rows].index(True) == 3
    (score,) = scored(loaded, [Document(0, [[(-12.5, False)]])])
    assert set(score.raw) == set(prompts.header.metrics)
    (words, *_) = loaded.aggregate([score])
    assert words.value == pytest.approx(math.exp(12.5 / len(rows[0]["gold"].split())))


UNBUILDABLE = {
    "metric": (
        ("metric: exact_match", "metric: exact_mach"),
        "task 'words': metric_list: unknown metric 'exact_mach' .did you mean 'exact_match'",
    ),
    "split": (("test_split: test", "test_split: exam"), "'words': cannot be built: .*exam"),
    "template": (("doc_to_text: question", 'doc_to_text: "{{nope}}"'), "cannot be built: .*nope"),
    "field": (
        ("cluster_by: skill", "cluster_by: skil"),
        "cluster_by: 'skil' is not a field of its",
    ),
    "filter": (("function: regex", "function: regx"), "task 'words': cannot be built: KeyError"),
    "shots": (("test_split: test", "test_split: test\nnum_fewshot: 99"), "prompts cannot be built"),
}


@pytest.mark.parametrize(("change", "message"), UNBUILDABLE.values(), ids=UNBUILDABLE)
def test_what_cannot_be_built_is_named(
    change: tuple[str, str], message: str, written: Callable[..., Path]
) -> None:
    folder = written(*change)
    with pytest.raises(TaskError, match=message) as raised:
        load("words.yaml", folder=folder).prompts(CHECKPOINT, Template())
    assert "\n" not in str(raised.value)


def test_a_data_set_that_cannot_be_had_is_named(written: Callable[..., Path]) -> None:
    folder = written("dataset_path: json", "dataset_path: no-such-owner/no-such-set")
    program = (
        "import sys; from pathlib import Path\n"
        "from ptharness.errors import TaskError\n"
        "from ptharness.tasks.base import TaskSettings\n"
        "from ptharness.tasks.catalogue import PathTasks\n"
        "(task,) = PathTasks().find('words.yaml', Path(sys.argv[1]))\n"
        "try: task.load(TaskSettings())\n"
        "except TaskError as error: print(error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        capture_output=True,
        text=True,
        check=True,
        env={"HF_HUB_OFFLINE": "1", "PATH": "", "HOME": str(folder)},
    )
    assert "task 'words': its data set 'no-such-owner/no-such-set' cannot be had here" in run.stdout
    assert run.stdout.count("\n") == 1
    assert run.stderr == ""


def test_the_digest_covers_settings_and_the_score_digest_only_scoring(
    written: Callable[..., Path],
) -> None:
    (task,) = PathTasks().find("words.yaml", written())
    digests = [task.inputs_digest(s) for s in (NOTHING, NOTHING, TaskSettings(num_fewshot=1))]
    assert digests[0] == digests[1] != digests[2]

    def score_digest(*change: str, settings: TaskSettings = NOTHING) -> str:
        return str(load("words.yaml", settings, written(*change)).score_digest())

    before = score_digest()
    assert score_digest("doc_to_text: question", "doc_to_text: '{{question}}!'") == before
    assert score_digest("max_gen_toks: 12", "max_gen_toks: 13") == before
    assert score_digest('":([a-h]+)$"', '":([a-z]+)$"') != before
    assert score_digest('regexes_to_ignore: [":"]', 'regexes_to_ignore: ["-"]') != before
    assert score_digest(settings=TaskSettings(metric="bleu")) != before


def test_which_metrics_are_a_yes_or_no(tmp_path: Path) -> None:
    text = (TASKS / "own_scorer.yaml").read_text().replace("items/", f"{TASKS}/items/")
    (tmp_path / "scorers.py").write_text((TASKS / "scorers.py").read_text())

    def binary(settings: TaskSettings, **metadata: bool) -> bool:
        (tmp_path / "own.yaml").write_text(f"{text}\nmetadata: {json.dumps(metadata)}\n")
        prompts = load("own.yaml", settings, tmp_path).prompts(CHECKPOINT, Template())
        return bool(prompts.header.binary)

    assert binary(NOTHING)  # the scorer returns True or False
    assert not binary(NOTHING, binary=False)
    assert not binary(TaskSettings(metric="middle"))
    assert binary(TaskSettings(metric="middle"), binary=True)
    (tmp_path / "scorers.py").write_text(
        "def only_short(dataset): return dataset\n"
        "def ask(document): return document['question']\n"
        "def longest(items): return max(items)\n"
        "def compare(document, results): return {'acc': 0.4}\n"
    )
    assert not binary(NOTHING)  # a share that is called acc


def test_a_library_that_is_missing_is_named(written: Callable[..., Path]) -> None:
    folder = written("metadata:", "process_results: !function absent_module.score\nmetadata:")
    with pytest.raises(TaskError, match=r"task 'words': a library is missing .*absent_module"):
        load("words.yaml", folder=folder)


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    loaded = load("votes.yaml")
    loaded.prompts(CHECKPOINT, Template())
    loaded.aggregate(scored(loaded, [Document(i, [["a", "b", "c", "d"]]) for i in range(3)]))
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == ""


def test_documents_stay_the_same_where_a_task_shuffles(tmp_path: Path) -> None:
    """A task that shuffles anew each time it is asked: prompts and scores see one order."""
    (tmp_path / "shuffling.py").write_text(
        "import random\n"
        "def shuffle(dataset):\n"
        "    return dataset.select(random.sample(range(len(dataset)), len(dataset)))\n"
    )
    text = (TASKS / "words.yaml").read_text().replace("items/", f"{TASKS}/items/")
    text += "process_docs: !function shuffling.shuffle\n"
    (tmp_path / "words.yaml").write_text(text)
    first, second = (load("words.yaml", folder=tmp_path) for _ in range(2))
    items = [
        loaded.prompts(CHECKPOINT, Template()).rows["item"].to_pylist()
        for loaded in (first, second)
    ]
    assert items[0] == items[1]
    assert items[0] != load("words.yaml").prompts(CHECKPOINT, Template()).rows["item"].to_pylist()
