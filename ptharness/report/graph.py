"""The lineage drawn: once from left to right, once as a column for narrow pages.

Both drawings have the main path straight. Coordinates only: templates/graph.html.j2 draws them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ptharness.report.lineage import Checkpoint, Lineage
from ptharness.report.sentences import word
from ptharness.report.verdicts import Verdict, Verdicts

BOX_WIDTH, BOX_HEIGHT = 128, 44
GAP, ROW = 74, 70
WIDEST = 1140
"""Beyond this a drawing from left to right would be too small to read."""
LANE, LINE = 20, 50
_MARGIN = 26
_LETTERS = 17
"""Letters of a name that fit into a box."""


@dataclass(frozen=True)
class Node:
    """A checkpoint at its place: of a box the corner, of a dot the middle."""

    x: float
    y: float
    name: str
    short: str
    role: str
    role_word: str
    mark: str
    flags: tuple[str, ...]
    note: str
    anchor: str


@dataclass(frozen=True)
class Line:
    """A way from parent to child, with where its label stands."""

    path: str
    provenance: str
    label: str
    x: float
    y: float


@dataclass(frozen=True)
class Drawing:
    """What an SVG of this size shows."""

    width: float
    height: float
    nodes: tuple[Node, ...]
    lines: tuple[Line, ...]
    dotted: tuple[Line, ...]
    trunks: tuple[str, ...] = ()
    """What several ways share. It has no line style: the ways' own would lie on each other."""


@dataclass(frozen=True)
class Graph:
    """The two drawings; `across` is None where it would be too wide."""

    across: Drawing | None
    down: Drawing
    description: str


def draw(lineage: Lineage, verdicts: Verdicts) -> Graph:
    """Draw a lineage."""
    tree = _Tree(lineage)
    found = {stage.name: verdicts.main(stage) for stage in lineage.stages}
    across = _across(tree, found)
    return Graph(
        across if across.width <= WIDEST else None,
        _down(tree, found),
        _description(lineage, found),
    )


class _Tree:
    """Children by first parent, the one with the longest line of descent first."""

    def __init__(self, lineage: Lineage) -> None:
        self.lineage = lineage
        self.children: dict[str, list[Checkpoint]] = {c.name: [] for c in lineage.checkpoints}
        self.roots: list[Checkpoint] = []
        for checkpoint in lineage.checkpoints:
            parent = next((p for p in checkpoint.parents if p in self.children), None)
            if parent is None:
                self.roots.append(checkpoint)
            else:
                self.children[parent].append(checkpoint)
        height: dict[str, int] = {}
        for checkpoint in reversed(lineage.checkpoints):
            below = (height.get(child.name, 0) for child in self.children[checkpoint.name])
            height[checkpoint.name] = 1 + max(below, default=0)
        for children in self.children.values():
            children.sort(key=lambda c: (-height[c.name], lineage.is_on_the_way(c), c.index))
        self.roots.sort(
            key=lambda root: (-height[root.name], lineage.is_on_the_way(root), root.index)
        )

    def first_parent(self, checkpoint: Checkpoint) -> str:
        return next(p for p in checkpoint.parents if p in self.children)


def _across(tree: _Tree, found: dict[str, Verdict | None]) -> Drawing:
    places: dict[str, tuple[float, float]] = {}
    rows = 0

    def place(checkpoint: Checkpoint, column: int, row: int) -> None:
        nonlocal rows
        places[checkpoint.name] = (column * (BOX_WIDTH + GAP) + 1, row * ROW + _MARGIN)
        for number, child in enumerate(tree.children[checkpoint.name]):
            if number:
                rows += 1
            place(child, column + 1, row if number == 0 else rows)

    for number, root in enumerate(tree.roots):
        if number:
            rows += 1
        place(root, 0, rows)
    trunks: list[str] = []
    lines: list[Line] = []
    dotted: list[Line] = []
    for checkpoint in tree.lineage.checkpoints:
        x, y = places[checkpoint.name]
        middle = y + BOX_HEIGHT / 2
        for number, parent in enumerate(p for p in checkpoint.parents if p in places):
            px, py = places[parent]
            start = (px + BOX_WIDTH, py + BOX_HEIGHT / 2)
            trunk, path = _elbow(start, (x, middle))
            if trunk:
                trunks.append(trunk)
            lines.append(
                Line(
                    path,
                    checkpoint.provenance or "unknown",
                    "" if number else word(checkpoint.provenance),
                    x - 6,
                    middle - 6,
                )
            )
        teacher = checkpoint.teacher
        if teacher in places and teacher not in checkpoint.parents:
            tx, ty = places[teacher]
            a, b = tx + BOX_WIDTH / 2, x + BOX_WIDTH / 2
            top = min(ty, y) - 18
            path = f"M{a} {ty}C{a} {top} {b} {top} {b} {y}"
            dotted.append(Line(path, "teacher", "teacher", (a + b) / 2, top + 2))
    columns = max((x for x, _ in places.values()), default=0) + BOX_WIDTH + 1
    nodes = tuple(_nodes(tree, places, found))
    height = rows * ROW + BOX_HEIGHT + _MARGIN + 20
    return Drawing(columns, height, nodes, tuple(lines), tuple(dotted), tuple(trunks))


def _elbow(start: tuple[float, float], end: tuple[float, float]) -> tuple[str, str]:
    """A straight way; or a trunk that others may share, and from there a way of its own."""
    (x, y), (to_x, to_y) = start, end
    if y == to_y:
        return "", f"M{x} {y}H{to_x}"
    trunk, turn = x + 11, 9 if to_y > y else -9
    return (
        f"M{x} {y}H{trunk - 9}Q{trunk} {y} {trunk} {y + turn}V{to_y - turn}",
        f"M{trunk} {to_y - turn}Q{trunk} {to_y} {trunk + 9} {to_y}H{to_x}",
    )


def _down(tree: _Tree, found: dict[str, Verdict | None]) -> Drawing:
    places: dict[str, tuple[float, float]] = {}
    widest = 0

    def place(checkpoint: Checkpoint, lane: int) -> None:
        nonlocal widest
        widest = max(widest, lane)
        places[checkpoint.name] = (lane * LANE + 8, len(places) * LINE + 12)
        children = tree.children[checkpoint.name]
        for fork in children[1:]:
            place(fork, lane + 1)
        for main in children[:1]:
            place(main, lane)

    for root in tree.roots:
        place(root, 0)
    lines: list[Line] = []
    dotted: list[Line] = []
    for checkpoint in tree.lineage.checkpoints:
        x, y = places[checkpoint.name]
        for number, parent in enumerate(p for p in checkpoint.parents if p in places):
            px, py = places[parent]
            if x > px and not number:
                # Down to here it goes along its parent's main line.
                way = f"M{px} {y - 8}Q{px} {y} {px + 8} {y}H{x}"
            elif x == px and not number:
                way = f"M{px} {py}V{y}"
            else:
                # A merge's further parent may lie anywhere.
                way = f"M{px} {py}C{px} {y} {x} {py} {x} {y}"
            line = Line(way, checkpoint.provenance or "unknown", "", 0, 0)
            (dotted if number else lines).append(line)
    height = len(places) * LINE
    nodes = tuple(_nodes(tree, places, found))
    return Drawing(widest * LANE + 16, height, nodes, tuple(lines), tuple(dotted))


def _nodes(
    tree: _Tree, places: dict[str, tuple[float, float]], found: dict[str, Verdict | None]
) -> Iterator[Node]:
    for checkpoint in tree.lineage.checkpoints:
        x, y = places[checkpoint.name]
        verdict = found.get(checkpoint.name)
        flags = []
        if verdict is not None:
            flags += ["attrition"] * verdict.attrition + ["harmful"] * verdict.harmful
        note = [word(checkpoint.provenance)] if checkpoint.provenance else []
        if checkpoint.teacher:
            note.append(f"teacher {checkpoint.teacher}")
        if checkpoint.replicate:
            note.append("independent repetition")
        if not checkpoint.parents:
            role, role_word = "root", "root"
        else:
            role = verdict.measured if verdict else "unmeasured"
            role_word = word(role) if verdict else "not measured"
        name = checkpoint.name
        yield Node(
            x,
            y,
            name,
            name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}\u2026",
            role,
            role_word,
            verdict.mark if verdict else "",
            tuple(flags),
            " \u00b7 ".join(note),
            f"stage-{checkpoint.index}" if checkpoint.parents else "",
        )


def _description(lineage: Lineage, found: dict[str, Verdict | None]) -> str:
    """The drawing in words, for who does not see it."""
    parts = []
    for checkpoint in lineage.stages:
        verdict = found.get(checkpoint.name)
        measured = f", measured {word(verdict.measured)}" if verdict else ""
        parts.append(
            f"{' and '.join(checkpoint.parents)} to {checkpoint.name} "
            f"({word(checkpoint.provenance) or 'provenance unknown'}{measured})"
        )
    return f"Lineage {lineage.name}: " + ("; ".join(parts) or "one checkpoint, no stage") + "."
