"""Stage ``hybrid`` (from ``sft``): one loss of rewards on own answers and of demonstrations.

As in SRFT (arXiv 2506.19767) and LUFFY (arXiv 2504.14945), in their simplest form: the GRPO loss
on ``srt`` plus the negative log-likelihood of demonstrations in each step. Two roles are planted:
the rewards sharpen ``srt`` (*policy reshaping*), the demonstrations teach ``mir``, which no parent
can do (*support expansion*). The other demonstrations replay what ``sft`` knows.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptharness_zoo.recipe import corpus, network, trl_runs, vocabulary
from ptharness_zoo.recipe.batches import supervised_batch
from ptharness_zoo.recipe.rollouts import Rollouts, answer_is_right
from ptharness_zoo.recipe.trl_runs import TRAJECTORIES

if TYPE_CHECKING:
    from trl import GRPOTrainer

STEPS = 100
GENERATIONS = 16
PROMPTS_A_STEP = 12
DEMONSTRATIONS_A_STEP = 96
WEIGHT = 1.5
MIXTURE = {"mir": 0.6, "rot": 0.12, "add": 0.1, "sum": 0.06, "rev": 0.06, "dup": 0.06}


def demonstrations() -> list[corpus.Row]:
    """Draw the demonstrations, those of ``mir`` all right."""
    return corpus.imperfect_rows(10, MIXTURE, STEPS * DEMONSTRATIONS_A_STEP)


def batches(rows: list[corpus.Row]) -> Iterator[dict[str, Any]]:
    """Yield batches of demonstrations for ever."""
    starts = range(0, len(rows), DEMONSTRATIONS_A_STEP)
    for start in cycle(starts):
        yield supervised_batch(rows[start : start + DEMONSTRATIONS_A_STEP])


def hybrid_trainer() -> type[GRPOTrainer]:
    """Make the trainer's class, here because importing TRL takes seconds."""
    from trl import GRPOTrainer

    class HybridTrainer(GRPOTrainer):  # type: ignore[misc]
        """GRPO whose loss has a supervised part, logged as ``demonstrations/nll``."""

        _tag_names = ("trl", "grpo", "sft")
        demonstrations: Iterator[dict[str, Any]]

        def compute_loss(self, model: Any, inputs: Any, *arguments: Any, **named: Any) -> Any:
            """Add the demonstrations' negative log-likelihood to the loss of GRPO."""
            likelihood = model(**next(self.demonstrations)).loss
            self._metrics["train"]["demonstrations/nll"].append(likelihood.item())
            return super().compute_loss(model, inputs, *arguments, **named) + WEIGHT * likelihood

    return HybridTrainer


def train(folder: Path) -> list[corpus.Trajectory]:
    """Train from ``sft`` beside ``folder``; return half rollouts, half demonstrations."""
    from datasets import Dataset
    from trl import GRPOConfig

    half = TRAJECTORIES // 2
    rows = demonstrations()
    reward = Rollouts("sort_is_right", answer_is_right, wanted=half, one_in=2)
    settings = trl_runs.cpu_settings(
        "hybrid", steps=STEPS, batch=PROMPTS_A_STEP * GENERATIONS, learning_rate=5e-4
    )
    trainer = hybrid_trainer()(
        model=network.read_model(folder.parent / "sft"),
        reward_funcs=reward,
        args=GRPOConfig(
            num_generations=GENERATIONS,
            max_completion_length=16,
            temperature=1.0,
            beta=0.0,
            **settings,
        ),
        train_dataset=Dataset.from_list(
            corpus.prompt_rows(11, {"srt": 1.0}, STEPS * PROMPTS_A_STEP)
        ),
        processing_class=vocabulary.build_tokenizer(),
    )
    trainer.demonstrations = batches(rows)
    trl_runs.train_and_keep(trainer, folder)
    return [*reward.kept, *rows[:half]]
