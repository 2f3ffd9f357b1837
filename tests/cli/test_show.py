"""`ptharness show`: lists, one item side by side, and what was gained or lost."""

from __future__ import annotations

import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ptharness.cli import main
from ptharness.cli.differences import bounded, marked, one_line
from ptharness.errors import ResultsError
from ptharness.item_view import ItemView
from ptharness.results import Results
from ptharness.schema import DISTANCES, TOKEN_LIKELIHOODS
from tests.synthetic import Run, add_correct

HOSTILE = "\x1b[2J[bold]up[/bold]\u202e <b>\u200b"


def text(checkpoint: str, document: int, sample: int) -> str:
    """Completions as models write them: hostile ones, long ones, and working."""
    if document == 1:
        return HOSTILE + checkpoint
    if document == 2:
        return "so " * 900 + f"{checkpoint}, sample {sample}"
    answer = document if add_correct(checkpoint, document, sample) else 99
    return f"{document} + 0 = {answer}, so the answer is {answer}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """base -> sft -> grpo on `add` (66 items, 4 samples, one item not scored) and `pick`."""
    run = Run(tmp_path_factory.mktemp("results"), text=text).fill()
    run.publish()
    return run.folder


def shown(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["show", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def values(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    return json.loads(shown(capsys, *arguments, "--json"))


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["show", *map(str, arguments)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_without_a_task_the_tasks_are_listed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shown(capsys, folder)
    assert re.search(r"add +generate +66 +3", out)
    assert re.search(r"pick +loglikelihood +5 +3", out)
    tasks = values(capsys, folder)["tasks"]
    assert [(task["task"], task["items"]) for task in tasks] == [("add", 66), ("pick", 5)]


def test_a_tasks_items_are_listed_with_counts(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shown(capsys, folder, "--task", "add")
    right = [
        sum(add_correct(name, 5, sample) for sample in range(4)) for name in ("base", "sft", "grpo")
    ]
    row = re.search(r"5-\w{8} +5\+0= +5 +(\d)/4 +(\d)/4 +(\d)/4", out)
    assert row is not None
    assert [int(c) for c in row.groups()] == right
    assert "40 of 66 items; --all lists them" in out
    out = shown(capsys, folder, "--task", "add", "--all", "--checkpoints", "grpo")
    assert "65-" in out
    assert "base" not in out
    found = values(capsys, folder, "--task", "add", "--checkpoints", "grpo,base")
    assert len(found["items"]) == 66
    assert list(found["items"][0]["checkpoints"]) == ["grpo", "base"]
    assert found["items"][0]["prompt"] == "0+0="


def test_completions_stand_side_by_side_with_marks(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shown(capsys, folder, "--task", "add", "--item", 10, "--checkpoints", "base,grpo")
    assert "prompt  10+0=" in out
    assert "gold    10\n" in out
    assert re.search(r"right   base 1/4  grpo 4/4", out)
    heads = [" ".join(line.split()) for line in out.splitlines()]
    assert "3 of 4, wrong, answer 10 4 of 4, right, answer 10" in heads
    assert "so the answer is [-99-]{+10+}" in out
    assert "[-...-] in base only, {+...+} not in base" in out
    out = shown(capsys, folder, "--task", "add", "--item", 10)
    assert "3 of 4, right, answer 10" in out
    assert "1 of 4, wrong, answer 10" in out


def test_json_has_every_sample_whole(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = values(capsys, folder, "--task", "add", "--item", 2)
    assert (found["task"], found["gold"], found["metadata"]) == ("add", "2", {})
    assert [side["checkpoint"] for side in found["checkpoints"]] == ["base", "sft", "grpo"]
    samples = found["checkpoints"][0]["samples"]
    assert [sample["sample"] for sample in samples] == [0, 1, 2, 3]
    assert samples[3]["completion"] == text("base", 2, 3)
    assert samples[1]["finish_reason"] == "stop"


def test_long_completions_are_bounded(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (folder, "--task", "add", "--item", 2)
    out = shown(capsys, *words)
    assert "characters; --full" in out
    assert "base, sample 3" in "".join(out.split("\n"))
    assert out.count("so ") < 2000
    full = shown(capsys, *words, "--full")
    assert "--full" not in full
    assert full.count("so") >= 12 * 900


def test_hostile_text_is_shown_as_it_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for mode in ([], ["--full"], ["--json"]):
        out = shown(capsys, folder, "--task", "add", "--item", 1, *mode)
        assert not set("\x1b\u202e\u200b") & set(out)
        assert "[bold]up[/bold]" in out
    assert r"\x1b[2J[bold]up[/bold]\u202e" in shown(capsys, folder, "--task", "add", "--item", 1)


def test_what_the_scorer_gave_up_on_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shown(capsys, folder, "--task", "add", "--item", 3, "--checkpoints", "sft")
    assert "scorer gave up: time limit of 60 s" in " ".join(out.split())
    assert "cut off" in out
    assert "[-...-]" not in out  # nothing to compare with


def test_what_a_filter_made_of_all_samples_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(tmp_path, documents=8, vote=True).fill()
    run.publish()
    out = shown(capsys, run.folder, "--task", "add", "--item", 4)
    assert "grpo, all samples together: exact_match (vote) 1\n" in out
    assert "base, all samples together: exact_match (vote) 0\n" in out


def test_checkpoints_that_were_asked_differently_are_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read = ItemView.samples

    def changed(view: ItemView, checkpoint: str, task: str, item: str) -> list[dict[str, Any]]:
        rows = read(view, checkpoint, task, item)
        return [{**row, "prompt_digest": checkpoint == "sft"} for row in rows]

    monkeypatch.setattr(ItemView, "samples", changed)
    out = shown(capsys, folder, "--task", "add", "--item", 4)
    assert "asked   differently: base grpo / sft; the prompt is that of the first" in out


def test_a_checkpoint_without_the_task_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(tmp_path, documents=4).fill()
    run.publish(work=[run.of("base", "add"), run.of("sft", "add"), run.of("sft", "pick")])
    assert "checkpoint 'base' was not evaluated on task 'pick' (these were: sft)" in refused(
        capsys, run.folder, "--task", "pick", "--checkpoints", "base"
    )
    assert "were not both evaluated on task 'pick'" in refused(
        capsys, run.folder, "--task", "pick", "--gained", "base", "sft"
    )


def test_choices_have_likelihoods_and_the_choice_made(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shown(capsys, folder, "--task", "pick", "--item", 1)
    assert re.search(r"choice 0(: 0)? +-1\.500 \* +-1\.500 \* +-1\.500 \*", out)
    assert re.search(r"choice 1 +-2\.500 +-2\.667 +-2\.500", out)
    assert re.search(r"choice made +0 \(wrong\) +0 \(wrong\)", out)
    side = values(capsys, folder, "--task", "pick", "--item", 1)["checkpoints"][0]
    assert side["samples"][0]["choice_logprobs_nats"][0] == -1.5


TOKENS = {
    "lineage": "made-up",
    "target": "base",
    "task": "add",
    "prompt": "2 + 0 =\x1b[2J",
    "divergences_nats": None,
}


@pytest.fixture
def judged(folder: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[str]:
    """The item `add` 2, of which three samples of sft were judged by base, and one of grpo."""
    item = values(capsys, folder, "--task", "add", "--item", 2)["item"]
    same = {
        "tokens": ["\u6f22", "a\n", HOSTILE, "z"],
        "source_logprobs_nats": [-0.1, -0.1, -0.1, -0.1],
        "target_logprobs_nats": [-0.1, -0.9, -7.0, -0.2],
        "nats": 7.7,
    }
    exact = {
        "tokens": ["a", "b"],
        "source_logprobs_nats": [-0.1, -0.1],
        "target_logprobs_nats": [-0.1, -0.1],
        "divergences_nats": [0.0, 2.0],
        "nats": 0.0,
    }
    rows = [
        {**TOKENS, **same, "source": "sft", "item": item, "sample": 2},
        {**TOKENS, **exact, "target": "sft", "source": "grpo", "item": item, "sample": 0},
        {**TOKENS, **exact, "source": "sft", "item": item, "sample": 1},
        {**TOKENS, **same, "source": "sft", "item": item, "sample": 0},
    ]
    file = folder / "token_likelihoods.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=TOKEN_LIKELIHOODS), file)
    yield item
    file.unlink()


def test_tokens_stand_over_how_far_they_part(
    folder: Path, judged: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shown(capsys, folder, "--task", "add", "--item", judged, "--tokens")
    lines = out.splitlines()
    assert "\x1b" not in out
    assert "\u202e" not in out
    first = lines.index("sft, 2 of 3: 7.7 nats less likely under base")
    assert lines[first + 1].startswith("  \u6f22a\u23ce")
    # The first token is two columns wide and no less likely; the second is, by 0.8 nats.
    assert lines[first + 2] == "    \u2582\u2582"
    assert set(lines[first + 4].strip()) == {"\u2588"}, "6.9 nats, and the last token 0.1"
    second = lines.index("sft, 1 of 3: as likely under base, KL along it 2.0 nats")
    assert lines[second + 1 : second + 3] == ["  ab", "   \u2584"]
    assert "grpo, 1 of 1: as likely under sft, KL along it 2.0 nats" in lines
    chosen = shown(
        capsys, *(folder, "--task", "add", "--item", judged, "--tokens", "--checkpoints", "grpo")
    )
    assert "\nsft, " not in chosen
    assert "KL divergence of the next token" in chosen
    rows = values(capsys, folder, "--task", "add", "--item", judged, "--tokens")["samples"]
    assert [(row["source"], row["sample"]) for row in rows] == [
        *(("sft", 0), ("sft", 1), ("sft", 2), ("grpo", 0))
    ]


def test_an_item_that_was_not_judged_says_how_to_have_it(
    folder: Path, judged: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = refused(capsys, folder, "--task", "add", "--item", 3, "--tokens")
    assert "was judged by a parent; `ptharness distances` takes the first 64 documents" in told
    told = refused(capsys, folder, "--task", "add", "--tokens")
    assert "--tokens shows one item; name it with --item" in told
    (folder / "token_likelihoods.parquet").rename(folder / "away")
    told = refused(capsys, folder, "--task", "add", "--item", judged, "--tokens")
    assert "`ptharness distances MANIFEST` writes it" in told
    (folder / "away").rename(folder / "token_likelihoods.parquet")


def test_why_a_checkpoint_has_no_judged_tokens_is_said(
    folder: Path, judged: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (folder, "--task", "add", "--item", judged, "--tokens", "--checkpoints")
    assert "base has no parent" in refused(capsys, *words, "base")
    assert "base: has no parent" in shown(capsys, *words, "base,sft")
    pair = {"source": "grpo", "target": "sft", "relation": "child", "scope": "task", "task": "add"}
    counts = {"lineage": "made-up", "tasks": 1, "items": 0, "samples": 0}
    table = pa.Table.from_pylist([{**pair, **counts}], schema=DISTANCES)
    pq.write_table(table, folder / "distances.parquet")
    assert "grpo: has another vocabulary than its parent" in shown(capsys, *words, "sft,grpo")
    (folder / "distances.parquet").unlink()


@pytest.mark.parametrize("direction", ["gained", "lost"])
def test_what_turned_over_is_listed_beside_what_luck_shows(
    direction: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = ("base", "sft") if direction == "gained" else ("sft", "base")
    found = values(capsys, folder, f"--{direction}", *pair, "--task", "add")

    def solved(name: str, document: int) -> int:
        return sum(add_correct(name, document, sample) for sample in range(4))

    # The item that sft's scorer gave up on counts as not solved.
    expected = {d for d in range(66) if solved("sft", d) and not solved("base", d) and d != 3}
    assert {int(item["item"].split("-")[0]) for item in found["items"]} == expected
    (task,) = found["tasks"]
    assert task[direction] == len(expected) > 0
    assert (task["items"], task["k"]) == (66, 2)  # two runs of 2 attempts from 4 samples
    new = task["within_k"]["new" if direction == "gained" else "lost"]["estimate"]
    assert new > task["within_k"]["same_model_new"]["estimate"]
    out = shown(capsys, folder, f"--{direction}", *pair)
    assert re.search(rf"add +66 +{len(expected)} +[\d.]+ +[\d.]+ +\? +2", out)
    assert "undetermined: n too small" in out
    assert re.search(r"pick +5 +\d +- +- +- +-", out)
    assert "one answer per item" in out


def test_certified_items_are_marked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def correct(checkpoint: str, document: int, sample: int) -> bool:
        return checkpoint != "base" and document < 4

    run = Run(tmp_path, documents=8, samples=90, correct=correct, failing=frozenset()).fill()
    run.publish()
    found = values(capsys, run.folder, "--gained", "base", "sft", "--task", "add")
    assert [item["certified"] for item in found["items"]] == [True] * 4
    out = shown(capsys, run.folder, "--gained", "base", "sft", "--task", "add")
    assert re.search(r"add +8 +4 +4\.0 +0\.0 +4 +16", out)
    assert len(re.findall(r"0/90 +90/90 +certified", out)) == 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--task", "ad", "--item", "1"], "no task 'ad' (did you mean 'add'?)"),
        (["--item", "1"], "2 tasks have an item '1': add, pick; name one with --task"),
        (["--task", "add", "--item", "66"], "no item '66' in task 'add'; it has 66, 0-"),
        (["--item", "x"], "no item 'x' in any task; `ptharness show` with --task"),
        (["--task", "add", "--checkpoints", "base,sfft"], "no checkpoint 'sfft' (did you mean"),
        (["--task", "add", "--checkpoints", ","], "--checkpoints names none"),
        (["--gained", "base", "gpro"], "no checkpoint 'gpro' (did you mean 'grpo'?)"),
        (["--gained", "sft", "sft"], "'sft' is compared with itself"),
        (["--gained", "base", "sft", "--lost", "base", "sft"], "not both"),
        (["--lost", "base", "sft", "--item", "1"], "--gained and --lost name the checkpoints"),
    ],
)
def test_wrong_names_are_one_line(
    words: list[str], said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(capsys, folder, *words)


def test_items_by_the_beginning_of_their_id(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    item = values(capsys, folder, "--task", "add")["items"][12]["item"]
    assert values(capsys, folder, "--task", "add", "--item", item[:6])["item"] == item
    assert values(capsys, folder, "--task", "add", "--item", "12")["item"] == item
    error = refused(capsys, folder, "--task", "pick", "--item", "1-0000")
    assert "no item '1-0000' in task 'pick'" in error
    assert refused(capsys, folder, "--item", item[:6] + "zz").startswith("error: ")


def test_several_items_with_that_beginning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(tmp_path, documents=4).fill()
    run.publish()
    view = ItemView(Results(run.folder))
    view.names = [("add", "7-aa1"), ("add", "7-aa2"), ("add", "70-b")]
    assert view.find("70") == ("add", "70-b")
    assert view.find("7-aa2", "add") == ("add", "7-aa2")
    with pytest.raises(ResultsError, match="2 items of task 'add' begin with '7-a': 7-aa1, 7-aa2"):
        view.find("7-a")


@pytest.mark.parametrize("columns", [80, 160])
def test_nothing_is_wider_than_the_terminal(columns: int, folder: Path) -> None:
    command = [sys.executable, "-m", "ptharness", "show", str(folder), "--task", "add"]
    master, slave = pty.openpty()
    ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    with subprocess.Popen(
        [*command, "--item", "5"], stdout=slave, stderr=slave, env={**environment, "TERM": "xterm"}
    ) as process:
        os.close(slave)
        written = b""
        while True:
            try:
                part = os.read(master, 65536)
            except OSError:
                break
            if not part:
                break
            written += part
    os.close(master)
    assert process.returncode == 0
    lines = re.sub(r"\x1b\[[\d;]*m", "", written.decode()).splitlines()
    assert max(map(len, lines)) <= columns
    # Both others beside base where there is room, one after the other where there is not.
    headings = [line.split() for line in lines if line.split()[:1] == ["base"]]
    expected = [["base", "sft"], ["base", "grpo"]] if columns == 80 else [["base", "sft", "grpo"]]
    assert headings == expected


# --- differences ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "here", "expected"),
    [
        ("the sum is 12\n", "the sum is 13\n", ("the sum is [-12-]{+13+}\n", "")),
        (":bceb", ":bbeb", (":b[-c-]{+b+}eb", "")),
        ("one two three four five", "one two four five", ("one two [-three -]four five", "")),
        ("yes", "no", ("no", "too different to mark")),
        ("", "x", ("x", "too different to mark")),
        ("same text", "same text", ("same text", "same")),
    ],
)
def test_differences_are_marked_by_characters(
    left: str, here: str, expected: tuple[str, str]
) -> None:
    assert marked(left, here) == expected


def test_repetitive_texts_take_no_time() -> None:
    assert marked("a " * 1999, "a b " * 999)[1] == "too different to mark"
    assert marked("a " * 5000, "b " * 5000)[1] == "too long to mark"


def test_texts_are_cut_in_the_middle_or_to_a_line() -> None:
    assert bounded("x" * 50 + "y" * 50, 30) == (
        "x" * 20 + " [... 70 characters; --full ...] " + "y" * 10
    )
    assert one_line("a\n  b", 9) == "a b"
    assert one_line("few shots\nQ: last", 8, end=True) == "\u2026Q: last"
    assert one_line("abcdef", 4) == "abc\u2026"
