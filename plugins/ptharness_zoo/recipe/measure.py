"""Measure pass@1 and pass@32 of the checkpoints on their evaluation items, as a Markdown table."""

from __future__ import annotations

from math import comb
from pathlib import Path
from statistics import mean

from ptharness_zoo.recipe import domain, network, sampling


def pass_at(k: int, samples: int, correct: int) -> float:
    """Estimate without bias the chance that one of ``k`` samples is right (arXiv 2107.03374)."""
    return 1.0 - comb(samples - correct, k) / comb(samples, k)


def measure(folder: Path, items: int, samples: int) -> dict[str, tuple[float, float]]:
    """Return each skill's pass@1 and pass@32, averaged over its first ``items`` items."""
    import torch

    torch.manual_seed(5)
    model, tokenizer = network.read_model(folder), network.read_tokenizer(folder)
    scores = {}
    for skill in domain.SKILLS:
        problems = domain.evaluation_problems(skill)[:items]
        prompts = [problem.prompt for problem in problems for _ in range(samples)]
        completions = sampling.complete(model, tokenizer, prompts)
        right = [domain.is_correct(*pair) for pair in zip(prompts, completions, strict=True)]
        counts = [sum(right[start : start + samples]) for start in range(0, len(right), samples)]
        scores[skill] = (
            mean(pass_at(1, samples, count) for count in counts),
            mean(pass_at(32, samples, count) for count in counts),
        )
    return scores


def table(folders: list[Path], items: int = 30, samples: int = 64) -> str:
    """Return one row per checkpoint with ``pass@1/pass@32`` per skill."""
    lines = ["| | " + " | ".join(domain.SKILLS) + " |", "|---" * (len(domain.SKILLS) + 1) + "|"]
    for folder in folders:
        cells = (f"{one:.2f}/{many:.2f}" for one, many in measure(folder, items, samples).values())
        lines.append(f"| {folder.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
