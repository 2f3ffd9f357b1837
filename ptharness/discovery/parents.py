"""Who came from whom, by weights alone: a tree over checkpoints of one shape, with its doubts.

Training moves weights a little, so a parent is near. That alone is not enough: siblings are near
too, and distance has no direction. Three things help, and where they do not, all that remains
possible is named instead of guessed:

- *Roots*: a checkpoint that no training run left a trace in comes first.
- *Reach*: the learning rates in a stage's log add up to a bound on how far it can have moved.
- *Angles*: in many dimensions two updates are nearly orthogonal, so the triangle of a parent and
  its two children has about a right angle at the parent, and so has a chain at its middle. Two
  stages that learn the same thing move the same way, hence a wide margin at a common parent; a
  stage that undoes the one before is rare, hence a narrow one within a chain.

docs/explanation/discovery.md works an example.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ptharness.discovery.weights import Sample, distances, shared_distance

SAME = 1.02
"""Distances within this factor are equal: the earlier checkpoint is taken."""

FAR = 2.0
"""A candidate this many times as far as the nearest is none."""

TWIN = 1 / 20
"""Two candidates this near each other, in units of their distance, are one for this question."""

ALIKE = 0.9
"""Cosine of two siblings' updates above which their common parent is implausible: two stages of
the zoo that learn the same skill by different losses have one of 0.78."""

UNDONE = 0.25
"""Cosine above which a stage would undo the one before it: no chain."""


@dataclass(frozen=True)
class Node:
    """A checkpoint to be placed. `parents` are known already where its files named them."""

    name: str
    sample: Sample
    is_trained: bool
    reach: float = math.inf
    parents: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Placing:
    """Where a checkpoint belongs: `parent` None where it starts a tree.

    `others` are the parents that cannot be ruled out, with their distances; `twins` have nearly the
    weights of one of all these (the second of each pair), and come from it. `is_alone` says that
    no other checkpoint has its shape, `is_out_of_reach` that by its log it cannot have come even
    from this parent.
    """

    parent: str | None
    distance: float = 0.0
    others: tuple[tuple[str, float], ...] = ()
    twins: tuple[tuple[str, str], ...] = ()
    may_be_reversed: bool = False
    is_out_of_reach: bool = False
    is_alone: bool = False

    @property
    def is_decided(self) -> bool:
        """Whether the weights leave one answer."""
        doubts = self.others or self.may_be_reversed or self.is_out_of_reach
        return self.parent is not None and not doubts


def place(nodes: Sequence[Node]) -> dict[str, Placing]:
    """Where each trained node without known parents belongs, by its weights."""
    placings: dict[str, Placing] = {}
    shapes: dict[str, list[Node]] = {}
    for node in nodes:
        shapes.setdefault(node.sample.shape, []).append(node)
    for group in shapes.values():
        placings |= _Tree(group).placings()
    for name, placing in placings.items():
        if placing.parent is None:
            others = (*_of_other_shapes(name, nodes), *placing.others)
            placings[name] = replace(placing, others=others)
    return placings


def _of_other_shapes(name: str, nodes: Sequence[Node]) -> tuple[tuple[str, float], ...]:
    """Checkpoints of other shapes by the distance of the tensors they share, nearest first."""
    node = next(node for node in nodes if node.name == name)
    found = [
        (other.name, distance)
        for other in nodes
        if other.sample.shape != node.sample.shape
        and (distance := shared_distance(node.sample, other.sample)) is not None
    ]
    return tuple(sorted(found, key=lambda pair: pair[1]))


class _Tree:
    """The nodes of one shape, attached one after another, nearest first.

    `far` holds the distances (n, n), `below[i, j]` whether node i is j or comes from it.
    """

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = nodes
        self.names = [node.name for node in nodes]
        self.far = distances([node.sample for node in nodes])
        self.reach = np.array([node.reach for node in nodes], dtype=np.float64)
        self.known = [
            (number, self.names.index(name))
            for number, node in enumerate(nodes)
            for name in node.parents or ()
            if name in self.names
        ]
        self.parent: dict[int, int] = {}
        self.order: list[int] = []
        self.first: int | None = None
        self.below = self._descent()

    def placings(self) -> dict[str, Placing]:
        self._attach_all()
        found = {}
        for child in list(self.parent):
            placing = self._placing(child)
            found[self.names[child]] = placing
            parent = self.names.index(placing.parent or "")
            if parent != self.parent[child]:
                self.parent[child] = parent
                self.below = self._descent()
        if self.first is not None:
            found[self.names[self.first]] = self._starting(self.first)
        return found

    def _starting(self, first: int) -> Placing:
        """The node that a tree without a root starts with: any other may have come before it."""
        others = [n for n in range(len(self.nodes)) if n != first and self._reachable(first, n)]
        ranked = sorted((float(self.far[first, other]), self.names[other]) for other in others)
        return Placing(
            None, others=tuple((name, far) for far, name in ranked), is_alone=len(self.nodes) == 1
        )

    def _descent(self) -> npt.NDArray[np.bool_]:
        """Whether i is j or comes from it, by the known parents and those found so far."""
        below = np.eye(len(self.nodes), dtype=bool)
        for child, parent in (*self.known, *self.parent.items()):
            below[below[:, child]] |= below[parent]
        return below

    def _attach_all(self) -> None:
        """Give every waiting node the nearest placed one as its parent, nearest pair first."""
        waiting = [n for n, node in enumerate(self.nodes) if node.is_trained and not node.parents]
        self.order = [n for n, node in enumerate(self.nodes) if not node.is_trained]
        self.order += [n for n, node in enumerate(self.nodes) if node.is_trained and node.parents]
        if waiting and not self.order:
            # Nothing here is a root: the one that trained longest is likeliest to come first.
            reaches = [node.reach if math.isfinite(node.reach) else -1.0 for node in self.nodes]
            self.first = max(waiting, key=lambda n: (reaches[n], -self.far[n].sum()))
            waiting.remove(self.first)
            self.order.append(self.first)
        while waiting:
            child, parent = self._next(waiting)
            self.parent[child] = parent
            self.below[self.below[:, child]] |= self.below[parent]
            waiting.remove(child)
            self.order.append(child)

    def _next(self, waiting: list[int]) -> tuple[int, int]:
        """The waiting node that is nearest to a placed one, and the earliest as near as that.

        What a stage's reach excludes is used only where nothing else is left.
        """
        far = self.far[np.ix_(waiting, self.order)]
        free = ~self.below[np.ix_(self.order, waiting)].T
        within = free & (far <= self.reach[waiting][:, None])
        allowed = within if within.any() else free if free.any() else np.ones_like(free)
        masked = np.where(allowed, far, np.inf)
        row, _ = np.unravel_index(masked.argmin(), masked.shape)
        earliest = int(np.flatnonzero(masked[row] <= SAME * masked[row].min())[0])
        return waiting[int(row)], self.order[earliest]

    def _placing(self, child: int) -> Placing:
        candidates = self._candidates(child)
        plausible = {c for c in candidates if not self._implausible(c, child, candidates)}
        plausible = plausible or set(candidates)
        plausible -= self._echoes(plausible, child).keys()
        nearest = min(self.far[child, c] for c in plausible)
        parent = min(
            (c for c in plausible if self.far[child, c] <= SAME * nearest), key=self.order.index
        )
        distance = float(self.far[child, parent])
        possible = {parent} | plausible | self._possible_reversals(child, parent)
        echoes = self._echoes({*candidates, *possible}, child)
        others = possible - echoes.keys() - {parent}
        twins = [(echo, original) for echo, original in echoes.items() if original in possible]
        ranked = sorted((float(self.far[child, other]), self.names[other]) for other in others)
        return Placing(
            self.names[parent],
            distance,
            tuple((name, far) for far, name in ranked),
            tuple((self.names[echo], self.names[original]) for echo, original in twins),
            may_be_reversed=parent == self.first and self._reachable(parent, child),
            is_out_of_reach=not self._reachable(child, parent),
        )

    def _candidates(self, child: int) -> list[int]:
        """Nodes near enough, within the child's reach, and not its own descendants."""
        allowed = ~self.below[:, child] & (self.far[child] <= self.reach[child])
        if not allowed.any():
            return [self.parent[child]]
        nearest = self.far[child][allowed].min()
        return [int(c) for c in np.flatnonzero(allowed & (self.far[child] <= FAR * nearest))]

    def _implausible(self, candidate: int, child: int, candidates: list[int]) -> bool:
        """Whether the angle at a candidate, seen against its own parent and children, rules it out.

        Twins tell nothing: their side of the triangle is too short.
        """
        for other in candidates:
            if self.far[candidate, other] < TWIN * self.far[candidate, child]:
                continue
            if self.parent.get(other) == candidate:
                limit = ALIKE
            elif self.parent.get(candidate) == other:
                limit = UNDONE
            else:
                continue
            if self._cosine(candidate, child, other) > limit:
                return True
        return False

    def _cosine(self, corner: int, one: int, other: int) -> float:
        """Cosine of the triangle's angle at `corner`."""
        to_one, to_other = self.far[corner, one], self.far[corner, other]
        if not to_one * to_other:
            return 0.0
        across = self.far[one, other]
        return float((to_one**2 + to_other**2 - across**2) / (2 * to_one * to_other))

    def _echoes(self, candidates: set[int], child: int) -> dict[int, int]:
        """Candidates that are twins of another one and surely come from it, with that one."""
        return {
            number: original
            for number in candidates
            for original in candidates - {number}
            if self.far[original, number] < TWIN * self.far[child, original]
            and self.order.index(original) < self.order.index(number)
            and self._comes_after(number, original)
        }

    def _comes_after(self, number: int, twin: int) -> bool:
        """Whether a node cannot have come from where its twin came from, only from the twin."""
        above = self.parent.get(twin)
        return above is None or not self._reachable(number, above)

    def _reachable(self, child: int, parent: int) -> bool:
        return bool(self.far[child, parent] <= self.reach[child])

    def _possible_reversals(self, child: int, parent: int) -> set[int]:
        """Who else may stand above: parent -> grandchild -> child, the other way round.

        Asked of the middle one about its children, and of the lower one about its grandparent.
        """
        children = [number for number, above in self.parent.items() if above == child]
        found = {low for low in children if self._may_come_first(parent, child, low)}
        above = self.parent.get(parent)
        if above is not None and self._may_come_first(above, parent, child):
            instead = {above, *self._candidates(parent)} - {child}
            found |= {other for other in instead if self._reachable(child, other)}
        return found

    def _may_come_first(self, top: int, middle: int, low: int) -> bool:
        """Whether `low` may be the parent of `middle`, both below `top`."""
        return (
            self._reachable(low, top)
            and self._reachable(middle, low)
            and self._cosine(low, middle, top) <= UNDONE
        )
