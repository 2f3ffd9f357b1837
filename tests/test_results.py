"""What a user opens: plain attributes, subsets, other readers, and errors that help."""

import json
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import ptharness
from ptharness.errors import ResultsError
from ptharness.results import Results
from ptharness.schema import PUBLISHED
from tests.synthetic import ADD_DOCUMENTS, PICK_DOCUMENTS, SAMPLES, Run

ROWS = 3 * (ADD_DOCUMENTS * SAMPLES + PICK_DOCUMENTS)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    made = Run(tmp_path_factory.mktemp("results")).fill()
    made.publish()
    return made


@pytest.fixture
def results(run: Run) -> Results:
    return Results(run.folder)


def test_tables_are_plain_attributes(results: Results) -> None:
    assert len(results.samples) == ROWS
    assert len(results.items) == 3 * (ADD_DOCUMENTS + PICK_DOCUMENTS)
    assert list(results.checkpoints.checkpoint) == ["base", "sft", "grpo"]
    assert set(results.documents.task) == {"add", "pick"}
    assert results.metrics.is_primary.sum() == 6
    assert results.samples is results.samples
    assert isinstance(results, ptharness.Results)


def test_tags_are_categories_in_lineage_order(results: Results) -> None:
    for frame in (results.samples, results.items, results.metrics):
        assert list(frame.checkpoint.cat.categories) == ["base", "sft", "grpo"]
    shares = results.samples.groupby("checkpoint", observed=True).correct.mean()
    assert list(shares.index) == ["base", "sft", "grpo"]


def test_columns_and_filters(results: Results) -> None:
    frame = results.read(
        "samples", columns=["item", "sample"], filters=[("task", "==", "add"), ("sample", "<", 2)]
    )
    assert list(frame.columns) == ["item", "sample"]
    assert len(frame) == 3 * ADD_DOCUMENTS * 2
    either = [
        [("checkpoint", "==", "sft")],
        [("checkpoint", "in", ["grpo"]), ("correct", "==", True)],
    ]
    found = results.read("samples", ["checkpoint", "correct"], either)
    assert set(found.checkpoint) == {"sft", "grpo"}
    assert found[found.checkpoint == "grpo"].correct.all()
    assert len(results.read("items", filters=pc.field("n") > 1)) == 3 * ADD_DOCUMENTS
    assert len(results.read("items", filters=[])) == len(results.items)
    assert results.arrow("metrics", ["value"]).column_names == ["value"]


def test_a_dataset_reads_piecewise(results: Results) -> None:
    dataset = results.dataset("samples")
    assert dataset.count_rows() == ROWS
    batch = next(iter(dataset.to_batches(columns=["completion"])))
    assert batch.num_columns == 1
    assert results.dataset("items").count_rows() == 3 * (ADD_DOCUMENTS + PICK_DOCUMENTS)


def test_plain_pandas_reads_the_folder_alike(run: Run, results: Results) -> None:
    frame = pd.read_parquet(run.folder / "samples")
    assert len(frame) == ROWS
    assert frame.dtypes.astype(str).to_dict() == results.samples.dtypes.astype(str).to_dict()
    assert str(frame.seed.dtype) == "Int64"
    assert str(frame.correct.dtype) == "boolean"


def test_types_do_not_depend_on_what_is_null(run: Run) -> None:
    """A choice task has no completions, a root no method: their columns are typed all the same."""
    files = sorted((run.folder / "samples").glob("*/*.parquet"))
    kinds = {tuple(pd.read_parquet(file).dtypes.astype(str)) for file in files}
    assert len(files) == 6
    assert len(kinds) == 1
    assert all(pq.read_schema(file).equals(PUBLISHED["samples"]) for file in files)


def test_duckdb_reads_the_folder(run: Run) -> None:
    pattern = f"{run.folder}/samples/*/*.parquet"
    rows = duckdb.sql(
        "select checkpoint, count(*), sum(correct::int), max(seed), any_value(role) "
        f"from read_parquet('{pattern}') group by checkpoint order by any_value(stage)"
    ).fetchall()
    assert [row[:2] for row in rows] == [(name, ROWS // 3) for name in ("base", "sft", "grpo")]
    assert rows[2][2] == ADD_DOCUMENTS * SAMPLES + 2
    assert rows[2][3] == 1000 + ADD_DOCUMENTS - 1
    assert rows[2][4] == ["policy_reshaping", "consolidation"]
    (count,) = duckdb.sql(
        f"select count(*) from '{run.folder}/items.parquet' where n > 1"
    ).fetchall()
    assert count == (3 * ADD_DOCUMENTS,)


def test_repr_helps_in_a_notebook(results: Results) -> None:
    text = repr(results)
    assert "base sft grpo" in text
    assert ".samples" in text
    assert ".edges" not in text
    assert len(text.splitlines()) == 4


def test_results_without_samples_still_open(tmp_path: Path) -> None:
    made = Run(tmp_path)
    made.publish()
    results = Results(made.folder)
    assert len(results.samples) == 0
    assert list(results.samples.columns) == PUBLISHED["samples"].names
    assert results.dataset("samples").count_rows() == 0
    assert len(results.metrics) == 0
    assert repr(results)


# --- errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["edges", "verdicts"])
def test_the_analysis_has_not_been_run(results: Results, table: str) -> None:
    with pytest.raises(ResultsError, match="analysis has not been run"):
        getattr(results, table)


def test_the_analysis_tables_open_once_they_are_there(run: Run, tmp_path: Path) -> None:
    made = Run(tmp_path)
    made.publish()
    stamped = pa.table({"q": [0.5]}).replace_schema_metadata({"schema_version": "1"})
    pq.write_table(stamped, made.folder / "edges.parquet")
    assert list(Results(made.folder).edges.q) == [0.5]


def test_unknown_table_and_column(results: Results) -> None:
    with pytest.raises(ResultsError, match=r"no table 'sample' \(did you mean 'samples'"):
        results.read("sample")
    with pytest.raises(ResultsError, match=r"no table '\.\./units'"):
        results.dataset("../units")
    with pytest.raises(ResultsError, match=r"no column 'chekpoint' \(did you mean 'checkpoint'"):
        results.read("items", ["chekpoint"])
    with pytest.raises(ResultsError, match="no column 'tsk'"):
        results.read("items", filters=[("tsk", "==", "add")])
    with pytest.raises(ResultsError, match="no column 'tsk'"):
        results.read("items", filters=[[("n", ">", 1)], [("tsk", "==", "add")]])


@pytest.mark.parametrize(
    "filters", [[("n", "~", 1)], [("n", ">", "many")], [("n",)], 3, pc.field("nope") > 1]
)
def test_filters_that_cannot_be_used(results: Results, filters: object) -> None:
    with pytest.raises(ResultsError, match="check the filters"):
        results.read("items", filters=filters)  # type: ignore[arg-type]


def test_the_parent_folder_names_what_lies_below(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="arith") as raised:
        Results(run.root)
    assert str(run.folder) in str(raised.value)
    with pytest.raises(ResultsError, match=r"not a results folder.*ptharness run"):
        Results(tmp_path)
    with pytest.raises(ResultsError, match="no such folder"):
        Results(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(ResultsError, match="not a results folder"):
        Results(tmp_path / "file")


def test_a_newer_version_says_so(tmp_path: Path) -> None:
    made = Run(tmp_path)
    made.publish()
    stamped = pa.table({"n": [1]}).replace_schema_metadata({"schema_version": "2"})
    pq.write_table(stamped, made.folder / "items.parquet")
    with pytest.raises(ResultsError, match=r"'2'.*upgrade ptharness"):
        Results(made.folder).read("items")
    content = json.loads((made.folder / "run.json").read_text())
    (made.folder / "run.json").write_text(json.dumps(content | {"schema_version": "2"}))
    with pytest.raises(ResultsError, match="upgrade ptharness"):
        Results(made.folder)


@pytest.mark.parametrize("text", ["{", "[]", "\udcff"])
def test_a_broken_run_json_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text, errors="surrogateescape")
    with pytest.raises(ResultsError, match=r"run\.json"):
        Results(tmp_path)


@pytest.mark.parametrize(
    ("table", "remedy"),
    [
        ("provenance", "`ptharness provenance MANIFEST` writes it again"),
        ("distances", "`ptharness distances MANIFEST` writes it again"),
        ("token_likelihoods", "`ptharness distances MANIFEST` writes it again"),
        ("edges", "`ptharness analyze {folder}` writes it again"),
        ("items", "run the evaluation again"),
    ],
)
def test_what_writes_a_damaged_table_is_named(tmp_path: Path, table: str, remedy: str) -> None:
    made = Run(tmp_path)
    made.publish()
    (made.folder / f"{table}.parquet").write_bytes(b"rubbish")
    with pytest.raises(ResultsError, match=f"{table}.parquet: cannot be read") as raised:
        getattr(Results(made.folder), table)
    assert str(raised.value).split("; ")[1].startswith(remedy.format(folder=made.folder))


def test_a_missing_or_damaged_table_is_named(tmp_path: Path) -> None:
    made = Run(tmp_path, documents=3).fill()
    made.publish()
    (made.folder / "items.parquet").unlink()
    (made.folder / "metrics.parquet").write_bytes(b"rubbish")
    results = Results(made.folder)
    with pytest.raises(ResultsError, match=r"items\.parquet: missing; run the evaluation again"):
        results.read("items")
    with pytest.raises(ResultsError, match=r"metrics\.parquet: cannot be read"):
        results.read("metrics")
    (made.folder / "samples" / "sft" / "add.parquet").write_bytes(b"rubbish")
    with pytest.raises(ResultsError, match=r"samples.*cannot be read.*run the evaluation again"):
        results.read("samples")
