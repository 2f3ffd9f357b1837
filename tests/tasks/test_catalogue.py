"""Tasks by name, group, tag and path; the catalogue's index is built once."""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from pathlib import Path

import ptharness_tasks
import pytest

from ptharness.errors import TaskError
from ptharness.tasks.base import Aggregation, Task
from ptharness.tasks.catalogue import LmEvalCatalogue, PathTasks, YamlFolder, lm_eval_tasks_folder
from ptharness.tasks.lm_eval import LmEvalTask
from ptharness.tasks.task_index import TaskIndex, expand, index_folder
from tests.tasks.reference import TASKS

HERE = Path()


def names(tasks: Sequence[Task]) -> list[str]:
    return [task.name for task in tasks]


@pytest.fixture
def fake_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for lm-eval's, with an empty cache."""
    monkeypatch.setenv("PTHARNESS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "lm_eval" / "tasks"
    (folder / "gsm8k").mkdir(parents=True)
    text = (
        "task: gsm8k\ntag: [math, cot]\ndataset_path: openai/gsm8k\nprocess_docs: !function u.f\n"
    )
    (folder / "gsm8k" / "gsm8k.yaml").write_text(text)
    (folder / "gsm8k" / "u.py").write_text("def f(documents): return documents\n")
    (folder / "other.yaml").write_text("include: shared\ntask: other\ndataset_path: x/y\n")
    (folder / "shared").write_text("tag: math\n")
    (folder / "broken.yaml").write_text("task: [\n")
    (folder / "all.yaml").write_text("group: everything\ntask: [math, other]\nnum_fewshot: 3\n")
    return folder


@pytest.fixture
def folder(fake_catalogue: Path) -> YamlFolder:
    return YamlFolder(TASKS, "tests", fallback=LmEvalCatalogue(fake_catalogue))


def test_by_name_tag_and_group(folder: YamlFolder) -> None:
    assert names(folder.find("words", HERE)) == ["words"]
    assert names(folder.find("test_words", HERE)) == ["votes", "words"]
    assert names(folder.find("inner_group", HERE)) == ["sums", "words"]
    assert folder.find("nothing_like_it", HERE) == []


def test_groups_are_kept_with_their_leaves_and_aggregates(folder: YamlFolder) -> None:
    outer, inner = ("outer_group", "inner_group")
    found = {group.name: group.tasks for group in folder.groups(outer, HERE)}
    inline = "outer_group-written_out-inline"
    assert found == {
        outer: ("sums", "words", "pairs", inline, "gsm8k"),
        inner: ("sums", "words"),
        "outer_group-written_out": ("pairs", inline),
    }
    assert next(iter(found)) == outer
    assert folder.groups("test_words", HERE) == folder.groups("words", HERE) == []
    matrix = PathTasks().groups("weighted.yaml", TASKS.parent / "matrix")
    assert [group.aggregations for group in matrix] == [
        (Aggregation("acc"),),
        (Aggregation("acc", None, False), Aggregation("acc_norm", ("none",), True)),
    ]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{weight_by_size: true}", "'weight_by_size': True. has no `metric:`"),
        ("{metric: acc, aggregation: median}", "aggregation: 'median' is not supported"),
        ("{metric: acc, filter_list: 7}", "filter_list: 7 is neither a name nor a list"),
    ],
)
def test_an_aggregate_that_is_none_is_named(entry: str, message: str, tmp_path: Path) -> None:
    text = f"group: g\ntask: [words]\naggregate_metric_list: [{entry}]\n"
    (tmp_path / "g.yaml").write_text(text)
    (tmp_path / "words.yaml").write_text((TASKS / "words.yaml").read_text())
    with pytest.raises(TaskError, match=f"g.yaml: aggregate_metric_list: .*{message}"):
        PathTasks().groups("g.yaml", tmp_path)


def test_a_group_means_its_leaves_through_groups_tags_and_the_catalogue(folder: YamlFolder) -> None:
    tasks = folder.find("outer_group", HERE)
    assert names(tasks) == [
        *("sums", "words", "pairs"),
        "outer_group-written_out-inline",
        "gsm8k",
    ]
    words, inline = tasks[1], tasks[3]
    assert isinstance(words, LmEvalTask)
    assert isinstance(inline, LmEvalTask)
    assert words.source().config["num_fewshot"] == 1
    assert inline.task == "outer_group::written_out::inline"
    assert "group" not in inline.source().config


def test_the_index_equals_lm_evals() -> None:
    from lm_eval.tasks._index import TaskIndex as Theirs

    theirs = Theirs.build([TASKS])
    index = index_folder(TASKS)
    assert set(index.names()) == set(theirs)
    assert {name: sorted(tags) for name, tags in index.tags.items()} == {
        name: sorted(entry.tags) for name, entry in theirs.items() if entry.kind.name == "TAG"
    }
    assert dict(index.tasks) == {
        name: entry.yaml_path for name, entry in theirs.items() if entry.kind.name == "TASK"
    }


def test_the_index_is_built_once_and_said_so(
    fake_catalogue: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = LmEvalCatalogue(fake_catalogue)
    assert names(first.find("math", HERE)) == ["gsm8k", "other"]
    assert capsys.readouterr().err.count("reading lm-eval's task catalogue") == 1
    for path in fake_catalogue.rglob("*.yaml"):
        path.rename(path.with_suffix(".gone"))
    second = LmEvalCatalogue(fake_catalogue)
    assert second.index == first.index
    assert "gsm8k" in {listing.name for listing in second.listings()}
    assert capsys.readouterr().err == ""


def test_a_spoilt_index_is_built_again(fake_catalogue: Path, tmp_path: Path) -> None:
    index = LmEvalCatalogue(fake_catalogue).index
    (file,) = (tmp_path / "cache" / "catalogue").iterdir()
    for content in (b"{}", b"[1]", b"\xff", file.read_bytes()[:40]):
        file.write_bytes(content)
        assert LmEvalCatalogue(fake_catalogue).index == index


def test_finding_a_task_of_a_folder_leaves_the_catalogue_alone(
    folder: YamlFolder, tmp_path: Path
) -> None:
    folder.find("test_words", HERE)
    folder.find("inner_group", HERE)
    PathTasks().find("words.yaml", TASKS)
    assert not (tmp_path / "cache").exists()


def test_settings_of_a_group_reach_its_tasks(fake_catalogue: Path) -> None:
    tasks = LmEvalCatalogue(fake_catalogue).find("everything", HERE)
    assert names(tasks) == ["gsm8k", "other"]
    for task in tasks:
        assert isinstance(task, LmEvalTask)
        assert task.source().config["num_fewshot"] == 3


def test_by_path(tmp_path: Path, fake_catalogue: Path) -> None:
    paths = PathTasks(LmEvalCatalogue(fake_catalogue))
    assert names(paths.find("words.yaml", TASKS)) == ["words"]
    assert names(paths.find(str(TASKS / "words.yaml"), tmp_path)) == ["words"]
    assert names(paths.find("outer_group.yaml", TASKS))[-1] == "gsm8k"
    assert paths.find("words", TASKS) == []
    with pytest.raises(TaskError, match=r"gone\.yaml: there is no such file in"):
        paths.find("gone.yaml", TASKS)
    (tmp_path / "neither.yaml").write_text("dataset_path: json\n")
    with pytest.raises(TaskError, match="defines neither a task nor a group"):
        paths.find("neither.yaml", tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("group: g\ntask: [wrods]\n", "task: 'wrods' is unknown .did you mean 'words'"),
        ("group: g\ntask: [g2]\n---\ngroup: g2\ntask: [g]\n", "contains itself: g -> g2 -> g"),
        ("group: g\ntask: [[words]]\n", "is neither a name nor has"),
    ],
)
def test_a_group_that_makes_no_sense_is_named(text: str, message: str, tmp_path: Path) -> None:
    for number, part in enumerate(text.split("---\n")):
        (tmp_path / f"{number}.yaml").write_text(part)
    (tmp_path / "words.yaml").write_text("task: words\n")
    index = index_folder(tmp_path)
    with pytest.raises(TaskError, match=message):
        expand("g", [lambda: index])


def test_code_from_outside_is_named(fake_catalogue: Path, tmp_path: Path) -> None:
    catalogue = LmEvalCatalogue(fake_catalogue)
    own = tmp_path / "own"
    own.mkdir()
    (own / "own.yaml").write_text("task: own\nprocess_results: !function mine.score\n")
    (own / "mine.py").write_text("")

    def code(tasks: Sequence[Task]) -> tuple[Path, ...]:
        (task,) = tasks
        return task.foreign_code

    assert code(catalogue.find("gsm8k", HERE)) == ()
    assert code(PathTasks(catalogue).find("own.yaml", own)) == ((own / "mine.py").resolve(),)
    trusted = YamlFolder(own, "plugin", fallback=catalogue)
    foreign = YamlFolder(own, "plugin", fallback=catalogue, trusted=False)
    assert code(trusted.find("own", HERE)) == ()
    assert code(foreign.find("own", HERE)) == ((own / "mine.py").resolve(),)


def test_bundled_tasks_name_no_foreign_code() -> None:
    bundled = YamlFolder(Path(ptharness_tasks.__path__[0]), "ptharness")
    tasks = [task for name in bundled.index.tasks for task in bundled.find(name, HERE)]
    assert len(tasks) >= 9
    assert {task.foreign_code for task in tasks} == {()}


def test_listings(folder: YamlFolder) -> None:
    kinds = {listing.name: listing.kind for listing in folder.listings()}
    assert kinds["words"] == "task"
    assert kinds["outer_group"] == "group"
    assert kinds["test_words"] == "tag"
    assert {listing.origin for listing in folder.listings()} == {"tests"}


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="the task folder of plugin is missing"):
        YamlFolder(tmp_path / "gone", "plugin").find("x", HERE)


def test_names_are_fit_for_folders_and_tasks_can_be_sent(folder: YamlFolder) -> None:
    task = LmEvalTask("..a::b (c)/d", TASKS / "words.yaml")
    assert task.name == "a-b-c-d"
    sent = pickle.loads(pickle.dumps(folder.find("inner_group", HERE)))
    assert sent == folder.find("inner_group", HERE)


def test_without_lm_eval_the_catalogue_is_empty(tmp_path: Path) -> None:
    assert LmEvalCatalogue(tmp_path / "gone").index == TaskIndex()


def test_the_real_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name of lm-eval's own: read once (some 20 s), then from the cache."""
    monkeypatch.setenv("PTHARNESS_CACHE", os.environ.get("PTHARNESS_TEST_CACHE", str(tmp_path)))
    catalogue = LmEvalCatalogue()
    assert len(catalogue.index.tasks) > 13_000
    assert names(catalogue.find("gsm8k", HERE)) == ["gsm8k"]
    assert len(catalogue.find("mmlu", HERE)) == 57
    assert "arc_challenge" in names(catalogue.find("ai2_arc", HERE))
    (humaneval,) = catalogue.find("humaneval", HERE)
    assert humaneval.foreign_code == ()
    tasks = lm_eval_tasks_folder()
    assert tasks is not None
    assert catalogue.index.tasks["gsm8k"].is_relative_to(tasks)
