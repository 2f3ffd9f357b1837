"""A choice is made again where anything it rests on is new, and only there."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ptharness.errors import TrajectoryError
from ptharness.trajectories import Trajectory, choose, remembered_choice

ROWS: list[dict[str, Any]] = [
    {"prompt": [{"role": "user", "content": f"q{i}"}], "completion": f"a{i}", "answer": i}
    for i in range(6)
]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


class Reader:
    """Counts how often files are read."""

    def __init__(self, cache: Path) -> None:
        self.reads, self.cache = 0, cache

    def __call__(self, path: Path, prompts: int = 4) -> list[Trajectory]:
        return remembered_choice(path, prompts, 2, self.told)

    def told(self, rows: int) -> None:
        self.reads += rows == 0


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reader:
    monkeypatch.setenv("PTHARNESS_CACHE", str(tmp_path / "cache"))
    return Reader(tmp_path / "cache")


def test_a_file_is_read_once(tmp_path: Path, read: Reader) -> None:
    path = write(tmp_path / "data.jsonl", [*ROWS, {"prompt": "text", "completion": "b"}])
    first = read(path, 7)
    assert first == read(path, 7) == choose(path, 7, 2)
    assert read.reads == 1


def test_another_question_or_content_is_read_anew(tmp_path: Path, read: Reader) -> None:
    path = write(tmp_path / "data.jsonl", ROWS)
    assert len(read(path)) == 4
    assert len(read(path, prompts=5)) == 5
    other = write(tmp_path / "other.jsonl", ROWS)
    assert {t.where.split()[0] for t in read(other)} == {str(other)}
    write(path, [{**row, "completion": row["completion"] + "!"} for row in ROWS])
    assert {t.completion[-1] for t in read(path)} == {"!"}
    assert read.reads == 4


def test_what_changes_while_it_is_read_is_not_remembered(tmp_path: Path, read: Reader) -> None:
    path = write(tmp_path / "data.jsonl", ROWS)

    def written_to(rows: int) -> None:
        del rows
        write(path, [*ROWS, {"prompt": "late", "completion": "b"}])

    remembered_choice(path, 4, 2, written_to)
    write(path, ROWS)
    read(path)
    assert read.reads == 1


@pytest.mark.parametrize("content", ["", "[1]", '[{"prompt": "q"}]', "{"])
def test_a_damaged_memory_is_made_anew(tmp_path: Path, read: Reader, content: str) -> None:
    path = write(tmp_path / "data.jsonl", ROWS)
    first = read(path)
    (remembered,) = (read.cache / "trajectories").iterdir()
    remembered.write_text(content)
    assert read(path) == first == read(path)
    assert read.reads == 2


def test_columns_that_are_no_json_are_read_again(tmp_path: Path, read: Reader) -> None:
    path = tmp_path / "data.parquet"
    when = datetime.date(2026, 1, 1)
    columns = {"prompt": ["q"], "completion": ["a"], "when": [when]}
    pq.write_table(pa.table(columns), path)
    for _ in range(2):
        assert [t.columns for t in read(path)] == [{"when": when}]
    assert read.reads == 2


def test_a_file_that_cannot_be_read_is_not_remembered(tmp_path: Path, read: Reader) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text("no JSON\n")
    for _ in range(2):
        with pytest.raises(TrajectoryError, match="line 1: is not JSON"):
            read(path)
    assert read.reads == 0
