"""`ptharness discover`: a manifest from folders of checkpoints."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ptharness.cli.output import JSON_OPTION, counted, print_json, print_table, print_text
from ptharness.cli.session import Session
from ptharness.text import safe

if TYPE_CHECKING:
    from ptharness.discovery.lineage import Answer, Discovery
    from ptharness.registry import Registry

DEFAULT_TASK = "gsm8k"
MOST_SHOWN = 4


@click.command()
@click.argument(
    "directories", nargs=-1, required=True, metavar="DIR...", type=click.Path(path_type=Path)
)
@click.option(
    "-o",
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the manifest here. Without it, it is printed.",
)
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@click.option("--name", metavar="NAME", help="The lineage's name. [default: that of the folder]")
@click.option(
    "--tasks",
    metavar="A,B",
    default=DEFAULT_TASK,
    show_default=True,
    help="Tasks that the manifest shall name (`ptharness tasks TEXT` searches).",
)
@JSON_OPTION
@click.pass_obj
def discover(
    session: Session,
    directories: tuple[Path, ...],
    out: Path | None,
    force: bool,
    name: str | None,
    tasks: str,
    as_json: bool,
) -> int:
    """Find checkpoints in and below DIRs and write a manifest of their lineage.

    A stage's method is read from what its training left: model card, trainer state, adapter
    config. Its parent is what these name, or the checkpoint with the nearest weights. What
    cannot be told is marked `undecided`, with the candidates, for you to answer. No model is
    loaded, no pickle is opened, and nothing in a folder is run.

    \b
    Examples:
        ptharness discover checkpoints -o lineage.yaml
        ptharness discover runs/sft runs/dpo /models/base --tasks gsm8k,ifeval
    """
    from ptharness.discovery import discover as search
    from ptharness.discovery import manifest_text
    from ptharness.errors import ManifestError

    if out is not None and out.exists() and not force:
        raise ManifestError(f"{out} exists; give another name, or --force to replace it")
    if out is not None and not out.absolute().parent.is_dir():
        raise ManifestError(f"{out}: its folder does not exist; make it, or write elsewhere")
    wanted = _wanted_tasks(tasks, session.registry)
    with _progress() as on_folder:
        discovery = search(directories, session.registry.methods, on_folder)
    target = (out or Path("lineage.yaml")).absolute()
    text = manifest_text(
        discovery,
        _lineage_name(name, directories),
        target.parent,
        shlex.quote(target.name),
        wanted,
    )
    if out is not None:
        _write(out, text)
    if as_json:
        print_json(_as_json(discovery, out, text))
    elif out is None:
        print_text(text.rstrip("\n"))
    else:
        _print(discovery, out, text)
    return 0


def _wanted_tasks(tasks: str, registry: Registry) -> list[str]:
    """The names given, each known to some plugin; the default is taken as it is."""
    from ptharness.errors import ManifestError

    wanted = [task.strip() for task in tasks.split(",") if task.strip()]
    if not wanted:
        raise ManifestError("names no task; `ptharness tasks TEXT` searches", key="--tasks")
    if wanted != [DEFAULT_TASK]:
        for task in wanted:
            registry.tasks.find(task, Path.cwd())
    return wanted


def _lineage_name(name: str | None, directories: tuple[Path, ...]) -> str:
    import re

    from ptharness.errors import ManifestError
    from ptharness.manifest import NAME_PATTERN

    if name is not None:
        if not re.fullmatch(NAME_PATTERN, name):
            raise ManifestError(
                f"{name!r} cannot name a lineage (letters, digits, '.', '-', '_')", key="--name"
            )
        return name
    folder = directories[0].resolve().name
    legal = re.sub(r"[^A-Za-z0-9._-]+", "-", folder).strip("-._")[:100]
    return legal if legal and legal != "units" else "lineage"


def _progress() -> Any:
    """Says on the terminal which folder is looked into; silent where nobody watches."""
    from contextlib import contextmanager

    from rich.console import Console

    @contextmanager
    def showing() -> Any:
        console = Console(stderr=True)
        with console.status("looking for checkpoints") as status:
            yield lambda name: status.update(f"reading {safe(name).replace('[', '(')}")

    return showing()


def _write(out: Path, text: str) -> None:
    from ptharness.fingerprint import write_atomically

    write_atomically(out.absolute(), text.encode())


def _print(discovery: Discovery, out: Path, text: str) -> None:
    from ptharness.discovery import questions_in

    print_table(
        ("checkpoint", "step", "parent", "method", "teacher", "rests on"),
        [
            (
                found.name,
                "" if found.step is None else found.step,
                _shown(found.parents),
                _shown(found.method) if found.method.names else "",
                "?" if not found.teacher.is_decided else "",
                "; ".join(
                    dict.fromkeys(
                        part for part in (*found.notes, found.parents.why, found.method.why) if part
                    )
                ),
            )
            for found in discovery.checkpoints
        ],
        counted(len(discovery.checkpoints), "checkpoint"),
    )
    for left in discovery.passed_over:
        print_text(f"not taken: {safe(left.directory)}: {safe(left.reason)}")
    print_text(f"written: {out}")
    open_questions = questions_in(text)
    if open_questions:
        asked = counted(open_questions, "question")
        print_text(f"{asked} marked `undecided` in it: answer before you trust the tables")
    print_text(f"next: ptharness check {shlex.quote(str(out))}")


def _shown(answer: Answer) -> str:
    named = ", ".join(answer.names) or ("(root)" if answer.is_decided else "")
    if answer.is_decided:
        return named
    possible = [*answer.names, *answer.candidates]
    more = " or ..." if len(possible) > MOST_SHOWN else ""
    return f"? {' or '.join(possible[:MOST_SHOWN])}{more}"


def _as_json(discovery: Discovery, out: Path | None, text: str) -> dict[str, Any]:
    from ptharness.discovery import questions_in

    return {
        "manifest": str(out) if out else text,
        "questions": questions_in(text),
        "checkpoints": [
            {
                "checkpoint": found.name,
                "directory": str(found.directory),
                "adapter": found.is_adapter,
                "step": found.step,
                "replicate": found.replicate,
                "parents": _answer_json(found.parents),
                "method": _answer_json(found.method),
                "teacher": _answer_json(found.teacher),
                "evidence": [evidence.__dict__ for evidence in found.evidence],
                "notes": list(found.notes),
            }
            for found in discovery.checkpoints
        ],
        "passed_over": [
            {"directory": str(left.directory), "reason": left.reason}
            for left in discovery.passed_over
        ],
    }


def _answer_json(answer: Answer) -> dict[str, Any]:
    return {
        "names": list(answer.names),
        "candidates": list(answer.candidates),
        "decided": answer.is_decided,
        "why": answer.why,
    }
