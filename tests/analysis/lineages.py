"""Inputs of the analysis drawn from planted success probabilities, without any engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ptharness.analysis.comparability import Asked
from ptharness.analysis.counts import counts_of
from ptharness.analysis.inputs import Inputs
from ptharness.schema import CHECKPOINTS, ITEMS

Floats = npt.NDArray[np.float64]

ASKED = Asked("items", "gold", "prompts", "scoring", "tokenizer", (2,), {"temperature": 1.0})


def checkpoint(name: str, *parents: str, **columns: Any) -> dict[str, Any]:
    """A row of the checkpoints table; `role` and others as keywords."""
    stage = {"method": "sft", "interface": "token_targets", "provenance": "off_policy"}
    return {
        "lineage": "planted",
        "checkpoint": name,
        "stage": len(parents),
        "parents": list(parents),
        "role": [],
        "replicate": 0,
        **(stage if parents else {}),
        **columns,
    }


def item_rows(
    name: str, task: str, n: int, c: Sequence[int] | npt.NDArray[np.int64], **columns: Any
) -> list[dict[str, Any]]:
    """Rows of the items table of one checkpoint x task."""
    return [
        {
            "lineage": "planted",
            "checkpoint": name,
            "stage": 0,
            "parents": [],
            "role": [],
            "task": task,
            "item": f"{task}-{place}",
            "cluster": f"{task}-{place}",
            "n": n,
            "c": int(count),
            "mean_score": int(count) / n if n else None,
            "completion_tokens": 10 * n,
            "truncated": 0,
            **columns,
        }
        for place, count in enumerate(c)
    ]


def inputs(
    checkpoints: Sequence[Mapping[str, Any]],
    probabilities: Mapping[tuple[str, str], Floats],
    *,
    n: int = 32,
    seed: int = 0,
    asked: Mapping[tuple[str, str], Asked] | None = None,
    tags: Mapping[str, Sequence[str]] | None = None,
) -> Inputs:
    """Counts drawn independently for each (checkpoint, task)."""
    random = np.random.default_rng(seed)
    rows = [
        row
        for (name, task), p in probabilities.items()
        for row in item_rows(name, task, n, random.binomial(n, p))
    ]
    return Inputs(
        pa.Table.from_pylist([dict(row) for row in checkpoints], schema=CHECKPOINTS),
        counts_of(pa.Table.from_pylist(rows, schema=ITEMS)),
        {key: (asked or {}).get(key, ASKED) for key in probabilities},
        tags or {},
    )
