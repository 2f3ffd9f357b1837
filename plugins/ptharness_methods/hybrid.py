"""Hybrids: several kinds of training in one stage, or several models in one.

    checkpoints:
      joint: {path: checkpoints/joint, parent: sft, method: srft}
      own: {path: checkpoints/own, parent: sft, method: {name: hybrid, parts: [sft, grpo, dpo]}}
      merged: {path: checkpoints/merged, parent: [grpo, dpo], method: merge}

Demonstrations make reachable what rewards alone would not find, rewards improve what the learner
then writes. The survey treats such stages as compositions: provenance mixed, several interfaces,
several roles. `parts` names any methods that are installed, and the declaration is composed of
theirs. A merge trains on nothing; it inherits from its parents.

Sources: arXiv 2604.07941; LUFFY (2504.14945); SRFT (2506.19767); UFT (2505.16984); RePO
(2506.09340); ReLIFT (2506.07527); model soups (2203.05482); TIES merging (2306.01708).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ptharness.errors import ManifestError, near_misses
from ptharness.evidence import declare
from ptharness.hookspecs import hookimpl
from ptharness.leftovers import read_leftovers
from ptharness.methods import Declaration, Evidence, Method, StageSettings
from ptharness.taxonomy import Interface, Provenance, Role
from ptharness.traces import COMPOUND, LOOSE_TAG, trainers_of
from ptharness_methods.citing import survey

if TYPE_CHECKING:
    from ptharness.registry import Catalogue, Registry

T = TypeVar("T")

SOURCE = survey("section 6.2, table 5, row interleaved SFT-RL, and table 6, row hybrid pipelines")
EXPANSION, RESHAPING = Role.SUPPORT_EXPANSION, Role.POLICY_RESHAPING


@dataclass(frozen=True)
class Variant:
    """What a named hybrid is made of; `what` is half a sentence."""

    interface: Interface
    roles: tuple[Role, ...]
    what: str
    papers: tuple[str, ...]


VARIANTS = {
    "luffy": Variant(
        Interface.REWARDS,
        (EXPANSION, RESHAPING),
        "others' traces stand among the learner's rollouts, all weighed by their rewards",
        ("arXiv:2504.14945 (LUFFY)",),
    ),
    "srft": Variant(
        Interface.SEVERAL,
        (EXPANSION, RESHAPING),
        "one loss adds imitation of demonstrations to rewards on rollouts",
        ("arXiv:2506.19767 (SRFT)",),
    ),
    "uft": Variant(
        Interface.SEVERAL,
        (EXPANSION, RESHAPING),
        "rollouts start from hints out of demonstrations, with a supervised term in the loss",
        ("arXiv:2505.16984 (UFT)",),
    ),
    "repo": Variant(
        Interface.REWARDS,
        (RESHAPING,),
        "rollouts of earlier steps are replayed beside fresh ones",
        ("arXiv:2506.09340 (RePO)",),
    ),
    "interleaved": Variant(
        Interface.SEVERAL,
        (EXPANSION, RESHAPING),
        "rounds of fine-tuning on demonstrations and of reinforcement learning alternate",
        ("arXiv:2506.07527 (ReLIFT)",),
    ),
    "merge": Variant(
        Interface.SEVERAL,
        (Role.CONSOLIDATION,),
        "the weights of several checkpoints are combined and nothing is trained: what the parents "
        "learned is to be kept",
        ("arXiv:2203.05482 (model soups)", "arXiv:2306.01708 (TIES merging)"),
    ),
}
MERGE_TAGS = frozenset({"merge", "mergekit"})


class Hybrid(Method):
    """Several kinds of training in one stage.

    Options: `parts`: a list of installed methods' names, of which the stage is composed; a
    merge has none.
    """

    name = "hybrid"
    title = "Hybrid stages and merges"
    aliases = tuple(VARIANTS)
    options = ("parts",)

    def __init__(self, methods: Catalogue[Method]) -> None:
        self._methods = methods

    def declare(self, stage: StageSettings) -> Declaration:
        """Mixed, with the variant's interface and roles, or composed of the `parts`."""
        if "parts" in stage.options:
            return self._composed(stage, stage.options["parts"])
        variant = VARIANTS.get(stage.method)
        if variant is None:
            return Declaration(
                Provenance.MIXED,
                Interface.SEVERAL,
                (EXPANSION, RESHAPING),
                "several kinds of training share one stage; `parts: [sft, grpo]` says which",
                (SOURCE, *(paper for v in VARIANTS.values() for paper in v.papers)),
            )
        return Declaration(
            Provenance.MIXED,
            variant.interface,
            variant.roles,
            variant.what,
            (SOURCE, *variant.papers),
        )

    def _composed(self, stage: StageSettings, parts: object) -> Declaration:
        where = f"option 'parts' of method {stage.method!r}"
        if stage.method == "merge":
            raise ManifestError(
                f"{where}: a merge trains nothing, so it has no parts; remove it (`parent:` names "
                "what was merged), or use method hybrid if something was trained"
            )
        if not isinstance(parts, list) or len(parts) < 2:
            raise ManifestError(f"{where} is {parts!r}; give two or more methods: [sft, grpo]")
        for part in parts:
            if not isinstance(part, str):
                raise ManifestError(
                    f"{where} holds {part!r}; give names only, without options: [sft, grpo]"
                )
            if parts.count(part) > 1:
                raise ManifestError(f"{where} names {part!r} twice; give two or more that differ")
            if part not in self._methods:
                known = near_misses(part, self._methods.names())
                raise ManifestError(
                    f"{where} names {part!r}, which is no method{known}; "
                    "`ptharness methods` lists them"
                )
            if self._methods.get(part) is self:
                raise ManifestError(f"{where} names {part!r}, a hybrid itself; name its parts")
        declared = [
            declare(self._methods, replace(stage, method=part, options={})) for part in parts
        ]
        return Declaration(
            _one([part.provenance for part in declared]) or Provenance.MIXED,
            _one([part.interface for part in declared]) or Interface.SEVERAL,
            tuple(dict.fromkeys(role for part in declared for role in part.roles)),
            "composed of "
            + "; ".join(
                f"{name} ({part.reason})" for name, part in zip(parts, declared, strict=True)
            ),
            tuple(dict.fromkeys((SOURCE, *(s for part in declared for s in part.sources)))),
        )

    def detect(self, directory: Path) -> Evidence | None:
        """A merge's recipe, or the marks of two trainers on one card or in one log."""
        left = read_leftovers(directory)
        if left.merged:
            return Evidence("merge", COMPOUND, "mergekit_config.yml names what was merged")
        if left.card.get("base_model_relation") == "merge":
            return Evidence("merge", COMPOUND, "README.md says base_model_relation: merge")
        trainers = trainers_of(left)
        if len(trainers) > 1:
            found = f"README.md is tagged trl and both {' and '.join(trainers)}"
            return Evidence(self.name, COMPOUND, found)
        if MERGE_TAGS & left.tags:
            tag = sorted(MERGE_TAGS & left.tags)[0]
            return Evidence("merge", LOOSE_TAG, f"README.md is tagged {tag}")
        return None


def _one(values: Sequence[T]) -> T | None:
    """The value that all are, None if they differ."""
    return values[0] if len(set(values)) == 1 else None


@hookimpl
def ptharness_register_methods(registry: Registry) -> None:
    registry.methods.add(Hybrid(registry.methods))
