"""What a run says while it goes on, where standard error is no terminal."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from ptharness.cli.progress import ProgressObserver
from ptharness.planner import Plan
from ptharness.prompts import Kind
from ptharness.protocol import Sampling
from ptharness.units import GenerationUnit, Job


def unit(kind: Kind, rows: int, samples: int = 1) -> GenerationUnit:
    return GenerationUnit(
        f"{kind}{rows}", "sft", "add", "", kind, 0, rows, 0, samples, rows, Sampling(), (), (0,)
    )


def told(*units: GenerationUnit, cached: int = 0) -> str:
    out = StringIO()
    observer = ProgressObserver(Console(file=out))
    jobs = (Job((), units),) if units else ()
    with observer.showing():
        observer.planned(Plan((), jobs, 1, 0), cached)
    return out.getvalue().strip()


def test_completions_and_texts_are_counted_apart() -> None:
    of = ", of 0 checkpoints in 1 engine start; 7 in the store already"
    drawn, scored = unit("generate", 600, 16), unit("loglikelihood", 40)
    rolling = unit("loglikelihood_rolling", 1)
    assert told(drawn, cached=7) == f"9,600 completions to generate{of}"
    assert told(rolling, cached=7) == f"1 text to score{of}"
    both = told(drawn, scored, rolling, cached=7)
    assert both == f"9,600 completions to generate and 41 texts to score{of}"
    assert told(cached=1200) == "nothing to generate: all 1,200 are in the store"
