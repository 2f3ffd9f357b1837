"""What the page says of each stage: one sentence, the verdicts behind it, a table by task."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ptharness.report.choices import (
    CHOICE_COLUMNS,
    choice_tags,
    choice_tasks,
    has_choices_only,
)
from ptharness.report.lineage import Checkpoint, Lineage, Scope
from ptharness.report.numbers import amount, interval, unit
from ptharness.report.sentences import movement, undefined, word, words
from ptharness.report.tables import Row, Tables
from ptharness.report.verdicts import Verdict, Verdicts

COLUMNS = (
    ("delta", "change"),
    ("exp", "expansion"),
    ("rsh", "reshaping"),
    ("att", "attrition"),
    ("res", "residual"),
)
NAMES = {
    "rsh_up": "reshaping to the better",
    "rsh_down": "reshaping to the worse",
    "new": "items newly reached",
    "lost": "items no longer reached",
    "same_model_new": "items that two runs of one model would seem to gain",
    "movement": "movement of the items, squared, free of chance",
    "certified_new": "items certified as newly reachable",
    "certified_lost": "items certified as no longer reachable",
    "recovered_gap": "share of the gap to the teacher that is recovered",
    "support_transfer": "share of the teacher's new support that is transferred",
    "novelty": "solved by the student and not by the teacher",
    "amortisation": "share of the gain from more attempts that is amortised",
    "break_even": "attempts of the parent that equal one of the child",
    "crossover": "attempts at which the curves cross",
    "choice_probability": "belief in the right choice",
    "forgetting": "choices right before and not after, luck taken off",
    "backward_transfer": "choices right after and not before, luck taken off",
}
"""Further quantities in words, in the order in which they are listed."""


@dataclass(frozen=True)
class Cell:
    """An estimate as it is printed; `title` says more, or why there is none."""

    value: str
    interval: str
    title: str


@dataclass(frozen=True)
class TaskRow:
    """A stage on one scope."""

    label: str
    cells: tuple[Cell | None, ...]
    verdict: Verdict | None
    measured: str


@dataclass(frozen=True)
class ChoiceRow:
    """A stage on multiple choice: one task, or a tag's tasks; cells as `CHOICE_COLUMNS`."""

    label: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Further:
    """A quantity beyond the decomposition."""

    name: str
    pair: str
    cell: Cell
    unit: str


@dataclass(frozen=True)
class Stage:
    """A stage as the page shows it."""

    checkpoint: Checkpoint
    sources: str
    provenance: str
    declared: str
    main: Verdict | None
    measured: str
    sentence: str
    verdicts: tuple[Verdict, ...]
    comparable: str
    choices: tuple[ChoiceRow, ...]
    rows: tuple[TaskRow, ...]
    further: tuple[Further, ...]


def stages(tables: Tables, lineage: Lineage, verdicts: Verdicts) -> list[Stage]:
    """All stages in the order of the lineage."""
    by_target: dict[str, list[Row]] = {}
    for row in tables.rows("edges"):
        by_target.setdefault(row["target"], []).append(row)
    of_choices = _choice_scopes(tables, lineage)
    return [
        _stage(stage, by_target.get(stage.name, []), lineage, verdicts, of_choices)
        for stage in lineage.stages
    ]


def _choice_scopes(tables: Tables, lineage: Lineage) -> frozenset[int]:
    """The scopes that rest on multiple choice alone."""
    alike = {
        "task": choice_tasks(tables.run),
        "tag": choice_tags(tables.run),
        "pooled": frozenset({"pooled"} if has_choices_only(tables.run) else ()),
    }
    return frozenset(s.index for s in lineage.scopes if s.name in alike.get(s.kind, ()))


def _stage(
    stage: Checkpoint,
    rows: list[Row],
    lineage: Lineage,
    verdicts: Verdicts,
    of_choices: frozenset[int],
) -> Stage:
    by_scope: dict[int, dict[str, Row]] = {}
    parent = next((p for p in stage.parents if any(r["source"] == p for r in rows)), None)
    for row in rows:
        scope = lineage.scope(row)
        if scope and row["relation"] == "edge" and row["source"] == parent:
            by_scope.setdefault(scope.index, {})[row["quantity"]] = row
    first = _headline(lineage, by_scope)
    main = verdicts.main(stage)
    scope = lineage.scopes[first] if first is not None else None
    found = verdicts.of(stage, scope) if scope else []
    estimates = by_scope.get(first, {}) if first is not None else {}
    said = undefined(estimates)
    choices_alone = first in of_choices
    beyond = [row for row in rows if _is_from_another(row, stage)] if choices_alone else rows
    return Stage(
        stage,
        " and ".join(stage.parents),
        word(stage.provenance) or "provenance unknown",
        words(stage.roles),
        None if choices_alone else main,
        "no role, on multiple choice"
        if choices_alone
        else word(main.measured)
        if main
        else "not measured",
        movement(estimates, of_choices=choices_alone),
        # Of choices alone each would say again that there are no attempts.
        () if choices_alone else tuple(_told(found, stage, said)),
        _comparable(rows, main),
        tuple(_choices(by_scope, lineage, of_choices)),
        tuple(_rows(stage, by_scope, lineage, verdicts, of_choices)),
        tuple(_further(beyond, scope, said)) if scope else (),
    )


def _told(found: list[Verdict], stage: Checkpoint, said: str) -> Iterator[Verdict]:
    """The verdicts that say something, without what the sentence above them says already."""
    for verdict in found:
        if _is_new(verdict, stage):
            beyond = f"{verdict.reason}; ".removeprefix(f"{said}; ").removesuffix("; ")
            yield replace(verdict, reason=beyond)


def _is_new(verdict: Verdict, stage: Checkpoint) -> bool:
    """Whether a verdict says something of the stage that its edge does not say."""
    same = verdict.relation == "teacher" and verdict.source in stage.parents
    return verdict.relation in ("edge", "replicate", "teacher") and not same


def _is_from_another(row: Row, stage: Checkpoint) -> bool:
    """Whether a row is known and of a teacher that is no parent."""
    is_known = row["estimate"] is not None
    return is_known and row["relation"] == "teacher" and row["source"] not in stage.parents


def _headline(lineage: Lineage, by_scope: dict[int, dict[str, Row]]) -> int | None:
    """The scope of the sentence: the first one where the change is known."""
    known = [
        scope.index
        for scope in lineage.scopes
        if (delta := by_scope.get(scope.index, {}).get("delta")) and delta["estimate"] is not None
    ]
    pooled = [scope.index for scope in lineage.scopes if scope.kind == "pooled"]
    return next(iter(known or pooled or by_scope), None)


def _comparable(rows: list[Row], main: Verdict | None) -> str:
    """What to know where the two sides were not asked alike."""
    for row in rows:
        if row["relation"] == "edge" and row["comparable"] != "same":
            kind = (
                "each asked as it is meant to be used"
                if row["comparable"] == "native"
                else ("not comparable")
            )
            return f"{kind}: {row['reason']}" if row["reason"] else kind
    if main is not None and main.comparable != "same":
        return (
            "each asked as it is meant to be used"
            if main.comparable == "native"
            else ("not comparable")
        )
    return ""


def _rows(
    stage: Checkpoint,
    by_scope: dict[int, dict[str, Row]],
    lineage: Lineage,
    verdicts: Verdicts,
    of_choices: frozenset[int],
) -> Iterator[TaskRow]:
    for scope in lineage.scopes:
        estimates = by_scope.get(scope.index)
        verdict = verdicts.main(stage, scope)
        if scope.index in of_choices or (not estimates and verdict is None):
            continue
        found = estimates or {}
        yield TaskRow(
            scope.label,
            tuple(cell(found[q]) if q in found else None for q, _ in COLUMNS),
            verdict,
            word(verdict.measured) if verdict else "",
        )


def _choices(
    by_scope: dict[int, dict[str, Row]], lineage: Lineage, of_choices: frozenset[int]
) -> Iterator[ChoiceRow]:
    for scope in lineage.scopes:
        found = by_scope.get(scope.index)
        # The mean over all tasks is the sentence above.
        if not found or scope.index not in of_choices or scope.kind == "pooled":
            continue
        why = "the items' choices are not known" if scope.kind == "task" else "given by task alone"
        nothing = Cell(amount("delta", None), "", f"undefined: {why}")
        yield ChoiceRow(
            scope.label, tuple(cell(found[q]) if q in found else nothing for q, _ in CHOICE_COLUMNS)
        )


def cell(row: Row) -> Cell:
    """An estimate with its interval, and in the title what the table says beside it."""
    quantity = row["quantity"]
    if row["estimate"] is None:
        return Cell(amount(quantity, None), "", f"undefined: {row['reason'] or 'no reason given'}")
    parts = [f"{100 * row['level']:g} % interval"] if row["level"] and interval(row) else []
    parts += [row["ci_method"]] if row["ci_method"] else []
    parts += [f"k = {row['k']}"] if row["k"] else []
    parts += [f"q = {row['q']:.3g}"] if row["q"] is not None else []
    parts += [f"{row['items']} items"]
    parts += [row["reason"]] if row["reason"] else []
    return Cell(amount(quantity, row["estimate"]), interval(row), ", ".join(parts))


def _further(rows: list[Row], scope: Scope, why: str) -> Iterator[Further]:
    """Edges and teachers, and nothing that the table of tasks shows already, or that is undefined
    for the reason that the sentence gives."""
    shown = {quantity for quantity, _ in COLUMNS}
    here = [
        row
        for row in rows
        if (row["scope"], row["task"]) == (scope.kind, scope.name)
        and (row["relation"] == "teacher" or row["quantity"] not in shown)
        and row["relation"] in ("edge", "teacher")
    ]
    said = {(row["source"], row["quantity"]) for row in here if row["relation"] == "edge"}
    # A student that started from its teacher: what the edge says is not said again.
    said |= {(source, quantity) for source, _ in said for quantity in shown}
    here = [
        row
        for row in here
        if row["relation"] == "edge" or (row["source"], row["quantity"]) not in said
        if row["estimate"] is not None or not row["reason"] or row["reason"] not in why
    ]
    order = {quantity: place for place, quantity in enumerate(NAMES)}
    for row in sorted(here, key=lambda r: (r["relation"], order.get(r["quantity"], len(order)))):
        quantity = row["quantity"]
        name = NAMES.get(quantity) or dict(COLUMNS).get(quantity, quantity.replace("_", " "))
        pair = f"{row['source']} \u2192 {row['target']}"
        if row["relation"] == "teacher":
            pair += " (teacher to student)"
        yield Further(name, pair, cell(row), unit(quantity))
