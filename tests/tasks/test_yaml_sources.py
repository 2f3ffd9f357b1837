"""Reading a task's YAML without running it, and what its digest depends on."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ptharness.errors import TaskError
from ptharness.tasks.yaml_sources import (
    FunctionReference,
    Source,
    assemble,
    check_size,
    code_files,
    parse_yaml,
    read_config,
)

TASK = """\
include: common.yaml
task: mine
dataset_path: json
dataset_kwargs: {data_files: {test: items/a.jsonl}}
doc_to_text: question
"""
COMMON = """\
doc_to_text: overlaid
process_docs: !function code.prepare
metric_list:
  - {metric: acc, aggregation: !function other.add_up}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "items").mkdir()
    (tmp_path / "items" / "a.jsonl").write_text('{"question": "q"}\n')
    (tmp_path / "mine.yaml").write_text(TASK)
    (tmp_path / "common.yaml").write_text(COMMON)
    (tmp_path / "code.py").write_text("raise SystemExit('it ran')\n")
    (tmp_path / "other.py").write_text("raise SystemExit('it ran')\n")
    return tmp_path


def source(folder: Path, name: str = "mine.yaml") -> Source:
    config, files = read_config(folder / name)
    return assemble(config, files, "mine")


def test_includes_functions_and_data_are_found_and_nothing_runs(folder: Path) -> None:
    found = source(folder)
    assert found.config["doc_to_text"] == "question"
    assert [path.name for path in found.yamls] == ["mine.yaml", "common.yaml"]
    assert [path.name for path in found.code] == ["code.py", "other.py"]
    data = (folder / "items" / "a.jsonl").resolve()
    assert found.data == {"dataset_kwargs.data_files.test": (data,)}
    assert found.config["dataset_kwargs"] == {"data_files": {"test": str(data)}}
    assert found.declared["dataset_kwargs"] == {"data_files": {"test": "items/a.jsonl"}}


def test_merging_equals_lm_evals(folder: Path) -> None:
    from lm_eval.tasks._yaml_loader import load_yaml

    theirs = load_yaml(folder / "mine.yaml", resolve_func=False)
    ours, _ = read_config(folder / "mine.yaml")
    assert list(ours) == list(theirs)
    assert {k: v for k, v in ours.items() if "function" not in str(v).lower()} == {
        k: v for k, v in theirs.items() if "code.prepare" not in str(v) and "other" not in str(v)
    }
    assert ours["process_docs"] == FunctionReference("code.prepare", folder.resolve())


Change = Callable[[Path], object]
CHANGES: dict[str, Change] = {
    "setting": lambda f: (f / "mine.yaml").write_text(TASK + "num_fewshot: 1\n"),
    "included setting": lambda f: (f / "common.yaml").write_text(COMMON + "repeats: 2\n"),
    "data": lambda f: (f / "items" / "a.jsonl").write_text('{"question": "r"}\n'),
    "code": lambda f: (f / "code.py").write_text("raise SystemExit('it ran again')\n"),
    "code of a metric": lambda f: (f / "other.py").write_text("\n"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_digest_changes_with(change: Change, folder: Path) -> None:
    before = source(folder).digest()
    assert source(folder).digest() == before
    change(folder)
    assert source(folder).digest() != before


def test_the_digest_does_not_depend_on_the_place(folder: Path, tmp_path: Path) -> None:
    before = source(folder).digest()
    moved = tmp_path.with_name(f"{tmp_path.name}-moved")
    folder.rename(moved)
    assert source(moved).digest() == before


def test_data_is_looked_for_beside_the_yaml_and_then_in_the_working_folder(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    working = tmp_path_factory.mktemp("working")
    (working / "items").mkdir()
    (working / "items" / "a.jsonl").write_text("{}\n")
    monkeypatch.chdir(working)
    key = "dataset_kwargs.data_files.test"
    assert source(folder).data[key] == ((folder / "items" / "a.jsonl").resolve(),)
    (folder / "items" / "a.jsonl").unlink()
    assert source(folder).data[key] == ((working / "items" / "a.jsonl").resolve(),)


def test_patterns_lists_and_folders_of_data(folder: Path) -> None:
    (folder / "items" / "b.jsonl").write_text("{}\n")
    text = TASK.replace("{test: items/a.jsonl}", "[items/a.jsonl, 'items/*.jsonl']")
    (folder / "mine.yaml").write_text(text)
    files = source(folder).data["dataset_kwargs.data_files"]
    assert [path.name for path in files] == ["a.jsonl", "a.jsonl", "b.jsonl"]
    (folder / "mine.yaml").write_text(
        TASK.replace("data_files: {test: items/a.jsonl}", "data_dir: items")
    )
    found = source(folder)
    assert found.config["dataset_kwargs"]["data_dir"] == str((folder / "items").resolve())
    assert len(found.data["dataset_kwargs.data_dir"]) == 2
    (folder / "mine.yaml").write_text("task: mine\ndataset_path: ./items\n")
    assert source(folder).config["dataset_path"] == str((folder / "items").resolve())


def test_files_of_a_hub_data_set_and_addresses_are_left_alone(folder: Path) -> None:
    hub = TASK.replace("dataset_path: json", "dataset_path: someone/set")
    (folder / "mine.yaml").write_text(hub)
    assert source(folder).config["dataset_kwargs"]["data_files"] == {"test": "items/a.jsonl"}
    address = TASK.replace("items/a.jsonl", "https://example.org/a.jsonl")
    (folder / "mine.yaml").write_text(address)
    assert source(folder).data == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            TASK.replace("a.jsonl", "gone.jsonl"),
            r"mine.yaml: dataset_kwargs.data_files.test: items/",
        ),
        (
            TASK.replace("items/a.jsonl", "items/*.csv"),
            r"data_files.test: items/\*.csv: there",
        ),
        (
            TASK.replace("common.yaml", "gone.yaml"),
            r"mine.yaml: include: gone.yaml: there is",
        ),
        (TASK.replace("common.yaml", "mine.yaml"), r"include: .* mine.yaml -> mine.yaml"),
        ("task: [unclosed\n", r"mine.yaml: not valid YAML: .*line 2"),
        ("- a list\n", r"mine.yaml: a task file holds keys and values, not list"),
        ("", r"mine.yaml: a task file holds keys and values, not NoneType"),
        ("task: !!python/object/apply:os.system ['x']\n", r"not valid YAML: could not determine"),
    ],
)
def test_what_is_wrong_is_named(text: str, message: str, folder: Path) -> None:
    (folder / "mine.yaml").write_text(text)
    with pytest.raises(TaskError, match=message) as raised:
        source(folder)
    assert "\n" not in str(raised.value)


def test_endless_aliases_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.yaml"
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x]"]
    rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 8)}]" for i in range(1, 12)]
    path.write_text("\n".join(rows))
    with pytest.raises(TaskError, match=r"bomb.yaml: its aliases expand to more than 1,000,000"):
        check_size(parse_yaml(path), path)
    path.write_text("a: &a [*a]\n")
    with pytest.raises(TaskError, match="its aliases expand"):
        check_size(parse_yaml(path), path)


def test_code_that_is_not_beside_the_yaml_is_named_too(tmp_path: Path) -> None:
    config: dict[str, Any] = {
        "one": FunctionReference("os.system", tmp_path),
        "two": [{"deep": FunctionReference("pyarrow.parquet.read_table", tmp_path)}],
        "three": FunctionReference("json.decoder.scan", tmp_path),
        "four": FunctionReference("nowhere.to_be_found", tmp_path),
    }
    system, parquet, decoder, nowhere = code_files(config)
    assert system == Path("os.py")
    assert parquet.is_file()
    assert re.search(r"pyarrow/parquet(\.py)?", parquet.as_posix())
    assert decoder.name == "decoder.py"
    assert nowhere == Path("nowhere.py")


def test_reading_imports_nothing_heavy(folder: Path) -> None:
    import subprocess

    program = (
        "import sys; from pathlib import Path\n"
        "from ptharness.tasks.catalogue import PathTasks\n"
        "from ptharness.tasks.base import TaskSettings\n"
        "(task,) = PathTasks().find('mine.yaml', Path(sys.argv[1]))\n"
        "task.inputs_digest(TaskSettings()); task.foreign_code\n"
        "heavy = {'lm_eval', 'datasets', 'torch', 'transformers', 'pandas'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=True
    )
    assert run.stdout == "[]\n"
