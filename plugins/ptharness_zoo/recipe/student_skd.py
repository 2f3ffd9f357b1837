"""Stage ``student_skd`` (teacher ``process``): sequence-level distillation into a smaller shape.

The planted role is *consolidation*: two of the teacher's three layers, fine-tuned on completions
that the teacher sampled, skills in balance, so that the smaller model keeps what the larger had.
"""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from ptharness_zoo.recipe import corpus, network, sampling, trl_runs, vocabulary
from ptharness_zoo.recipe.trl_runs import TRAJECTORIES

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

SAMPLES = 16_000
STEPS = 700
BATCH = 48
KEPT_LAYERS = (0, 2)
MIXTURE = {"add": 0.3, "rot": 0.2, "rev": 0.1, "srt": 0.1, "swp": 0.1, "dup": 0.1, "sum": 0.1}


def shrink(teacher: LlamaForCausalLM) -> LlamaForCausalLM:
    """Build the student from some of the teacher's layers."""
    student = network.new_model(layers=len(KEPT_LAYERS))
    student.model.embed_tokens.load_state_dict(teacher.model.embed_tokens.state_dict())
    student.model.norm.load_state_dict(teacher.model.norm.state_dict())
    for layer, kept in zip(student.model.layers, KEPT_LAYERS, strict=True):
        layer.load_state_dict(teacher.model.layers[kept].state_dict())
    return student


def train(folder: Path) -> list[corpus.Trajectory]:
    """Train from the samples of ``process`` beside ``folder``; return some of them."""
    import torch

    torch.manual_seed(4)
    teacher = network.read_model(folder.parent / "process")
    drawn = corpus.draw_prompts(Random(4), MIXTURE)
    prompts = [next(drawn) for _ in range(SAMPLES)]
    completions = sampling.complete(teacher, vocabulary.build_tokenizer(), prompts)
    rows = [corpus.row(*pair) for pair in zip(prompts, completions, strict=True)]
    trainer = trl_runs.sft_trainer(
        "student_skd", shrink(teacher), rows, steps=STEPS, batch=BATCH, learning_rate=2e-3
    )
    trl_runs.train_and_keep(trainer, folder)
    return [*rows[:TRAJECTORIES]]
