"""The last thing that `ptharness run` prints: checkpoints down, tasks across."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ptharness.context import VISIBLE_SHARE
from ptharness.results import Results
from ptharness.text import safe

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.table import Table

_CELL_WIDTH = 27
_TAG_COLUMNS = ("lineage", "checkpoint", "stage", "parents", "method", "provenance", "role")


def summary_json(results: Results) -> dict[str, Any]:
    """The summary as plain values; shares are fractions of 1, what is undefined is null.

    Each task of a checkpoint has the primary metric with its interval, `binary`, `pass_at`
    (k as text -> value, empty for choices), `truncation_rate` (null for choices) and
    `too_long_rate` (null where every prompt fitted). `groups` are lm-eval's aggregates.
    """
    cells, groups = _cells(results), _groups(results)
    return {
        "lineage": results.run.get("lineage"),
        "state": results.run.get("state"),
        "path": str(results.path),
        "checkpoints": [
            {
                **{name: row[name] for name in _TAG_COLUMNS[1:]},
                "tasks": cells.get(row["checkpoint"], {}),
                "groups": groups.get(row["checkpoint"], []),
            }
            for row in results.arrow("checkpoints", _TAG_COLUMNS).to_pylist()
        ],
        "failures": results.run.get("failures", []),
    }


def summary_table(results: Results) -> RenderableType:
    """The summary for a terminal, in as many blocks as its width needs. Nothing in it is markup."""
    return _Summary(summary_json(results))


class _Summary:
    """Lays tasks out in blocks once rich tells the width."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.content = content
        self.tasks = list(
            dict.fromkeys(task for c in content["checkpoints"] for task in c["tasks"])
        )
        self.has_groups = any(c["groups"] for c in content["checkpoints"])

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        from rich.text import Text

        names = max((len(safe(c["checkpoint"])) for c in self.content["checkpoints"]), default=0)
        room = options.max_width - min(names, 30) - 40
        across = max(1, room // (_CELL_WIDTH + 2))
        blocks = [self.tasks[i : i + across] for i in range(0, len(self.tasks), across)]
        for block in blocks or [[]]:
            yield self._table(block)
        if self.has_groups:
            yield self._group_table()
        yield Text(self._caption(), style="dim")

    def _table(self, tasks: Sequence[str]) -> Table:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("checkpoint", overflow="fold", max_width=30)
        table.add_column("provenance", no_wrap=True)
        table.add_column("declared role", no_wrap=True)
        for task in tasks:
            table.add_column(Text(safe(task)), overflow="fold", max_width=_CELL_WIDTH)
        for checkpoint in self.content["checkpoints"]:
            found = checkpoint["tasks"]
            cells = [
                safe(checkpoint["checkpoint"]),
                safe(checkpoint["provenance"] or "-"),
                "\n".join(safe(role) for role in checkpoint["role"]) or "-",
                *(_cell(found[task]) if task in found else "-" for task in tasks),
            ]
            table.add_row(*(Text(cell) for cell in cells))
        return table

    def _group_table(self) -> Table:
        """A line for each metric of a group, checkpoints across."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        values: dict[tuple[str, ...], dict[str, str]] = {}
        for checkpoint in self.content["checkpoints"]:
            for row in checkpoint["groups"]:
                key = tuple(safe(row[name]) for name in ("group", "metric", "filter"))
                values.setdefault(key, {})[checkpoint["checkpoint"]] = _plain(row["value"])
        names = [c["checkpoint"] for c in self.content["checkpoints"] if c["groups"]]
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for heading in ("group", "metric", "filter", *names):
            table.add_column(Text(safe(heading)), overflow="fold", max_width=30)
        for key, found in values.items():
            cells = [*key, *(found.get(name, "-") for name in names)]
            table.add_row(*(Text(cell) for cell in cells))
        return table

    def _caption(self) -> str:
        cells = [cell for c in self.content["checkpoints"] for cell in c["tasks"].values()]
        lines = []
        if any(cell["pass_at"] for cell in cells):
            lines.append("pass@1 in % [95 % interval] · pass@n, n = all samples of an item")
        if any(not cell["pass_at"] and cell["binary"] for cell in cells):
            lines.append("without pass@n: the primary metric in % [95 % interval]")
        if any(not cell["binary"] for cell in cells):
            lines.append("not in %: a primary metric that is no yes/no")
        if any(_is_cut(cell) for cell in cells):
            lines.append("cut: completions that max_tokens or the context cut off")
        if any(cell["too_long_rate"] for cell in cells):
            lines.append("too long: prompts that did not fit the context; not asked, not correct")
        if any(len(c["tasks"]) < len(self.tasks) for c in self.content["checkpoints"]):
            lines.append("-: not evaluated; run.json lists the failures")
        return "\n".join(lines)


def _cells(results: Results) -> dict[str, dict[str, dict[str, Any]]]:
    """checkpoint -> task -> cell."""
    described = results.run.get("tasks", {})
    wanted = ["checkpoint", "task", "metric", "filter", "value", "stderr", "ci_low", "ci_high"]
    rows = _metric_rows(results, [*wanted, "n", "samples", "is_primary"], of_groups=False)
    by_pair: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        by_pair.setdefault((row["checkpoint"], row["task"]), []).append(row)
    cells: dict[str, dict[str, dict[str, Any]]] = {}
    for (checkpoint, task), metrics in by_pair.items():
        cell = _cell_values(metrics, binary=bool(described.get(task, {}).get("binary")))
        cells.setdefault(checkpoint, {})[task] = cell
    return cells


def _groups(results: Results) -> dict[str, list[dict[str, Any]]]:
    """checkpoint -> metrics of the groups."""
    wanted = ["task", "metric", "filter", "value", "stderr", "ci_low", "ci_high", "n", "tasks"]
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in _metric_rows(results, ["checkpoint", *wanted], of_groups=True):
        named = {"group" if name == "task" else name: row[name] for name in wanted}
        groups.setdefault(row["checkpoint"], []).append(
            {k: _finite(v) if isinstance(v, float) else v for k, v in named.items()}
        )
    return groups


def _metric_rows(
    results: Results, columns: Sequence[str], *, of_groups: bool
) -> list[dict[str, Any]]:
    """Rows of `metrics`: of tasks, or of groups (which tables of before do not have)."""
    if "tasks" not in results.columns("metrics"):
        return [] if of_groups else results.arrow("metrics", columns).to_pylist()
    rows: list[dict[str, Any]] = results.arrow(
        "metrics", list(dict.fromkeys([*columns, "tasks"]))
    ).to_pylist()
    return [row for row in rows if (row["tasks"] is not None) == of_groups]


def _cell_values(metrics: Sequence[Mapping[str, Any]], *, binary: bool) -> dict[str, Any]:
    own = next((row for row in metrics if row["is_primary"]), None)
    passes = {
        row["metric"].removeprefix("pass@"): row
        for row in metrics
        if row["metric"].startswith("pass@") and not row["is_primary"]
    }
    shown = passes.get("1") or own or {}
    rates = {row["metric"]: row["value"] for row in metrics if row["metric"].endswith("_rate")}
    names = ("value", "stderr", "ci_low", "ci_high", "n", "samples")
    return {
        "metric": (own or shown).get("metric"),
        "filter": (own or shown).get("filter"),
        "binary": binary,
        **{name: _finite(shown.get(name)) for name in names},
        "pass_at": {k: row["value"] for k, row in passes.items()},
        "truncation_rate": rates.get("truncation_rate"),
        "too_long_rate": rates.get("too_long_rate"),
    }


def _finite(value: float | None) -> float | None:
    """JSON has no infinity."""
    return value if value is None or math.isfinite(value) else None


def _is_cut(cell: Mapping[str, Any]) -> bool:
    return (cell["truncation_rate"] or 0.0) > VISIBLE_SHARE


def _cell(cell: Mapping[str, Any]) -> str:
    """`62.3 [58.1, 66.4] · 94.0`, and further lines where some were cut off or not asked."""
    number = _percent if cell["binary"] else _plain
    text = number(cell["value"])
    if cell["ci_low"] is not None:
        text += f" [{number(cell['ci_low'])}, {number(cell['ci_high'])}]"
    largest = max(cell["pass_at"], key=int, default="1")
    if largest != "1":
        text += f" · {_percent(cell['pass_at'][largest])}"
    if _is_cut(cell):
        text += f"\ncut {_percent(cell['truncation_rate'])} %"
    if cell["too_long_rate"]:
        text += f"\ntoo long {_percent(cell['too_long_rate'])} %"
    return text


def _percent(share: float | None) -> str:
    return "?" if share is None else f"{100 * share:.1f}"


def _plain(value: float | None) -> str:
    return "?" if value is None else f"{value:.4g}"
