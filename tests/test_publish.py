"""Units become tables with the right numbers, once, and only where they are complete."""

import itertools
import json
import math
import os
import pickle
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ptharness.lineage import Checkpoint, Lineage, Stage
from ptharness.protocol import cut_at_stop
from ptharness.publish import folder
from ptharness.publish.estimates import clustered_stderr, interval
from ptharness.publish.files import file_name, write_table
from ptharness.publish.samples import cut_at_stops, list_sums
from ptharness.schema import PUBLISHED, SCHEMA_VERSION
from ptharness.taxonomy import Interface, Provenance, Role
from ptharness.units import Failure
from tests.synthetic import (
    ADD_DOCUMENTS,
    PICK_DOCUMENTS,
    SAMPLES,
    STOP,
    Run,
    add_correct,
    add_text,
    lineage,
    pick_logprobs,
)

NAMES = ("base", "sft", "grpo")
FILES = {f"samples/{name}/{task}.parquet" for name in NAMES for task in ("add", "pick")} | {
    "items.parquet",
    "metrics.parquet",
    "checkpoints.parquet",
    "documents.parquet",
    "manifest.yaml",
    "run.json",
}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """All of a small evaluation, published once; tests only read it."""
    run = Run(tmp_path_factory.mktemp("published")).fill()
    assert set(run.publish().written) == FILES
    return run


def samples_of(run: Run, checkpoint: str, task: str) -> pd.DataFrame:
    return pq.read_table(run.folder / f"samples/{checkpoint}/{task}.parquet").to_pandas()


def metric(run: Run, checkpoint: str, task: str, name: str, filter_: str) -> pd.Series:
    table = pd.read_parquet(run.folder / "metrics.parquet")
    rows = table[
        (table.checkpoint == checkpoint)
        & (table.task == task)
        & (table.metric == name)
        & (table["filter"] == filter_)
    ]
    assert len(rows) == 1
    return rows.iloc[0]


# --- samples ---------------------------------------------------------------------------------


def test_completions_are_joined_with_prompts_and_scores(published: Run) -> None:
    frame = samples_of(published, "sft", "add")
    assert len(frame) == ADD_DOCUMENTS * SAMPLES
    seen = set()
    for row in frame.itertuples():
        document = int(row.item.split("-")[0])
        text = add_text("sft", document, row.sample)
        failed = document == 3
        seen.add((document, row.sample))
        assert row.completion == text.split("\n")[0]
        assert row.completion_tokens == len(text)
        assert row.logprob_nats == pytest.approx(-0.25 * len(text))
        assert row.cluster == f"c{document // 2}"
        assert row.prompt_tokens == len(f"{document}+0=")
        assert row.seed == 1000 + document
        assert row.correct == (add_correct("sft", document, row.sample) and not failed)
        assert row.score == float(row.correct)
        assert row.error == ("time limit of 60 s exceeded" if failed else None) or pd.isna(
            row.error
        )
        assert row.answer == str(document) or failed
        assert row.unit in {unit.key for unit in published.of("sft", "add").generation}
        assert row.protocol == published.add.protocol
        assert (row.checkpoint, row.stage, row.method) == ("sft", 1, "sft")
        assert (row.provenance, list(row.parents)) == ("off_policy", ["base"])
        assert list(row.role) == ["support_expansion"]
    assert seen == set(itertools.product(range(ADD_DOCUMENTS), range(SAMPLES)))


def test_a_choice_item_is_one_row(published: Run) -> None:
    frame = samples_of(published, "grpo", "pick")
    assert list(frame["sample"]) == [0] * PICK_DOCUMENTS
    assert frame.completion.isna().all()
    assert frame.seed.isna().all()
    for document, row in enumerate(frame.itertuples()):
        expected = [sum(pick_logprobs("grpo", document, choice)) for choice in range(3)]
        assert list(row.choice_logprobs_nats) == pytest.approx(expected, rel=1e-6)


def test_unconditional_likelihoods_are_left_out(tmp_path: Path) -> None:
    pairs = (("acc", "none"), ("acc_mutual_info", "none"))
    run = Run(tmp_path, metrics=pairs).fill()
    run.publish()
    for document, row in enumerate(samples_of(run, "base", "pick").itertuples()):
        expected = [sum(pick_logprobs("base", document, choice)) for choice in range(3)]
        assert list(row.choice_logprobs_nats) == pytest.approx(expected, rel=1e-6)


def test_many_sample_blocks_join_like_one(tmp_path: Path) -> None:
    run = Run(tmp_path, samples=19, documents=3, failing=frozenset()).fill()
    assert len(run.of("base", "add").generation) == 2
    run.publish()
    frame = samples_of(run, "base", "add")
    assert len(frame) == 57
    for row in frame.itertuples():
        document = int(row.item.split("-")[0])
        assert row.correct == add_correct("base", document, row.sample)
        assert row.completion == add_text("base", document, row.sample).split("\n")[0]


def test_a_vote_over_all_samples_is_a_row_without_a_sample_number(tmp_path: Path) -> None:
    run = Run(tmp_path, vote=True).fill()
    run.publish()
    frame = samples_of(run, "sft", "add")
    votes = frame[frame["sample"].isna()]
    assert len(votes) == ADD_DOCUMENTS - 1
    assert votes.completion.isna().all()
    assert votes.correct.isna().all()
    assert [entry["filter"] for row in votes.scores for entry in row] == ["vote"] * len(votes)
    expected = [
        sum(add_correct("sft", d, s) for s in range(SAMPLES)) > SAMPLES / 2
        for d in range(ADD_DOCUMENTS)
        if d != 3
    ]
    assert metric(run, "sft", "add", "exact_match", "vote").value == pytest.approx(
        np.mean(expected)
    )
    # The votes count in no item: the primary metric is that of single samples.
    items = pd.read_parquet(run.folder / "items.parquet")
    assert (items[items.task == "add"].n == SAMPLES).all()


def test_a_primary_vote_counts_once_per_item(tmp_path: Path) -> None:
    run = Run(tmp_path, vote=True)
    object.__setattr__(run.add.prompts.header, "primary", ("exact_match", "vote"))
    run.fill().publish()
    items = pd.read_parquet(run.folder / "items.parquet")
    rows = items[(items.task == "add") & (items.checkpoint == "sft")]
    assert (rows.n == 1).all()
    assert rows.iloc[3].c == 0
    names = pd.read_parquet(run.folder / "metrics.parquet").query("task == 'add'").metric
    assert not any(name.startswith("pass@") for name in names)


def test_cutting_equals_the_reference() -> None:
    generator = random.Random(0)
    texts = ["".join(generator.choices("ab#\n é", k=generator.randrange(9))) for _ in range(500)]
    for stops in ((), ("\n",), ("##", "b"), ("", "a#"), STOP):
        cut = cut_at_stops(pa.chunked_array([texts[:200], texts[200:]]), stops).to_pylist()
        assert cut == [cut_at_stop(text, stops) for text in texts]


def test_sums_of_lists() -> None:
    lists = pa.chunked_array([[[], [1.0, 2.0], []], [[-3.5], []]], pa.list_(pa.float32()))
    assert list_sums(lists).tolist() == [0.0, 3.0, 0.0, -3.5, 0.0]
    assert list_sums(lists.slice(1, 3)).tolist() == [3.0, 0.0, -3.5]


# --- items and metrics -----------------------------------------------------------------------


def test_items_count_what_is_scored(published: Run) -> None:
    items = pd.read_parquet(published.folder / "items.parquet")
    assert len(items) == 3 * (ADD_DOCUMENTS + PICK_DOCUMENTS)
    for row in items[items.task == "add"].itertuples():
        document = int(row.item.split("-")[0])
        rights = [add_correct(row.checkpoint, document, s) for s in range(SAMPLES)]
        c = 0 if (row.checkpoint, document) == ("sft", 3) else sum(rights)
        lengths = [len(add_text(row.checkpoint, document, s)) for s in range(SAMPLES)]
        assert (row.n, row.c, row.mean_score) == (SAMPLES, c, c / SAMPLES)
        assert row.completion_tokens == sum(lengths)
        assert row.truncated == (document % 3 == 0)
    choices = items[items.task == "pick"]
    assert (choices.n == 1).all()
    assert choices.completion_tokens.isna().all()
    assert choices.truncated.isna().all()


@pytest.mark.parametrize("k", [1, 2, 4])
def test_pass_at_k_is_the_share_of_subsets_with_a_hit(published: Run, k: int) -> None:
    shares = []
    for document in range(ADD_DOCUMENTS):
        rights = [add_correct("sft", document, s) and document != 3 for s in range(SAMPLES)]
        subsets = list(itertools.combinations(rights, k))
        shares.append(sum(any(subset) for subset in subsets) / len(subsets))
    row = metric(published, "sft", "add", f"pass@{k}", "strict")
    assert row.value == pytest.approx(np.mean(shares), rel=1e-12)
    means = np.array(shares)
    sums = [means[i : i + 2].sum() - 2 * means.mean() for i in range(0, ADD_DOCUMENTS, 2)]
    groups = ADD_DOCUMENTS // 2
    expected = math.sqrt(groups / (groups - 1) * np.square(sums).sum()) / ADD_DOCUMENTS
    assert row.stderr == pytest.approx(expected, rel=1e-9)
    assert (row.n, row.samples, row.is_primary) == (ADD_DOCUMENTS, SAMPLES, False)


def test_stderr_is_lm_evals_where_items_are_independent() -> None:
    from lm_eval.api.metrics import mean_stderr

    values = np.random.default_rng(0).random(41)
    assert clustered_stderr(values, np.arange(41)) == pytest.approx(
        mean_stderr(values.tolist()), rel=1e-12
    )
    assert clustered_stderr(np.array([1.0]), np.array([0])) is None
    assert clustered_stderr(np.array([1.0, 0.0]), np.array([5, 5])) is None
    assert clustered_stderr(np.array([]), np.array([])) is None


def test_the_tasks_own_values_are_taken_as_they_are(published: Run) -> None:
    own = {
        (row["metric"], row["filter"]): row
        for row in published.store.read(
            "metrics", published.of("base", "pick").metrics.key
        ).to_pylist()
    }
    for (name, filter_), row in own.items():
        found = metric(published, "base", "pick", name, filter_)
        assert (found.value, found.stderr) == (row["value"], row["stderr"])
        assert found.is_primary == (name == "acc")
        assert found.ci_high == min(1.0, row["value"] + 1.959963984540054 * row["stderr"])


def test_clusters_change_the_error_and_not_the_value(published: Run, tmp_path: Path) -> None:
    apart = Run(tmp_path, cluster=str).fill()
    apart.publish()
    alone = metric(apart, "base", "add", "exact_match", "strict")
    own = apart.store.read("metrics", apart.of("base", "add").metrics.key).to_pylist()[0]
    assert (alone.value, alone.stderr) == (own["value"], own["stderr"])
    together = metric(published, "base", "add", "exact_match", "strict")
    assert together.value == alone.value
    assert together.stderr != pytest.approx(alone.stderr, rel=1e-3)


def test_all_right_leaves_room_for_doubt(published: Run) -> None:
    row = metric(published, "grpo", "add", "pass@1", "strict")
    assert (row.value, row.stderr, row.ci_high) == (1.0, 0.0, 1.0)
    assert row.ci_low == pytest.approx(1 - 3 / (ADD_DOCUMENTS / 2))
    assert row.ci_method == "rule_of_three"
    # No proportion: nobody knows how far another item would be from its constant mean of 2.
    length = metric(published, "grpo", "add", "length", "strict")
    assert (length.value, length.stderr) == (2.0, 0.0)
    assert length[["ci_low", "ci_high", "ci_method"]].isna().all()
    assert interval(0.0, 0.0, constant=True, clusters=2, proportion=True).high == 1.0
    half = interval(0.5, 0.0, constant=False, clusters=30, proportion=True)
    assert (half.low, half.high, half.method) == (0.4, 0.6, "rule_of_three")


def test_where_every_scorer_gave_up_none_right_is_no_certainty(tmp_path: Path) -> None:
    every = frozenset(("sft", document) for document in range(ADD_DOCUMENTS))
    run = Run(tmp_path, failing=every, cluster=str)
    work = run.of("sft", "add")
    run.generate(work)
    run.score(work)
    path = run.store.path("metrics", work.metrics.key)
    none = {"filter": "strict", "value": 0.0, "stderr": 0.0, "samples": SAMPLES}
    rows = [{"metric": name, **none} for name in ("exact_match", "length")]
    pq.write_table(pa.Table.from_pylist(rows, schema=pq.read_schema(path)), path)
    run.publish(work=[work])
    row = metric(run, "sft", "add", "exact_match", "strict")
    assert (row.value, row.n, row.ci_low, row.ci_method) == (
        0.0,
        ADD_DOCUMENTS,
        0.0,
        "rule_of_three",
    )
    assert row.ci_high == pytest.approx(3 / ADD_DOCUMENTS)
    # Without any value it is not known whether the other metric is a proportion.
    row = metric(run, "sft", "add", "length", "strict")
    assert row.value == 0.0
    assert row[["ci_low", "ci_high", "ci_method"]].isna().all()


def test_a_corpus_metric_keeps_its_error_and_says_so(tmp_path: Path) -> None:
    run = Run(tmp_path)
    work = run.of("base", "add")
    run.generate(work)
    run.score(work)
    path = run.store.path("metrics", work.metrics.key)
    corpus = {"metric": "bleu", "filter": "strict", "value": 31.5, "stderr": 2.0, "samples": 4}
    undefined = {"metric": "odd", "filter": "strict", "value": math.nan, "stderr": None}
    schema = pq.read_schema(path)
    pq.write_table(pa.Table.from_pylist([corpus, undefined], schema=schema), path)
    run.publish(work=[work])
    row = metric(run, "base", "add", "bleu", "strict")
    assert (row.value, row.stderr, row.ci_method) == (31.5, 2.0, "normal_unclustered")
    assert row.ci_high == pytest.approx(31.5 + 1.96 * 2, abs=1e-3)
    row = metric(run, "base", "add", "odd", "strict")
    assert row[["value", "stderr", "ci_low", "ci_high", "ci_method"]].isna().all()


def test_truncation_rate(published: Run) -> None:
    row = metric(published, "base", "add", "truncation_rate", "none")
    assert row.value == pytest.approx(22 / (ADD_DOCUMENTS * SAMPLES))
    table = pd.read_parquet(published.folder / "metrics.parquet")
    assert "truncation_rate" not in set(table[table.task == "pick"].metric)


# --- lineage tables --------------------------------------------------------------------------


def test_checkpoints_and_documents(published: Run) -> None:
    checkpoints = pd.read_parquet(published.folder / "checkpoints.parquet")
    assert list(checkpoints.checkpoint) == list(NAMES)
    assert list(checkpoints.fingerprint) == [f"weights of {name}" for name in NAMES]
    assert set(checkpoints.architecture_fingerprint) == {"shape"}
    assert list(checkpoints.declaration)[1] == "demonstrations"
    assert list(checkpoints.path) == [f"checkpoints/{name}" for name in NAMES]
    documents = pd.read_parquet(published.folder / "documents.parquet")
    assert len(documents) == ADD_DOCUMENTS + PICK_DOCUMENTS
    assert not documents.duplicated(["task", "item"]).any()
    assert documents[documents.task == "pick"].prompt.iloc[0] == "pick 0:"


def test_every_file_has_its_schema_and_version(published: Run) -> None:
    for name, schema in PUBLISHED.items():
        place = published.folder / name
        files = place.glob("*/*.parquet") if name == "samples" else [place.with_suffix(".parquet")]
        for file in files:
            found = pq.read_schema(file)
            assert found.equals(schema), file
            assert found.metadata[b"schema_version"].decode() == SCHEMA_VERSION


# --- what is published when ------------------------------------------------------------------


def times(run: Run) -> dict[str, int]:
    return {
        path.relative_to(run.folder).as_posix(): path.stat().st_mtime_ns
        for path in run.folder.rglob("*")
        if path.is_file()
    }


def test_nothing_new_rewrites_nothing_and_reads_no_unit(tmp_path: Path) -> None:
    run = Run(tmp_path).fill()
    first = run.publish(failures=[Failure("sft", "x", "scoring", "no")])
    before = times(run)
    assert set(before) == FILES
    for path in (tmp_path / "units").rglob("*.parquet"):
        path.write_bytes(b"")
    again = run.publish(failures=[Failure("sft", "x", "scoring", "no")])
    assert (again.written, again.removed, again.state) == ((), (), first.state)
    assert times(run) == before


def test_nothing_new_imports_no_pandas(tmp_path: Path) -> None:
    run = Run(tmp_path, cluster=str, documents=3).fill()
    run.publish()
    pickle_file = tmp_path / "run.pickle"
    pickle_file.write_bytes(pickle.dumps(run))
    program = (
        "import pickle, sys\n"
        "run = pickle.load(open(sys.argv[1], 'rb'))\n"
        "assert run.publish().written == ()\n"
        "from ptharness.cli.summary import summary_json\n"
        "from ptharness.results import Results\n"
        "assert len(summary_json(Results(run.folder))['checkpoints']) == 3\n"
        "print(sorted({'pandas', 'torch', 'lm_eval'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(pickle_file)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


def test_only_complete_pairs_are_published(tmp_path: Path) -> None:
    run = Run(tmp_path).fill()
    run.store.path("generation", run.of("sft", "add").generation[1].key).unlink()
    run.store.path("score", run.of("base", "pick").scores[0].key).unlink()
    run.store.path("metrics", run.of("grpo", "pick").metrics.key).unlink()
    missing = {("sft", "add"), ("base", "pick"), ("grpo", "pick")}
    result = run.publish()
    assert set(result.incomplete) == missing
    items = pd.read_parquet(run.folder / "items.parquet")
    assert not missing & set(zip(items.checkpoint, items.task, strict=True))
    assert len(list((run.folder / "samples").glob("*/*.parquet"))) == 3
    # The rest comes in without touching what is there.
    before = times(run)
    assert (
        set(run.fill().publish().written)
        == {
            "samples/sft/add.parquet",
            "samples/base/pick.parquet",
            "samples/grpo/pick.parquet",
            "items.parquet",
            "metrics.parquet",
            "documents.parquet",
            "run.json",
        }
        or before == {}
    )
    untouched = "samples/base/add.parquet"
    assert times(run)[untouched] == before[untouched]
    assert len(pd.read_parquet(run.folder / "items.parquet")) == 3 * (66 + 5)


def test_an_empty_evaluation_still_gives_tables(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.publish(failures=[Failure("base", "", "checkpoint", "unreadable")])
    assert len(pd.read_parquet(run.folder / "checkpoints.parquet")) == 3
    assert pq.read_schema(run.folder / "items.parquet").equals(PUBLISHED["items"])
    assert json.loads((run.folder / "run.json").read_text())["failures"][0]["task"] == ""


def test_what_no_longer_belongs_is_removed(tmp_path: Path) -> None:
    run = Run(tmp_path).fill()
    run.publish()
    (run.folder / "samples" / "notes.txt").write_text("mine")
    result = run.publish(
        work=[w for w in run.work if w.checkpoint.name != "grpo" and w.planned is run.add]
    )
    assert set(result.removed) == {
        *(f"samples/{name}/pick.parquet" for name in NAMES),
        "samples/grpo/add.parquet",
    }
    assert not (run.folder / "samples" / "grpo").exists()
    assert (run.folder / "samples" / "notes.txt").exists()
    metrics = pd.read_parquet(run.folder / "metrics.parquet")
    assert set(metrics.checkpoint) == {"base", "sft"}
    assert set(metrics.task) == {"add"}


def test_a_changed_tag_rewrites_that_checkpoint_alone(tmp_path: Path) -> None:
    run = Run(tmp_path).fill()
    run.publish()
    written = run.changed(lineage=lineage(step=400)).publish().written
    assert {name for name in written if name.startswith("samples")} == {
        "samples/grpo/add.parquet",
        "samples/grpo/pick.parquet",
    }
    assert set(samples_of(run, "grpo", "add").step) == {400}


def test_a_damaged_unit_leaves_out_its_pair_and_is_named(tmp_path: Path) -> None:
    run = Run(tmp_path).fill()
    key = run.of("sft", "add").generation[0].key
    run.store.path("generation", key).write_bytes(b"PAR1 rubbish")
    result = run.publish()
    (failure,) = result.failures
    assert (failure.checkpoint, failure.task, failure.stage) == ("sft", "add", "publishing")
    assert key in failure.message
    assert json.loads((run.folder / "run.json").read_text())["failures"] == [failure.to_json()]
    assert not (run.folder / "samples/sft/add.parquet").exists()
    assert len(pd.read_parquet(run.folder / "items.parquet")) == 2 * 66 + 3 * 5


def test_a_damaged_published_file_is_made_anew(tmp_path: Path) -> None:
    run = Run(tmp_path).fill()
    run.publish()
    file = run.folder / "samples/sft/add.parquet"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert run.publish().written == ("samples/sft/add.parquet",)
    # The footer is whole and the data is not: seen once the data is needed.
    file.write_bytes(whole[:4] + bytes(len(whole) // 2) + whole[4 + len(whole) // 2 :])
    (run.folder / "items.parquet").unlink()
    run.publish()
    assert len(samples_of(run, "sft", "add")) == ADD_DOCUMENTS * SAMPLES


def test_two_at_once_both_finish(tmp_path: Path) -> None:
    run = Run(tmp_path, documents=20).fill()
    with ThreadPoolExecutor(4) as pool:
        states = {done.state for done in pool.map(lambda _: run.publish(), range(4))}
    assert len(states) == 1
    assert run.publish().written == ()
    assert set(times(run)) == FILES
    assert len(pd.read_parquet(run.folder / "samples")) == 3 * (20 * SAMPLES + PICK_DOCUMENTS)


def test_stopped_half_way_the_next_call_completes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path).fill()
    written = []

    def killed(path: Path, table: pa.Table, state: str) -> None:
        if len(written) == 4:
            raise KeyboardInterrupt
        written.append(path)
        write_table(path, table, state)

    monkeypatch.setattr(folder, "write_table", killed)
    with pytest.raises(KeyboardInterrupt):
        run.publish()
    monkeypatch.undo()
    assert not (run.folder / "run.json").exists()
    before = times(run)
    run.publish()
    after = times(run)
    assert set(after) == FILES
    assert len(before) == 4
    assert before.items() <= after.items()


# --- run.json --------------------------------------------------------------------------------


def load(checkpoint: str, how: str = "cold") -> dict[str, object]:
    return {"checkpoint": checkpoint, "how": how, "seconds": 1.0, "verified": True, "reason": ""}


def read_run(run: Run) -> dict[str, object]:
    content = json.loads((run.folder / "run.json").read_text())
    assert isinstance(content, dict)
    return content


def test_run_json_says_how_the_numbers_were_made(tmp_path: Path) -> None:
    run = Run(tmp_path).fill()
    result = run.publish(
        engine_loads=[load("base"), load("sft", "swap")],
        timings={"generation_s": 1.23456},
        command=("/opt/somewhere/bin/ptharness", "run", "lineage.yaml"),
    )
    content = read_run(run)
    assert content["state"] == result.state
    assert content["schema_version"] == SCHEMA_VERSION
    assert content["command"] == ["ptharness", "run", "lineage.yaml"]
    assert content["versions"]["ptharness"]
    assert content["versions"]["pyarrow"] == pa.__version__
    assert content["machine"]["cpus"] == os.cpu_count()
    assert content["timings"]["generation_s"] == 1.235
    assert set(content["protocols"]) == {run.add.protocol, run.pick.protocol}
    assert [entry["how"] for entry in content["engine_loads"]] == ["cold", "swap"]
    assert os.uname().nodename not in (run.folder / "run.json").read_text()


def test_loads_are_those_that_made_the_numbers(tmp_path: Path) -> None:
    run = Run(tmp_path).fill()
    run.publish(engine_loads=[load("base"), load("sft", "swap")], command=("x", "first"))
    # Nothing generated: the record of the run that did stays.
    run.publish(command=("x", "second"))
    assert read_run(run)["command"] == ["x", "first"]
    # ... but for what failed this time.
    run.publish(failures=[Failure("sft", "add", "scoring", "no")], command=("x", "third"))
    assert read_run(run)["command"] == ["x", "first"]
    assert len(read_run(run)["failures"]) == 1
    # One checkpoint was generated anew: the others' loads still hold.
    run.publish(engine_loads=[load("sft")], command=("x", "fourth"))
    loads = {e["checkpoint"]: e["how"] for e in read_run(run)["engine_loads"]}
    assert loads == {"base": "cold", "sft": "cold"}
    # Other weights under the same name: its load tells nothing any more.
    run.changed(weights={"base": "others"}).publish()
    assert [e["checkpoint"] for e in read_run(run)["engine_loads"]] == ["sft"]


def test_a_broken_run_json_is_replaced(tmp_path: Path) -> None:
    run = Run(tmp_path).fill()
    run.publish()
    (run.folder / "run.json").write_text("{")
    assert run.publish().written == ("run.json",)
    assert read_run(run)["state"]


# --- hostile input ---------------------------------------------------------------------------


def test_hostile_text_is_kept_as_text(tmp_path: Path) -> None:
    texts = ["\u202egnp.exe", "<script>alert(1)</script>", "\x1b[2J\x00end", "é\U0001f600", ""]
    run = Run(
        tmp_path,
        documents=5,
        samples=1,
        failing=frozenset(),
        text=lambda checkpoint, document, sample: texts[document],
    ).fill()
    run.publish()
    assert list(samples_of(run, "base", "add").completion) == texts


def test_half_a_surrogate_pair_in_the_manifest(tmp_path: Path) -> None:
    stage = Stage(
        "sft",
        ("base",),
        Provenance.OFF_POLICY,
        Interface.TOKEN_TARGETS,
        (Role.CONSOLIDATION,),
        reason="broken \ud800 text",
    )
    broken = Lineage(
        "arith",
        (
            Checkpoint("base", Path("/x"), "path/\udfff"),
            Checkpoint("sft", Path("/y"), "y", stage=stage),
        ),
    )
    run = Run(tmp_path, lineage=broken).fill()
    run.publish(failures=[Failure("base", "", "checkpoint", "\ud800\u202e")])
    table = pd.read_parquet(run.folder / "checkpoints.parquet")
    assert (table.path[0], table.declaration[1]) == ("path/?", "broken ? text")
    assert (run.folder / "run.json").read_bytes().isascii()


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("gsm8k-v1.0", "gsm8k-v1.0"),
        ("../../etc/passwd", "%2E.%2F..%2Fetc%2Fpasswd"),
        ("_hidden", "%5Fhidden"),
        ("a/b (c)", "a%2Fb%20%28c%29"),
        ("CON~", "CON%7E"),
    ],
)
def test_names_become_single_visible_path_parts(name: str, file: str) -> None:
    assert file_name(name) == file


def test_long_names_stay_apart() -> None:
    first, second = file_name("x" * 300), file_name("x" * 300 + "y")
    assert first != second
    assert max(len(first), len(second)) < 200


def test_a_task_with_an_odd_name_is_published_and_found(tmp_path: Path) -> None:
    run = Run(tmp_path, task="_arabic (general)/x").fill()
    run.publish()
    frame = pd.read_parquet(run.folder / "samples")
    assert set(frame.task) == {"_arabic (general)/x", "pick"}


# --- size ------------------------------------------------------------------------------------


def test_two_hundred_thousand_samples(tmp_path: Path) -> None:
    documents, samples = 800, 256
    rights = np.random.default_rng(0).random((documents, samples)) < 0.25
    run = Run(
        tmp_path,
        lineage=Lineage("big", (Checkpoint("base", Path("/x"), "x"),)),
        documents=documents,
        samples=samples,
        failing=frozenset(),
        correct=lambda checkpoint, document, sample: bool(rights[document, sample]),
        text=lambda checkpoint, document, sample: f"{sample % 7}",
    )
    work = [run.of("base", "add")]
    run.generate(work[0])
    run.score(work[0])
    run.publish(work=work)
    items = pd.read_parquet(run.folder / "items.parquet")
    assert (items.c.to_numpy() == rights.sum(axis=1)).all()
    frame = pq.read_table(run.folder / "samples/base/add.parquet", columns=["item", "sample"])
    assert frame.num_rows == documents * samples
    assert metric(run, "base", "add", "pass@1", "strict").value == pytest.approx(rights.mean())
    assert metric(run, "base", "add", "pass@256", "strict").value == rights.any(axis=1).mean()
