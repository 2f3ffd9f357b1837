"""Folders that nobody should leave and somebody will: what `detect` must survive.

`OCCASIONS` holds a function for each; it fills a folder. Code in some of them makes the folder
`proof` if anything runs, imports or unpickles it.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ptharness.leftovers import ADAPTER, ARGUMENTS, CARD, MERGE_RECIPE, STATE

USUAL_FILES = (CARD, STATE, ADAPTER, ARGUMENTS, MERGE_RECIPE, "config.json")
"""What plugins read; a contract adds what its own method reads."""

MANY_FILES = 10_000


@dataclass(frozen=True)
class Place:
    """The folder to fill, the files that `detect` may read there, and what must never exist."""

    folder: Path
    files: Sequence[str]
    proof: Path

    def fill(self, content: str | bytes) -> None:
        """Write the same content into every file."""
        data = content.encode() if isinstance(content, str) else content
        for name in self.files:
            (self.folder / name).write_bytes(data)

    def card(self, front_matter: str) -> None:
        """Write a model card."""
        (self.folder / CARD).write_text(f"---\n{front_matter}\n---\n", encoding="utf-8")

    def state(self, content: str) -> None:
        """Write a trainer's state."""
        (self.folder / STATE).write_text(content, encoding="utf-8")


def broken_json(place: Place) -> None:
    place.fill('{"log_history": [{"loss": 0.5,')


def broken_yaml(place: Place) -> None:
    place.fill("---\ntags: [trl, 'sft\n---\n")


def other_shapes(place: Place) -> None:
    """Whole files that hold something else than expected."""
    place.fill("[[null]]")
    place.card("tags: {trl: sft}\nbase_model: [3, null, {a: b}]")
    place.state('{"global_step": "many", "log_history": [1, null, [2], {"loss": "low"}]}')
    (place.folder / ADAPTER).write_text('{"base_model_name_or_path": {"a": []}, "r": "x"}')


def nested_brackets(place: Place) -> None:
    """Deeper than recursion goes: a few hundred levels do for YAML, which is slow at it."""
    place.fill("[" * 500)
    place.card("tags: " + "[" * 500)
    for name in place.files:
        if name.endswith(".json"):
            (place.folder / name).write_text('{"log_history": ' + "[" * 100_000)


def nul_bytes(place: Place) -> None:
    place.fill(b"\0" * 1_000)


def no_text(place: Place) -> None:
    place.fill(b"---\n\xff\xfe\x80\n---\n")


def empty_files(place: Place) -> None:
    place.fill("")


def folders_for_files(place: Place) -> None:
    for name in place.files:
        (place.folder / name).mkdir()


def links_in_a_loop(place: Place) -> None:
    for name in place.files:
        (place.folder / name).symlink_to(place.folder / name)
    (place.folder / "checkpoint-1").symlink_to(place.folder)
    (place.folder / "checkpoint-2").mkdir()
    (place.folder / "checkpoint-2" / "up").symlink_to(place.folder)


def pipes(place: Place) -> None:
    """Whoever opens one waits for a writer that never comes."""
    for name in place.files:
        os.mkfifo(place.folder / name)


def forbidden_files(place: Place) -> None:
    place.fill("{}")
    for name in place.files:
        (place.folder / name).chmod(0)


def a_pickle_that_runs(place: Place) -> None:
    code = f"cos\nmkdir\n(V{place.proof}\ntR.".encode()
    place.fill(code)
    for name in (ARGUMENTS, "pytorch_model.bin", "optimizer.pt"):
        with zipfile.ZipFile(place.folder / name, "w") as archive:
            archive.writestr("archive/data.pkl", code)


def yaml_that_runs(place: Place) -> None:
    place.fill(f"!!python/object/apply:os.mkdir ['{place.proof}']\n")
    place.card(f"tags: [trl, !!python/object/apply:os.mkdir ['{place.proof}']]")


def code_that_runs(place: Place) -> None:
    """Modules as `trust_remote_code` would import them."""
    code = f"import os\nos.mkdir({str(place.proof)!r})\n"
    for name in ("__init__.py", "modeling_stage.py", "configuration_stage.py"):
        (place.folder / name).write_text(code)
    (place.folder / "config.json").write_text(
        '{"auto_map": {"AutoConfig": "configuration_stage.Config"}}'
    )


def a_yaml_bomb(place: Place) -> None:
    """A few lines that describe 10 ** 31 values."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]", f"b0: &b0 [{', '.join(['*a'] * 10)}]"]
    lines += [f"b{n}: &b{n} [{', '.join([f'*b{n - 1}'] * 10)}]" for n in range(1, 30)]
    bomb = "\n".join(lines)
    place.fill(bomb)
    place.card(f"{bomb}\ntags: *b29")


def long_lists(place: Place) -> None:
    """Small files with more values than anybody writes by hand."""
    values = ", ".join(["x"] * 5_000)
    place.fill(f"[{values}]")
    place.card(f"tags: [{values}]")


def a_card_of_megabytes(place: Place) -> None:
    place.card("tags: [trl]\ntext: " + "x" * 5_000_000)


def a_log_of_megabytes(place: Place) -> None:
    place.state('{"log_history": [' + '{"loss": 0.5, "step": 1},' * 200_000 + "{}]}")


def many_files(place: Place) -> None:
    """Ten thousand names of one file: links are quicker to make and to remove than files."""
    first = place.folder / "file-0"
    first.touch()
    for number in range(1, MANY_FILES):
        os.link(first, place.folder / f"file-{number}")
    for name in ("checkpoint-²", "checkpoint-", "checkpoint-99999999999999999999"):
        (place.folder / name).mkdir()


OCCASIONS: dict[str, Callable[[Place], None]] = {
    fill.__name__: fill
    for fill in (
        *(broken_json, broken_yaml, other_shapes, nested_brackets, nul_bytes, no_text),
        *(empty_files, folders_for_files, links_in_a_loop, pipes, forbidden_files),
        *(a_pickle_that_runs, yaml_that_runs, code_that_runs, a_yaml_bomb, long_lists),
        *(a_card_of_megabytes, a_log_of_megabytes, many_files),
    )
}
