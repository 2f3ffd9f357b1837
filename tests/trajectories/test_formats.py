"""Every format that TRL's trainers read, and what is said of every other."""

from __future__ import annotations

import gzip
import importlib
import json
import math
import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
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
    "a call of a tool": (
        {"messages": [user("q"), {**assistant(""), "tool_calls": [{"type": "function"}]}]},
        "messages[1]: has `tool_calls`, which a chat template may make text of",
    ),
    "a call of a tool without content": (
        {"messages": [user("q"), {"role": "assistant", "content": None, "tool_calls": [{}]}]},
        "messages[1]: has `tool_calls`, which a chat template may make text of",
    ),
    "a call of a tool in the prompt": (
        {"prompt": [user("q"), {**assistant(""), "tool_calls": [{}]}], "completion": "a"},
        "prompt[1]: has `tool_calls`",
    ),
    "reasoning": (
        {"prompt": [user("q")], "completion": [{**assistant("a"), "reasoning_content": "hm"}]},
        "completion[0]: has `reasoning_content`",
    ),
    "thinking in a pair": (
        {"prompt": [user("q")], "chosen": [{**assistant("a"), "thinking": "hm"}], "rejected": "b"},
        "chosen[0]: has `thinking`",
    ),
    "tools": (
        {"messages": [user("q"), assistant("a")], "tools": [{"type": "function"}]},
        "has `tools`, which a chat template may make text of, and only `role` and `content` are "
        "scored; give such rows as text",
    ),
    "arguments of the template": (
        {"messages": [user("q"), assistant("a")], "chat_template_kwargs": {"thinking": True}},
        "has `chat_template_kwargs`",
    ),
    "an integer that is no float": (
        {"prompt": "q", "completion": "a", "reward": 10**400},
        "it is a finite number",
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


def test_columns_that_hold_nothing_refuse_nothing() -> None:
    """Parquet writes every key of every message, and tools as JSON."""
    answer = {**assistant("a"), "tool_calls": None, "reasoning_content": "", "thinking": None}
    row = {"messages": [user("q"), answer], "tools": "[]", "chat_template_kwargs": {}}
    (found,) = trajectories_of(row, "here")
    assert found.completion == "a"
    text = {"prompt": "q", "completion": "a", "tools": ["f"]}
    assert next(trajectories_of(text, "here")).columns == {"tools": ["f"]}


def test_a_reward_function_gets_every_column() -> None:
    others = {
        "answer": ["x", {"y": 1}],
        "nothing": None,
        "long": "y" * 5000,
        "numbers": list(range(1000)),
        "half": math.inf,
        "huge": 10**400,
        "text": "q a",
    }
    row = {"prompt": "q", "completion": "a", **others, "prompts": 1, "completion_ids": [1]}
    (found,) = trajectories_of({**row, "logprobs": [0.5] * 1001}, "here")
    assert found.columns == others


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


WHOLE = gzip.compress(b'{"prompt": "q"}\n' + random.Random(0).randbytes(400).hex().encode())
DAMAGED = WHOLE[:12] + b"\xff\xff" + WHOLE[14:]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", b'{"prompt": 1}\nnot json\n', "a.jsonl line 2: is not JSON"),
        ("a.jsonl", b"[1, 2]\n", "line 1: is a list"),
        ("a.jsonl", b'{"prompt": "\xff\xfe"}\n', "line 1: is not UTF-8"),
        ("a.jsonl", b"[" * 100_000 + b"\n", "line 1: is not JSON"),
        ("a.jsonl.gz", b"no gzip", "line 1: cannot be read"),
        ("a.jsonl.gz", DAMAGED, "line 1: cannot be read: Error -3 while decompressing"),
        ("a.jsonl.gz", WHOLE[:-20], "line 2: cannot be read"),
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


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (pa.array([b"a", b"\xff\xfe"]).view(pa.string()), "row 2: cannot be read: 'utf-8' codec"),
        (pa.array([0, 10**9], pa.int32()).view(pa.date32()), "row 2: cannot be read: "),
    ],
    ids=["text", "date"],
)
@pytest.mark.parametrize("kind", [".parquet", ".arrow"])
def test_a_value_that_cannot_be_read_is_named_by_its_row(
    tmp_path: Path, column: Any, words: str, kind: str
) -> None:
    path = tmp_path / f"data{kind}"
    write_columns(path, pa.table([["q", "q"], ["a", "b"], column], ["prompt", "completion", "x"]))
    with pytest.raises(TrajectoryError) as caught:
        list(read_rows(path))
    assert str(caught.value).startswith(f"{path} {words}")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "x.jsonl"
    os.mkfifo(pipe)
    os.mkfifo(tmp_path / "part.arrow")
    for path, named in ((pipe, pipe), (tmp_path, tmp_path / "part.arrow")):
        for reading in (content_digest, lambda path: list(read_rows(path))):
            with pytest.raises(TrajectoryError) as caught:
                reading(path)
            assert str(caught.value) == f"{named}: cannot be read: not a regular file"


def write_columns(path: Path, table: pa.Table) -> None:
    if path.suffix == ".parquet":
        pq.write_table(table, path)
        return
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


@pytest.mark.parametrize("kind", [".parquet", ".arrow"])
def test_long_lists_of_numbers_are_not_read(tmp_path: Path, kind: str) -> None:
    """Log-probabilities of rollouts; the numbers of a puzzle stay."""
    path = tmp_path / f"data{kind}"
    columns = {
        "prompt": ["q"],
        "logprobs": [[0.5] * 1001],
        "x.y": [[1, 2]],
        "x": [[3]],
        "tools": [["a"]],
    }
    write_columns(path, pa.table(columns))
    ((row, _),) = read_rows(path)
    assert row == {"prompt": "q", "tools": ["a"], "x.y": [1, 2], "x": [3]}


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


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_a_choice_does_not_depend_on_the_order_of_the_file(tmp_path: Path) -> None:
    """Nor does it take the first, which are the earliest of an RL stage's rollouts."""
    rows = [
        {"prompt": f"q{i % 50}", "completion": f"a{i // 50 % 7}", "reward": i // 50 % 2, "step": i}
        for i in range(1000)
    ]
    rows += [{**row, "step": 0} for row in rows]
    shuffled = random.Random(0).sample(rows, len(rows))
    orders = [rows, rows[::-1], shuffled]
    chosen = [
        choose(write_rows(tmp_path / "data.jsonl", order), prompts=20, per_prompt=4)
        for order in orders
    ]
    told = [[(t.prompt, t.completion, t.reward, t.columns) for t in one] for one in chosen]
    assert told[0] == told[1] == told[2]
    assert len({prompt for prompt, *_ in told[0]}) == 20
    assert len(told[0]) == 80
    steps = [t.columns["step"] for t in chosen[0] if t.columns["step"]]
    assert 300 < np.mean(steps) < 700
    assert len(choose(tmp_path / "data.jsonl", prompts=1000, per_prompt=1)) == 50


@pytest.mark.parametrize("counted", [10_000, 2], ids=["counted", "more than are counted"])
def test_copies_of_a_text_count_as_often_as_they_occur(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: int
) -> None:
    """Three of twelve rows, of which six are equal: how many of these is hypergeometric."""
    module = importlib.import_module("ptharness.trajectories.choose")
    monkeypatch.setattr(module, "MOST_COUNTED", counted)
    texts = ["a", "same", "b", "same", "c", "same", "d", "same", "e", "same", "f", "same"]
    rows = [{"prompt": f"q{i}", "completion": text} for i in range(2000) for text in texts]
    drawn: dict[Any, int] = {}
    for one in choose(write_rows(tmp_path / "data.jsonl", rows), 2000, 3):
        drawn[one.prompt] = drawn.get(one.prompt, 0) + (one.completion == "same")
    found = np.bincount(list(drawn.values()), minlength=4) / 2000
    expected = np.array([20, 90, 90, 20]) / 220
    assert np.all(np.abs(found - expected) < 4 * np.sqrt(expected * (1 - expected) / 2000))


def test_a_pair_is_chosen_as_a_whole(tmp_path: Path) -> None:
    rows = [{"prompt": "q", "chosen": f"a{i}", "rejected": f"b{i}"} for i in range(50)]
    chosen = choose(write_rows(tmp_path / "data.jsonl", rows), prompts=1, per_prompt=5)
    assert [t.side for t in chosen] == ["chosen", "rejected"] * 5
    numbers = [t.completion[1:] for t in chosen]
    assert numbers[::2] == numbers[1::2]
    assert len(set(numbers)) == 5


def test_an_empty_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n\n")
    with pytest.raises(TrajectoryError, match="is empty"):
        choose(tmp_path / "empty.jsonl", 10, 1)


@pytest.mark.parametrize("path", sorted(TRAJECTORIES.glob("*.jsonl.gz")), ids=lambda p: p.name)
def test_the_bundled_sets_can_be_read(path: Path) -> None:
    found = choose(path, 1000, 100)
    assert len(found) >= 384
    assert all(isinstance(t, Trajectory) and t.completion for t in found)
