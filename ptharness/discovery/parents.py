"""Who came from whom, by weights alone: a tree over checkpoints of one shape, with its doubts.

Training moves weights a little, so a parent is near. That alone is not enough: siblings are near
too, and distance has no direction. Three things help, and where they do not, all that remains
possible is named instead of guessed:

- *Roots*: a checkpoint that no training run left a trace in comes first.
- *Reach*: the learning rates in a stage's log add up to a bound on how far it can have moved.
- *Right angles*: in high dimensions two updates are nearly orthogonal. If `a` is the parent of
  both `u` and `b`, then |u - b|^2 = |u - a|^2 + |a - b|^2: the triangle has its right angle at
  the parent. Two updates that learn the same thing are not orthogonal, hence the wide margin.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ptharness.discovery.weights import Sample, distances, shared_distance

SAME = 1.02
"""Distances within this factor are equal: the earlier checkpoint is taken."""

FAR = 2.0
"""A candidate this many times as far as the nearest is none."""

TWIN = 1 / 20
"""Two candidates this near each other, in units of their distance, are one for this question."""

RIGHT_ANGLE = 0.5
"""Of 1 for a right angle at the first candidate, and -1 for one at the other."""

MEASURABLE = 1 / 5
"""Below this ratio of sides the angle says nothing: a small cosine decides it."""


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

    `others` are the parents that cannot be ruled out, with their distances; `twins` have nearly
    the same weights as the parent.
    """

    parent: str | None
    distance: float = 0.0
    others: tuple[tuple[str, float], ...] = ()
    twins: tuple[str, ...] = ()
    may_be_reversed: bool = False

    @property
    def is_decided(self) -> bool:
        """Whether the weights leave one answer."""
        return self.parent is not None and not self.others and not self.may_be_reversed


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
            placings[name] = Placing(None, others=_of_other_shapes(name, nodes))
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
        self.below = np.eye(len(nodes), dtype=bool)
        self.parent: dict[int, int] = {}
        self.children: dict[int, list[int]] = {}
        self.first: int | None = None
        for number, node in enumerate(nodes):
            for name in node.parents or ():
                if name in self.names:
                    self._put_below(number, self.names.index(name))

    def placings(self) -> dict[str, Placing]:
        waiting = [n for n, node in enumerate(self.nodes) if node.is_trained and not node.parents]
        roots = [n for n, node in enumerate(self.nodes) if not node.is_trained]
        order = roots + [n for n, node in enumerate(self.nodes) if node.is_trained and node.parents]
        if waiting and not order:
            # Nothing here is a root: the one that trained longest is likeliest to come first.
            reaches = [node.reach if math.isfinite(node.reach) else -1.0 for node in self.nodes]
            self.first = max(waiting, key=lambda n: (reaches[n], -self.far[n].sum()))
            waiting.remove(self.first)
            order.append(self.first)
        while waiting:
            child, parent = self._next(waiting, order)
            self.parent[child] = parent
            self.children.setdefault(parent, []).append(child)
            self._put_below(child, parent)
            waiting.remove(child)
            order.append(child)
        found = {self.names[child]: self._placing(child) for child in self.parent}
        if self.first is not None:
            found[self.names[self.first]] = Placing(None)
        return found

    def _put_below(self, child: int, parent: int) -> None:
        self.below[self.below[:, child]] |= self.below[parent]

    def _next(self, waiting: list[int], order: list[int]) -> tuple[int, int]:
        """The waiting node that is nearest to a placed one, and the earliest as near as that.

        What a stage's reach excludes is used only where nothing else is left.
        """
        far = self.far[np.ix_(waiting, order)]
        free = ~self.below[np.ix_(order, waiting)].T
        within = free & (far <= self.reach[waiting][:, None])
        allowed = within if within.any() else free if free.any() else np.ones_like(free)
        masked = np.where(allowed, far, np.inf)
        row, _ = np.unravel_index(masked.argmin(), masked.shape)
        earliest = int(np.flatnonzero(masked[row] <= SAME * masked[row].min())[0])
        return waiting[int(row)], order[earliest]

    def _placing(self, child: int) -> Placing:
        parent = self.parent[child]
        distance = float(self.far[child, parent])
        near = self.far[child] <= min(FAR * distance, self.reach[child])
        others, twins = self._possible_reversals(child, parent), []
        for other in map(int, np.flatnonzero(near & ~self.below[:, child])):
            if other == parent:
                continue
            if self.far[parent, other] < TWIN * distance:
                twins.append(self.names[other])
            elif not self._right_angle(parent, child, other):
                others.add(other)
        ranked = sorted((float(self.far[child, other]), self.names[other]) for other in others)
        return Placing(
            self.names[parent],
            distance,
            tuple((name, far) for far, name in ranked),
            tuple(twins),
            may_be_reversed=parent == self.first and self._reachable(parent, child),
        )

    def _reachable(self, child: int, parent: int) -> bool:
        return bool(self.far[child, parent] <= self.reach[child])

    def _right_angle(self, corner: int, one: int, other: int) -> bool:
        """Whether the triangle's right angle lies at `corner`, and can be told to."""
        to_one, to_other = self.far[corner, one], self.far[corner, other]
        if to_other < MEASURABLE * to_one or to_other == 0:
            return False
        return bool((self.far[one, other] ** 2 - to_one**2) / to_other**2 >= RIGHT_ANGLE)

    def _possible_reversals(self, child: int, parent: int) -> set[int]:
        """Who else may stand above: parent -> grandchild -> child, the other way round.

        Asked of the middle one about its children, and of the lower one about its grandparent.
        """
        found = {
            grandchild
            for grandchild in self.children.get(child, [])
            if self._may_come_first(parent, child, grandchild)
        }
        above = self.parent.get(parent)
        if above is not None and self._may_come_first(above, parent, child):
            found.add(above)
        return found

    def _may_come_first(self, top: int, middle: int, low: int) -> bool:
        """Whether `low` may be the parent of `middle`, both below `top`."""
        if not (self._reachable(low, top) and self._reachable(middle, low)):
            return False
        return not self._right_angle(middle, top, low)
