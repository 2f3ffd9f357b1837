"""From folders to a lineage: every folder's stage, parent and doubts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ptharness.discovery.folders import Folder, PassedOver, find_folders
from ptharness.discovery.parents import Node, Placing, place
from ptharness.discovery.references import FolderIndex, references
from ptharness.discovery.weights import (
    MOST_WEIGHTS,
    MOST_WEIGHTS_IN_ALL,
    Sample,
    reach,
    sample_weights,
)
from ptharness.errors import CheckpointError, ManifestError
from ptharness.evidence import declare, gather_evidence
from ptharness.fingerprint import tokenizer_digest, weights_digest
from ptharness.leftovers import read_leftovers, step_of
from ptharness.methods import Evidence, Method, StageSettings
from ptharness.registry import Catalogue
from ptharness.taxonomy import Interface

MOST_TOLD = 4
"""References of one folder that a comment quotes."""


@dataclass(frozen=True)
class Answer:
    """Names (of parents, methods, teachers), why, and what else is possible.

    `names` are what the manifest says; `is_decided` says whether a user has to look at them,
    because one of `candidates` may be right instead.
    """

    names: tuple[str, ...] = ()
    why: str = ""
    candidates: tuple[str, ...] = ()
    is_decided: bool = True


@dataclass(frozen=True)
class Found:
    """One checkpoint of a discovered lineage."""

    name: str
    directory: Path
    is_adapter: bool
    step: int | None
    replicate: int
    evidence: tuple[Evidence, ...]
    parents: Answer
    method: Answer
    teacher: Answer
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Discovery:
    """A lineage found on disk, parents before children, and the folders that were not taken."""

    checkpoints: tuple[Found, ...]
    passed_over: tuple[PassedOver, ...]


def discover(
    directories: Sequence[Path],
    methods: Catalogue[Method],
    on_folder: Callable[[str], object] = str,
) -> Discovery:
    """Find checkpoints in and below folders, and who came from whom.

    `on_folder` hears each folder's name before it is looked into. Raises `ManifestError` where
    a folder is missing or none holds a checkpoint, `PluginError` where a plugin's `detect` fails.
    """
    folders, passed_over = find_folders(directories)
    if not folders:
        reasons = "".join(f"; {left.directory}: {left.reason}" for left in passed_over[:3])
        raise ManifestError(
            f"no checkpoint in {', '.join(str(directory) for directory in directories)}{reasons}; "
            "a checkpoint is a folder with config.json and *.safetensors, or a LoRA adapter with "
            "adapter_config.json and adapter_model.safetensors"
        )
    search = _Search(folders, methods)
    found = search.run(on_folder)
    if not found:
        left = search.passed_over[0]
        raise ManifestError(f"no checkpoint that can be used; {left.directory}: {left.reason}")
    if all(checkpoint.is_adapter and not checkpoint.parents.names for checkpoint in found):
        reasons = "; ".join(f"{checkpoint.name}: {checkpoint.parents.why}" for checkpoint in found)
        raise ManifestError(
            f"only adapters found, none with its base ({reasons}); name the base's folder too"
        )
    return Discovery(found, (*passed_over, *search.passed_over))


class _Search:
    """The folders of one search, with what was read of them."""

    def __init__(self, folders: Sequence[Folder], methods: Catalogue[Method]) -> None:
        self.methods = methods
        self.folders = {folder.name: folder for folder in folders}
        self.evidence: dict[str, tuple[Evidence, ...]] = {}
        self.samples: dict[str, Sample] = {}
        self.passed_over: list[PassedOver] = []
        self.originals: dict[str, str] = {}
        self.heads: dict[str, str] = {}

    def _find_heads(self) -> dict[str, str]:
        """The checkpoint that stands for its stage, for every folder: the last of its steps."""
        by_directory = {folder.directory: folder.name for folder in self.folders.values()}
        heads: dict[str, str] = {}
        stages: dict[Path, list[Folder]] = {}
        for folder in self.folders.values():
            heads[folder.name] = folder.name
            if folder.stage is not None:
                stages.setdefault(folder.stage, []).append(folder)
        for stage, steps in stages.items():
            head = by_directory.get(stage) or max(steps, key=lambda s: s.step or 0).name
            heads |= {step.name: head for step in steps}
        return heads

    def run(self, on_folder: Callable[[str], object]) -> tuple[Found, ...]:
        most = min(MOST_WEIGHTS, MOST_WEIGHTS_IN_ALL // len(self.folders))
        for name, folder in self.folders.items():
            on_folder(name)
            self.evidence[name] = tuple(gather_evidence(folder.directory, self.methods))
            if not folder.is_adapter:
                try:
                    self.samples[name] = sample_weights(folder.directory, most)
                except CheckpointError as error:
                    self.passed_over.append(PassedOver(folder.directory, str(error)))
        for name in list(self.folders):
            if name not in self.samples and not self.folders[name].is_adapter:
                del self.folders[name]
        self._find_copies()
        self.heads = self._find_heads()
        heads = self._own_heads()
        index = FolderIndex({name: folder.directory for name, folder in self.folders.items()})
        named = {name: self._named_parents(name, index) for name in heads}
        placings = place(
            [
                Node(
                    name,
                    self.samples[name],
                    self._is_trained(name),
                    self._reach(name),
                    named[name].names or None,
                )
                for name in named
                if name in self.samples
            ]
        )
        # The weights of a merge lie between its parents': nearness tells nothing of it.
        parents = {
            name: answer
            if answer.names or self._is_merge(name)
            else _by_weights(placings.get(name), answer)
            for name, answer in named.items()
        }
        parents = self._with_servable_adapters(self._without_cycles(parents))
        found = [self._found(name, parents) for name in self.folders]
        return _parents_first(found)

    def _own_heads(self) -> list[str]:
        """Checkpoints that stand for their stage and are nobody's copy."""
        return [
            name for name in self.folders if self.heads[name] == name and name not in self.originals
        ]

    def _is_trained(self, name: str) -> bool:
        return bool(self.evidence[name] or read_leftovers(self.folders[name].directory).is_trained)

    def _reach(self, name: str) -> float:
        left = read_leftovers(self.folders[name].directory)
        return reach(self.samples[name], left.learning_rate_sum)

    def _find_copies(self) -> None:
        """Folders with the same weights: a step's copy is left out, another is a replicate."""
        seen: dict[tuple[str, bytes], str] = {}
        order = sorted(
            self.samples,
            key=lambda n: (not self._is_trained(n), self.folders[n].step is not None, len(n), n),
        )
        for name in order:
            sample = self.samples[name]
            key = (sample.shape, sample.vector.tobytes())
            original = seen.setdefault(key, name)
            if original == name or weights_digest(self.folders[name].directory) != weights_digest(
                self.folders[original].directory
            ):
                continue
            if self.folders[name].step is not None:
                folder = self.folders.pop(name)
                reason = f"the same weights as {original}"
                self.passed_over.append(PassedOver(folder.directory, reason))
            else:
                self.originals[name] = original

    def _named_parents(self, name: str, index: FolderIndex[str]) -> Answer:
        """The parents that the folder's own files name, among the folders found."""
        folder = self.folders[name]
        parents: dict[str, str] = {}
        elsewhere = []
        is_certain = True
        is_merge = self._is_merge(name)
        for reference, file in references(folder.directory):
            matched, certain = index.find(reference, folder.directory) or ("", True)
            if not matched:
                elsewhere.append(f"{file} names {reference}, which is not among these folders")
            elif self.heads[matched] != name and (not parents or is_merge):
                parents.setdefault(matched, f"{file} names {reference}")
                is_certain = is_certain and certain
        told = "; ".join(elsewhere[:MOST_TOLD])
        if not parents:
            return Answer(why=told, is_decided=not is_merge)
        why = "; ".join(
            [*list(parents.values())[:MOST_TOLD], *([told] if is_merge and told else [])]
        )
        is_decided = is_certain and not (is_merge and elsewhere)
        return Answer(tuple(parents), why, is_decided=is_decided)

    def _is_merge(self, name: str) -> bool:
        return bool(self.evidence[name]) and self.evidence[name][0].method == "merge"

    def _without_cycles(self, parents: dict[str, Answer]) -> dict[str, Answer]:
        """Answers of which no two contradict: files can name each other as parents."""
        checked: dict[str, Answer] = {}
        steps = {name: parents[head] for name, head in self.heads.items() if head in parents}
        for name, answer in parents.items():
            known = {**steps, **parents, **checked}
            if any(_descends(parent, name, known) for parent in answer.names):
                why = f"{answer.why}, but that comes from {name} in turn"
                checked[name] = Answer((), why, answer.names, is_decided=False)
            else:
                checked[name] = answer
        return checked

    def _with_servable_adapters(self, parents: dict[str, Answer]) -> dict[str, Answer]:
        """A manifest serves an adapter on the weights of one parent: others are questions."""
        servable: dict[str, Answer] = {}
        for name, answer in parents.items():
            adapters = [parent for parent in answer.names if self.folders[parent].is_adapter]
            if self.folders[name].is_adapter and (adapters or len(answer.names) > 1):
                why = f"{answer.why}; an adapter is served on the weights of one checkpoint: merge"
                answer = Answer((), why, answer.names, is_decided=False)
            servable[name] = answer
        # An adapter that cannot be served waits in a comment, and is nobody's parent.
        waiting = {n for n, a in servable.items() if self.folders[n].is_adapter and not a.names}
        return {
            name: Answer((), f"{answer.why}; it cannot be served", answer.names, is_decided=False)
            if waiting & set(answer.names)
            else answer
            for name, answer in servable.items()
        }

    def _found(self, name: str, parents: dict[str, Answer]) -> Found:
        folder = self.folders[name]
        original = self.originals.get(name)
        head = self.heads[original or name]
        head = self.originals.get(head, head)
        notes = []
        if original:
            notes.append(f"the same weights as {original}: independent samples of it")
        answer = parents[head]
        step = folder.step
        if step is None and any(h == head != n for n, h in self.heads.items()):
            step = read_leftovers(folder.directory).step
        method = self._method(head) if answer.names or self.evidence[head] else Answer()
        if not answer.names and self._is_trained(head):
            answer = replace(answer, is_decided=False)
        elif not answer.names:
            answer = replace(answer, why=answer.why or "nothing says that training made it")
        teacher = self._teacher(head, method, parents)
        if name != head:
            # One question for a stage, not one for each of its steps and copies.
            answer, method = (
                replace(told, why=f"as {head}", is_decided=True) for told in (answer, method)
            )
            teacher = Answer()
        copies = sorted(n for n, o in self.originals.items() if o == original)
        return Found(
            name,
            folder.directory,
            folder.is_adapter,
            step,
            1 + copies.index(name) if original else 0,
            self.evidence[name],
            answer,
            method,
            teacher,
            tuple(notes),
        )

    def _method(self, name: str) -> Answer:
        """The method with the strongest evidence; equally strong ones are a question."""
        evidence = self.evidence[name]
        if not evidence:
            return Answer(
                ("sft",),
                "nothing in the folder says how it was trained",
                is_decided=False,
            )
        best = [found for found in evidence if found.strength == evidence[0].strength]
        names = tuple(found.method for found in best)
        return Answer(names[:1], best[0].found, names[1:], len(names) == 1)

    def _teacher(self, name: str, method: Answer, parents: dict[str, Answer]) -> Answer:
        """Who may have taught a stage whose method learns from a teacher: no file says it."""
        # Of a checkpoint without a parent nothing is decided, so any of its methods counts.
        possible = method.names if parents[name].names else (*method.names, *method.candidates)
        taught = [
            possibly
            for possibly in possible
            if declare(self.methods, StageSettings(possibly)).interface is Interface.TEACHER_TARGETS
        ]
        if not taught:
            return Answer()
        own = self._tokenizer(name)
        others = [
            other
            for other in self._own_heads()
            if other != name
            and not self.folders[other].is_adapter
            and self._tokenizer(other) == own
            and not _descends(other, name, parents)
        ]
        why = f"{' or '.join(taught)} learns from a teacher, and no file names it"
        return Answer((), why, tuple(others), is_decided=False)

    def _tokenizer(self, name: str) -> str:
        """Digest of a checkpoint's tokenizer; empty where it cannot be read."""
        try:
            return tokenizer_digest(self.folders[name].directory)
        except CheckpointError:
            return ""


def _descends(name: str, above: str, parents: dict[str, Answer]) -> bool:
    waiting, seen = [name], set()
    while waiting:
        current = waiting.pop()
        if current == above:
            return True
        if current not in seen:
            seen.add(current)
            waiting += parents[current].names if current in parents else ()
    return False


def _by_weights(placing: Placing | None, named: Answer) -> Answer:
    """A parent from distances, beside what the files said to no avail."""
    if placing is None:
        return named
    told = f"{named.why}; " if named.why else ""
    others = tuple(name for name, _ in placing.others)
    if placing.parent is None:
        nearest = ", ".join(f"{name} {distance:.3f}" for name, distance in placing.others[:3])
        why = (
            "no other checkpoint has its shape"
            if placing.is_alone
            else "taken for the first of its shape, of which none is a root"
        )
        why += f"; nearest in the tensors that they share: {nearest}" if nearest else ""
        return Answer((), told + why, others, is_decided=False)
    why = f"{told}nearest weights: {placing.parent} {placing.distance:.4f}"
    why += "".join(f", {name} {distance:.4f}" for name, distance in placing.others)
    if placing.twins:
        told = ", ".join(f"{twin} has nearly the weights of {of}" for twin, of in placing.twins)
        why += f" ({told})"
    if placing.is_out_of_reach:
        why += "; by its log it cannot have moved that far"
    if placing.may_be_reversed:
        why += "; it may be the other way round"
    return Answer((placing.parent,), why, others, placing.is_decided)


def _parents_first(found: Sequence[Found]) -> tuple[Found, ...]:
    """In the order of a manifest that is read from top to bottom: parents first, a stage's steps
    before it, and last what comes from a checkpoint without an answer."""
    parents = {checkpoint.name: checkpoint.parents for checkpoint in found}

    depths: dict[str, int] = {}
    unplaced: dict[str, bool] = {}
    for start in parents:
        # A stack of our own: a chain of stages may be longer than Python's.
        trail = [start]
        while trail:
            answer = parents[trail[-1]]
            above = [parent for parent in answer.names if parent in parents]
            missing = [parent for parent in above if parent not in depths]
            if missing:
                trail.append(missing[0])
                continue
            name = trail.pop()
            depths[name] = 1 + max((depths[parent] for parent in above), default=-1)
            unplaced[name] = any(unplaced[parent] for parent in above) or not (
                answer.names or answer.is_decided
            )

    def key(checkpoint: Found) -> tuple[bool, int, str, float, str]:
        is_step = step_of(checkpoint.directory.name) is not None
        stage = checkpoint.directory.parent if is_step else checkpoint.directory
        step = float("inf") if checkpoint.step is None else checkpoint.step
        return unplaced[checkpoint.name], depths[checkpoint.name], str(stage), step, checkpoint.name

    return tuple(sorted(found, key=key))
