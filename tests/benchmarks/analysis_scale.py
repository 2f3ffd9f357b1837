"""Ten million sample rows to items, metrics and edges, and the same in plain pandas.

20 checkpoints in a chain x 5,000 items x 100 samples, with planted success probabilities, lie on
disk as a published `samples` folder. Ours reads all of it and makes items, metrics (pass@k with
intervals) and the cells of 19 edges, with 2,000 bootstrap replicates each. The pandas formulation
(`in_pandas`) makes the same numbers of a part, from which its time is scaled linearly; on that
part all numbers are compared. The split of reshaping into up and down is an iterative fit that
has no short formulation in pandas: it is timed apart. Each runs in a process of its own, whose
peak memory is reported.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from math import comb
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tests.benchmarks import common

CHECKPOINTS, ITEMS, SAMPLES, K = 20, 5_000, 100, 16
REPLICATES = 2_000
PART_CHECKPOINTS, PART_REPLICATES = 2, 200
"""What pandas is given: one edge, and so many replicates of its bootstrap."""

PANDAS_COLUMNS = ["item", "cluster", "score", "correct", "finish_reason", "completion_tokens"]
COUNTS = ("n", "c", "mean_score", "completion_tokens", "truncated")
CELLS = ("delta", "exp", "rsh", "att", "res", "new", "lost", "same_model_new")


@dataclass
class Stopwatch:
    """Wall-clock and processor seconds of each part; the latter do not feel other programs."""

    wall: dict[str, float] = field(default_factory=dict)
    processor: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        begun = time.perf_counter(), time.process_time()
        yield
        self.wall[part] = self.wall.get(part, 0) + time.perf_counter() - begun[0]
        self.processor[part] = self.processor.get(part, 0) + time.process_time() - begun[1]


def main() -> str:
    """Write the samples, run both, check that they agree, and return the figures as Markdown."""
    with tempfile.TemporaryDirectory() as name:
        write_samples(Path(name))
        ours, theirs = (_child(how, Path(name)) for how in ("ours", "pandas"))
    one_edge = CHECKPOINTS - 1
    factors = {"items": CHECKPOINTS / PART_CHECKPOINTS, "metrics": CHECKPOINTS / PART_CHECKPOINTS}
    factors |= {"cells": one_edge, "bootstrap": one_edge * REPLICATES / PART_REPLICATES}
    lines = [
        f"### Ten million samples ({common.machine()})",
        "",
        "| | items s | metrics s | edges s | all s | peak memory GB |",
        "|---|---|---|---|---|---|",
    ]
    for clock, what in (("wall", "wall-clock"), ("processor", "processor time")):
        mine = ours[clock]
        scaled = {part: theirs[clock][part] * factor for part, factor in factors.items()}
        scaled["edges"] = scaled.pop("cells") + scaled.pop("bootstrap")
        lines.append(_line(f"ptharness, {what}", mine, f"{ours['peak_gb']:.2f}"))
        lines.append(_line(f"pandas scaled up, {what}", scaled, ""))
        lines.append(f"| times faster | | | | {_whole(scaled) / _whole(mine):.0f} | |")
    up_down = (ours[clock]["reshaping"] for clock in ("wall", "processor"))
    lines += [
        "",
        "Reshaping up and down of all edges beside that: {:.1f} s ({:.1f} s of processor time), "
        "{:.2f} GB at most.".format(*up_down, ours["peak_gb_after"]),
        f"pandas was given {PART_CHECKPOINTS} checkpoints, one edge and {PART_REPLICATES} "
        f"replicates ({sum(theirs['wall'].values()):.1f} s). Largest difference of any number on "
        f"that part: {_largest_difference(ours['numbers'], theirs['numbers']):.1g}.",
    ]
    return "\n".join(lines) + "\n"


def write_samples(folder: Path) -> None:
    """Each checkpoint's samples as `publish` would write them, drawn from planted probabilities.

    Skills differ between items and grow along the chain; a fifth of the items starts out of reach.
    """
    from ptharness.publish.columns import make_table
    from ptharness.schema import SAMPLES as SCHEMA

    random = np.random.default_rng(0)
    skill = random.normal(-1.0, 2.0, ITEMS)
    beyond = random.random(ITEMS) < 0.2
    names = pa.array([f"{item}-{item * 2654435761 % 2**32:08x}" for item in range(ITEMS)])
    item = pa.DictionaryArray.from_arrays(
        np.repeat(np.arange(ITEMS, dtype=np.int32), SAMPLES), names
    ).cast(pa.string())
    count = ITEMS * SAMPLES
    for number in range(CHECKPOINTS):
        skill += random.normal(0.05, 0.3, ITEMS)
        reached = ~beyond | (random.random(ITEMS) < number / CHECKPOINTS / 2)
        chance = np.where(reached, 1 / (1 + np.exp(-skill)), 0.0)
        correct = random.random(count) < np.repeat(chance, SAMPLES)
        value = correct.astype(np.float64)
        columns = {
            "item": item,
            "cluster": item,
            "sample": np.tile(np.arange(SAMPLES, dtype=np.int32), ITEMS),
            "finish_reason": pa.array(np.where(random.random(count) < 0.02, "length", "stop")),
            "completion_tokens": random.integers(1, 200, count, dtype=np.int32),
            "score": value,
            "correct": correct,
            "scores": _scores(value),
        }
        name = f"c{number:02}"
        table = make_table(SCHEMA, count, columns, _constants(name))
        pq.write_table(table, folder / f"{name}.parquet")


def _constants(checkpoint: str) -> dict[str, Any]:
    tags = {"lineage": "scale", "checkpoint": checkpoint, "stage": int(checkpoint[1:])}
    return {**tags, "parents": [], "role": [], "task": "t"}


def _scores(value: np.ndarray[Any, Any]) -> pa.ListArray:
    entries = pa.StructArray.from_arrays(
        [
            pa.repeat(pa.scalar("exact_match"), len(value)),
            pa.repeat(pa.scalar("none"), len(value)),
            pa.array(value),
        ],
        names=["metric", "filter", "value"],
    )
    return pa.ListArray.from_arrays(np.arange(len(value) + 1, dtype=np.int32), entries)


# --- ours ------------------------------------------------------------------------------------


def ours(folder: Path) -> dict[str, Any]:
    """The program's own functions, over everything."""
    from ptharness.analysis.comparison import RESHAPING_REPLICATES, Comparison
    from ptharness.analysis.counts import counts_of
    from ptharness.analysis.decomposition import QUANTITIES, item_terms
    from ptharness.analysis.movement import Reshaping
    from ptharness.analysis.threads import on_one_core
    from ptharness.publish.items import COLUMNS, items_table
    from ptharness.publish.metrics import metrics_table

    clock = Stopwatch()
    items, metrics = [], []
    for file in sorted(folder.glob("*.parquet")):
        constants = _constants(file.stem)
        with clock("items"):
            samples = pq.read_table(file, columns=COLUMNS)
            made = items_table(samples, constants)
            items.append(made)
        with clock("metrics"):
            mean = float(made["mean_score"].to_numpy().mean())
            metrics.append(metrics_table(_planned(), samples, made, _aggregate(mean), constants))
    with clock("edges"), on_one_core():
        counts = counts_of(pa.concat_tables(items))["t"]
        names = counts.checkpoints
        pairs = [counts.pair(*pair)[0] for pair in pairwise(names)]
        draws = counts.draws(REPLICATES, 0)
        compared = [Comparison.of(pair, K, draws, split=False) for pair in pairs]
        edges = [comparison.estimates(0.95) for comparison in compared]
    peak = _peak_gb()
    some, column = draws.first(RESHAPING_REPLICATES), QUANTITIES.index("rsh")
    with clock("reshaping"), on_one_core():
        for pair in pairs:
            Reshaping.of(pair, item_terms(*pair, K)[:, column], K, some).estimates(0.95)
    numbers = {}
    for table in items[:PART_CHECKPOINTS]:
        checkpoint = table["checkpoint"][0].as_py()
        numbers |= {f"{checkpoint} {name}": table[name].to_pylist() for name in COUNTS}
    for table in metrics[:PART_CHECKPOINTS]:
        for row in table.to_pylist():
            if row["metric"].startswith("pass@"):
                numbers[f"{row['checkpoint']} {row['metric']}"] = [row["value"], row["stderr"]]
    for cell in CELLS:
        numbers[cell] = [edges[0][cell].estimate, edges[0][cell].stderr]
    figures = {"wall": clock.wall, "processor": clock.processor, "numbers": numbers}
    return {**figures, "peak_gb": peak, "peak_gb_after": _peak_gb()}


def _planned() -> Any:
    header = SimpleNamespace(primary=("exact_match", "none"), binary=True, kind="generate")
    return cast(Any, SimpleNamespace(prompts=SimpleNamespace(header=header), samples=SAMPLES))


def _aggregate(value: float) -> pa.Table:
    from ptharness.schema import AGGREGATES

    row = {"metric": "exact_match", "filter": "none", "value": value, "samples": SAMPLES}
    return pa.Table.from_pylist([row], schema=AGGREGATES)


# --- pandas ----------------------------------------------------------------------------------


def in_pandas(folder: Path) -> dict[str, Any]:
    """As one would write it in a notebook, on a part."""
    clock = Stopwatch()
    numbers: dict[str, list[float]] = {}
    parts = []
    for file in sorted(folder.glob("*.parquet"))[:PART_CHECKPOINTS]:
        with clock("items"):
            samples = pd.read_parquet(file, columns=PANDAS_COLUMNS)
            samples["truncated"] = samples.finish_reason == "length"
            items = samples.groupby("item", sort=False).agg(
                cluster=("cluster", "first"),
                n=("correct", "count"),
                c=("correct", "sum"),
                mean_score=("score", "mean"),
                completion_tokens=("completion_tokens", "sum"),
                truncated=("truncated", "sum"),
            )
            parts.append(items)
        numbers |= {f"{file.stem} {name}": items[name].astype(float).tolist() for name in COUNTS}
        with clock("metrics"):
            for k in (1, 2, 4, 8, 16, 32, 64, SAMPLES):
                reached = items.apply(_codex_pass_at_k, axis=1, k=k)
                numbers[f"{file.stem} pass@{k}"] = [float(reached.mean()), float(reached.sem())]
    with clock("cells"):
        terms = _terms(parts[0].add_suffix("0").join(parts[1].add_suffix("1")))
        mean, stderr = terms.mean(), terms.sem()
    with clock("bootstrap"):
        ratios = []
        for _ in range(PART_REPLICATES):
            drawn = terms.sample(frac=1, replace=True)
            ratios.append((drawn.mean() - mean) / drawn.sem())
        pd.DataFrame(ratios).quantile([0.025, 0.975])
    for cell in CELLS:
        numbers[cell] = [float(mean[cell]), float(stderr[cell])]
    return {"wall": clock.wall, "processor": clock.processor, "numbers": numbers}


def _terms(edge: pd.DataFrame) -> pd.DataFrame:
    """Each item's terms, as in ptharness.analysis.decomposition and .gained_lost."""

    def wrong(side: int, draws: int, fewer: int = 0) -> pd.Series:
        """C(n - c, draws) / C(n - fewer, draws)."""
        return edge.apply(
            lambda row: (
                comb(int(row[f"n{side}"] - row[f"c{side}"]), draws)
                / comb(int(row[f"n{side}"]) - fewer, draws)
            ),
            axis=1,
        )

    p0, p1 = edge.c0 / edge.n0, edge.c1 / edge.n1
    u0, u1 = wrong(0, K), wrong(1, K)
    pu0, pu1 = p0 * wrong(0, K, fewer=1), p1 * wrong(1, K, fewer=1)
    return pd.DataFrame(
        {
            "delta": p1 - p0,
            "exp": u0 * (p1 - pu1) - pu0 * (1 - u1),
            "rsh": (1 - u0) * (p1 - pu1) - (p0 - pu0) * (1 - u1),
            "att": (1 - u0) * pu1 - (p0 - pu0) * u1,
            "res": u0 * pu1 - pu0 * u1,
            "new": u0 * (1 - u1),
            "lost": (1 - u0) * u1,
            "same_model_new": u0 - wrong(0, 2 * K),
        }
    )


def _codex_pass_at_k(row: pd.Series, k: int) -> float:
    """As printed in arXiv 2107.03374, figure 3."""
    n, c = int(row.n), int(row.c)
    if n - c < k:
        return 1.0
    return float(1.0 - np.prod(1.0 - k / np.arange(n - c + 1, n + 1)))


# --- both ------------------------------------------------------------------------------------


def _child(how: str, folder: Path) -> dict[str, Any]:
    words = [sys.executable, "-m", "tests.benchmarks.analysis_scale", how, str(folder)]
    found: dict[str, Any] = json.loads(common.run(words).stdout)
    return found


def _peak_gb() -> float:
    # Kibibytes on Linux.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def _whole(seconds: dict[str, float]) -> float:
    return seconds["items"] + seconds["metrics"] + seconds["edges"]


def _line(label: str, seconds: dict[str, float], memory: str) -> str:
    parts = " | ".join(f"{seconds[part]:.1f}" for part in ("items", "metrics", "edges"))
    return f"| {label} | {parts} | {_whole(seconds):.1f} | {memory} |"


def _largest_difference(ours: dict[str, list[float]], theirs: dict[str, list[float]]) -> float:
    assert ours.keys() == theirs.keys(), ours.keys() ^ theirs.keys()
    return max(abs(a - b) for name in ours for a, b in zip(ours[name], theirs[name], strict=True))


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps({"ours": ours, "pandas": in_pandas}[sys.argv[1]](Path(sys.argv[2]))))
    else:
        print(main())
