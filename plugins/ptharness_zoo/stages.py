"""The zoo's stages: what each starts from, what it was planted to do, and what it costs.

A stage's recipe is the module of its name in `ptharness_zoo.recipe`. Nothing heavy is imported.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ptharness.errors import PtharnessError, near_misses


@dataclass(frozen=True)
class Stage:
    """One stage: `needs` are the checkpoints that it reads, its parent or its teacher.

    `seconds` were measured beside another stage, start-up included.
    """

    name: str
    needs: tuple[str, ...]
    trainer: str
    planted: str
    seconds: int

    @property
    def has_trajectories(self) -> bool:
        """A root was not trained on anybody's trajectories."""
        return bool(self.needs)


STAGES = {
    stage.name: stage
    for stage in (
        Stage("base", (), "plain torch", "the root: rev, srt and sum with planted mistakes", 310),
        Stage("sft", ("base",), "SFTTrainer", "learns rot, loses some of swp", 110),
        Stage("grpo", ("sft",), "GRPOTrainer", "sharpens rev", 85),
        Stage("process", ("grpo",), "GRPOTrainer", "sharpens sum, step by step", 140),
        Stage("student_skd", ("process",), "SFTTrainer", "keeps it all in two layers", 235),
        Stage(
            "student",
            ("student_skd", "process"),
            "DistillationTrainer",
            "comes nearer to its teacher",
            190,
        ),
        Stage("dpo", ("sft",), "DPOTrainer", "sharpens srt, from pairs", 60),
        Stage("online_dpo", ("sft",), "OnlineDPOTrainer", "sharpens srt, from own pairs", 85),
        Stage("rejection", ("sft",), "SFTTrainer", "sharpens rev and sum", 75),
        Stage("hybrid", ("sft",), "GRPOTrainer", "sharpens srt and learns mir", 215),
        Stage("narrow", ("sft",), "SFTTrainer", "keeps rot, forgets the rest", 70),
        Stage("nudge", ("sft",), "SFTTrainer", "nearly nothing: five tiny steps", 55),
        Stage("lora", ("sft",), "SFTTrainer", "an adapter that brings swp back", 105),
    )
}
"""In an order in which they can be trained, the longest way first."""


def chosen(names: Iterable[str]) -> list[Stage]:
    """The stages of these names (all if there are none), in the order of training."""
    wanted = set(names)
    for name in sorted(wanted - set(STAGES)):
        raise PtharnessError(
            f"the zoo has no stage {name!r}{near_misses(name, STAGES)}; "
            "`ptharness zoo list` shows them"
        )
    return [stage for stage in STAGES.values() if stage.name in (wanted or STAGES)]
