"""Echo training: the learner's own answers, ranked by length (an example, not a paper)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ptharness.hookspecs import hookimpl
from ptharness.leftovers import read_leftovers
from ptharness.methods import Declaration, Evidence, Method, StageSettings, choose
from ptharness.taxonomy import Interface, Provenance, Role
from ptharness.traces import CARD, LOG

if TYPE_CHECKING:
    from ptharness.registry import Registry


class Echo(Method):
    """Answers of the learner are ranked by length.

    Options: `answers` (fresh, kept): whether they are sampled anew at each step.
    """

    name = "echo"
    title = "Echo training"
    aliases = ("short_echo",)
    options = ("answers",)

    def declare(self, stage: StageSettings) -> Declaration:
        answers = choose(stage, "answers", ("fresh", "kept"))
        return Declaration(
            Provenance.ON_POLICY if answers == "fresh" else Provenance.OFF_POLICY,
            Interface.RANKED_PREFERENCES,
            (Role.POLICY_RESHAPING,),
            reason="it chooses by length among answers that the learner gives anyway",
            sources=("our internal note 17",),
        )

    def detect(self, directory: Path) -> Evidence | None:
        """A card tagged `echo`, or a log of `echo/length`."""
        left = read_leftovers(directory)
        if "echo" in left.tags:
            return Evidence(self.name, CARD, found="README.md is tagged echo")
        if "echo/length" in left.logged:
            return Evidence(self.name, LOG, found="trainer_state.json logs echo/length")
        return None


@hookimpl
def ptharness_register_methods(registry: Registry) -> None:
    registry.methods.add(Echo())
