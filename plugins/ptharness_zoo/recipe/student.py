"""Stage ``student`` (from ``student_skd``, teacher ``process``): on-policy distillation.

The planted role is *consolidation*: the student writes, the teacher gives the distribution of each
next token, and the reverse Kullback-Leibler divergence between the two is what is minimized.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptharness_zoo.recipe import corpus, network, student_skd, trl_runs, vocabulary
from ptharness_zoo.recipe.trl_runs import TRAJECTORIES

if TYPE_CHECKING:
    from trl import DistillationTrainer

STEPS = 120
BATCH = 48
REVERSE_KL = 1.0


def recording_trainer() -> type[DistillationTrainer]:
    """Make the trainer's class, here because importing TRL takes seconds."""
    from trl import DistillationTrainer

    class RecordingTrainer(DistillationTrainer):  # type: ignore[misc]
        """Distillation that remembers what the student wrote first."""

        kept: list[corpus.Trajectory]

        def _generate(self, prompts: list[list[corpus.Message]]) -> Any:
            generated = super()._generate(prompts)
            texts = self.processing_class.batch_decode(generated[1], skip_special_tokens=True)
            for prompt, text in zip(prompts, texts, strict=True):
                if len(self.kept) < TRAJECTORIES:
                    self.kept.append(corpus.row(prompt[-1]["content"], text))
            return generated

    return RecordingTrainer


def train(folder: Path) -> list[corpus.Trajectory]:
    """Train from ``student_skd`` beside ``folder``; return the student's first rollouts."""
    from datasets import Dataset
    from trl import DistillationConfig

    rows = corpus.prompt_rows(5, student_skd.MIXTURE, STEPS * BATCH)
    settings = trl_runs.cpu_settings("student", steps=STEPS, batch=BATCH, learning_rate=7e-4)
    trainer = recording_trainer()(
        model=network.read_model(folder.parent / "student_skd"),
        teacher_model=network.read_model(folder.parent / "process"),
        args=DistillationConfig(
            max_completion_length=36, temperature=1.0, beta=REVERSE_KL, **settings
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=vocabulary.build_tokenizer(),
    )
    kept: list[corpus.Trajectory] = []
    trainer.kept = kept
    trl_runs.train_and_keep(trainer, folder)
    return kept
