"""Every format that TRL's trainers read, and what is said of every other."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ptharness_zoo import TRAJECTORIES

from ptharness.errors import TrajectoryError
from ptharness.trajectories import (
    Message,
    Trajectory,
    choose,
    content_digest,
    read_rows,
    trajectories_of,
)
from ptharness.trajectories.choose import TELL_EVERY


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


ASKED = (Message("user", "2+2"),)
ROWS: dict[str, tuple[dict[str, Any], list[tuple[Any, ...]]]] = {
    "text": ({"prompt": "2+2=", "completion": "4"}, [("2+2=", "4", "given", None)]),
    "messages on both sides": (
        {"prompt": [user("2+2")], "completion": [assistant("4")], "reward": 1.0},
        [(ASKED, "4", "given", 1.0)],
    ),
    "a label": ({"prompt": "q", "completion": "a", "label": False}, [("q", "a", "given", 0.0)]),
    "a dialogue": (
        {"messages": [user("2+2"), assistant("4"), user("3+3"), assistant("6")]},
        [
            (ASKED, "4", "given", None),
            (
                (*ASKED, Message("assistant", "4"), Message("user", "3+3")),
                "6",
                "given",
                None,
            ),
        ],
    ),
    "a pair": (
        {"prompt": "q", "chosen": "a", "rejected": "b"},
        [("q", "a", "chosen", None), ("q", "b", "rejected", None)],
    ),
    "a pair with the prompt in both": (
        {
            "chosen": [user("2+2"), assistant("4")],
            "rejected": [user("2+2"), assistant("5")],
        },
        [(ASKED, "4", "chosen", None), (ASKED, "5", "rejected", None)],
    ),
    "parts of text": (
        {
            "prompt": [{"role": "user", "content": [{"type": "text", "text": "2+2"}]}],
            "completion": "4",
        },
        [(ASKED, "4", "given", None)],
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_row_of_every_format(name: str) -> None:
    row, expected = ROWS[name]
    found = list(trajectories_of(row, "here"))
    assert [(t.prompt, t.completion, t.side, t.reward) for t in found] == expected
    assert {t.where for t in found} == {"here"}


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "nothing known": ({"question": "q", "answer": "a"}, "has `question`, `answer`; a row has"),
    "text alone": ({"text": "q a"}, "does not say where the prompt ends"),
    "no answer": ({"messages": [user("q")]}, "no turn of the role `assistant`"),
    "a turn without a role": ({"messages": [{"content": "q"}]}, "has `role` and `content`"),
    "a number": ({"prompt": 3, "completion": "a"}, "prompt: 3; it is text or a list of messages"),
    "two turns": (
        {"prompt": "q", "completion": [user("a"), assistant("b")]},
        "turns user, assistant; it is one turn",
    ),
    "an image": (
        {"prompt": [{"role": "user", "content": [{"type": "image"}]}], "completion": "a"},
        "only text can be scored",
    ),
    "different beginnings": (
        {"chosen": [user("a"), assistant("x")], "rejected": [user("b"), assistant("x")]},
        "differ before their last turn",
    ),
    "texts without a prompt": ({"chosen": "a", "rejected": "b"}, "text without a `prompt`"),
    "nulls": ({"prompt": None, "completion": None}, "`prompt`, `completion`: null"),
    "half a surrogate pair": (
        {"prompt": "rev \ud800abc", "completion": "a"},
        "prompt: holds half a surrogate pair ('\\ud800' at 4)",
    ),
    "an answer to nothing": ({"messages": [assistant("a")]}, "so nothing was asked"),
    "no turn at all": ({"prompt": [], "completion": "a"}, "prompt: an empty list"),
    "a pair without a prompt": (
        {"chosen": [assistant("a")], "rejected": [assistant("b")]},
        "or have no other",
    ),
    "an endless reward": (
        {"prompt": "q", "completion": "a", "reward": float("nan")},
        "reward: nan; it is a finite number",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_with_its_place(name: str) -> None:
    row, words = WRONG[name]
    with pytest.raises(TrajectoryError) as caught:
        list(trajectories_of(row, "sft.jsonl line 7"))
    assert str(caught.value).startswith("sft.jsonl line 7: ")
    assert words in str(caught.value)


ROWS_ON_DISK = [{"prompt": f"q{i}", "completion": f"a{i}", "reward": float(i)} for i in range(5)]


def write(folder: Path, kind: str) -> Path:
    """The same five rows in a file of every kind."""
    lines = "".join(json.dumps(row) + "\n" for row in ROWS_ON_DISK)
    table = pa.Table.from_pylist(ROWS_ON_DISK)
    path = folder / f"data{kind}"
    if kind == ".jsonl":
        path.write_text(lines)
    elif kind == ".jsonl.gz":
        path.write_bytes(gzip.compress(lines.encode()))
    elif kind == ".parquet":
        pq.write_table(table, path)
    else:
        import datasets

        made: Any = datasets.Dataset(table)
        if kind == "-dictionary":
            made = datasets.DatasetDict({"train": made, "test": made.select([0])})
        made.save_to_disk(path)
    return path


@pytest.mark.parametrize("kind", [".jsonl", ".jsonl.gz", ".parquet", "-dataset", "-dictionary"])
def test_every_kind_of_file(tmp_path: Path, kind: str) -> None:
    rows = list(read_rows(write(tmp_path, kind)))
    assert [row for row, _ in rows] == ROWS_ON_DISK
    assert rows[2][1].endswith(("line 3", "row 3"))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", b'{"prompt": 1}\nnot json\n', "a.jsonl line 2: is not JSON"),
        ("a.jsonl", b"[1, 2]\n", "line 1: is a list"),
        ("a.jsonl", b'{"prompt": "\xff\xfe"}\n', "line 1: is not UTF-8"),
        ("a.jsonl", b"[" * 100_000 + b"\n", "line 1: is not JSON"),
        ("a.jsonl.gz", b"no gzip", "cannot be read"),
        ("a.parquet", b"no parquet", "cannot be read"),
        ("a.csv", b"x,y\n", "of no known kind; legal are .jsonl"),
        ("missing.jsonl", None, "cannot be read"),
    ],
)
def test_a_broken_file_is_named(
    tmp_path: Path, name: str, content: bytes | None, words: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TrajectoryError, match=name) as caught:
        list(read_rows(path))
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("kind", [".parquet", ".arrow"])
def test_lists_of_numbers_are_not_read(tmp_path: Path, kind: str) -> None:
    """Log-probabilities of rollouts; a column that nothing is known of stays to be named."""
    path = tmp_path / f"data{kind}"
    table = pa.table([["q"], [[0.5, 0.25]], [["a"]], ["a"]], ["prompt", "logprobs", "tools", "x.y"])
    if kind == ".parquet":
        pq.write_table(table, path)
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    ((row, _),) = read_rows(path)
    assert row == {"prompt": "q", "tools": ["a"], "x.y": "a"}


def test_a_column_may_be_there_twice(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    names = ["prompt", "completion", "completion"]
    pq.write_table(pa.table([["q"], ["a"], ["b"]], names), path)
    ((row, _),) = read_rows(path)
    assert row == {"prompt": "q", "completion": "b"}


def test_a_large_parquet_file_is_not_in_memory_at_once(tmp_path: Path) -> None:
    path, rows = tmp_path / "data.parquet", 20_000
    texts = [random.randbytes(400).hex() for _ in range(rows)]
    pq.write_table(pa.table({"prompt": texts, "completion": ["a"] * rows}), path)
    size, before = path.stat().st_size, pa.total_allocated_bytes()
    assert pq.ParquetFile(path).num_row_groups == 1
    largest = max(pa.total_allocated_bytes() - before for _ in read_rows(path))
    assert largest < size / 2


def test_a_folder_that_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(TrajectoryError, match=r"holds no \*.arrow file"):
        list(read_rows(tmp_path))


def test_the_digest_is_of_what_is_read(tmp_path: Path) -> None:
    """Of a dictionary of data sets, the split `train`."""
    path = write(tmp_path, "-dictionary")
    first = content_digest(path)
    test = next((path / "test").glob("*.arrow"))
    test.write_bytes(b"other")
    assert content_digest(path) == first
    with pytest.raises(TrajectoryError, match="holds no"):
        content_digest(tmp_path)


def test_a_choice_tells_how_far_it_is(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('{"prompt": "q", "completion": "a"}\n' * (2 * TELL_EVERY + 1))
    told: list[int] = []
    choose(path, 10, 1, told.append)
    assert told == [0, TELL_EVERY, 2 * TELL_EVERY]


def test_a_choice_of_prompts_does_not_depend_on_their_order(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{i % 50}", "completion": f"a{i}"} for i in range(200)]
    first, second = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    first.write_text("\n".join(map(json.dumps, rows)))
    second.write_text("\n".join(map(json.dumps, reversed(rows))))
    chosen = [choose(path, prompts=20, per_prompt=4) for path in (first, second)]
    prompts = [list(dict.fromkeys(t.prompt for t in one)) for one in chosen]
    assert prompts[0] == prompts[1]
    assert len(prompts[0]) == 20
    by_prompt: dict[Any, set[str]] = {}
    for trajectory in chosen[0]:
        by_prompt.setdefault(trajectory.prompt, set()).add(trajectory.completion)
    # All four of each prompt, those too that come before other prompts were dropped.
    assert {len(found) for found in by_prompt.values()} == {4}
    assert len(choose(first, prompts=1000, per_prompt=1)) == 50


def test_an_empty_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n\n")
    with pytest.raises(TrajectoryError, match="is empty"):
        choose(tmp_path / "empty.jsonl", 10, 1)


@pytest.mark.parametrize("path", sorted(TRAJECTORIES.glob("*.jsonl.gz")), ids=lambda p: p.name)
def test_the_bundled_sets_can_be_read(path: Path) -> None:
    found = choose(path, 1000, 100)
    assert len(found) >= 384
    assert all(isinstance(t, Trajectory) and t.completion for t in found)
