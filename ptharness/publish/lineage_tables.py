"""The tables that say what was evaluated: checkpoints and documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ptharness.lineage import Lineage
from ptharness.planner import CheckpointPrint, Work
from ptharness.publish.columns import clean, make_table, tag_values
from ptharness.schema import DOCUMENTS


def checkpoint_rows(
    lineage: Lineage, prints: Mapping[str, CheckpointPrint], evidence: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Rows of `schema.CHECKPOINTS`, parents first; null digests where one could not be read."""
    rows = []
    for checkpoint in lineage.checkpoints:
        stage, found = checkpoint.stage, prints.get(checkpoint.name)
        rows.append(
            {
                **tag_values(lineage, checkpoint),
                "teacher": stage.teacher if stage else None,
                "path": clean(checkpoint.source),
                "replicate": checkpoint.replicate,
                "fingerprint": found.weights if found else None,
                "architecture_fingerprint": found.architecture if found else None,
                "parameters": found.parameters if found else None,
                "tokenizer_fingerprint": found.tokenizer if found else None,
                "evidence": clean(evidence.get(checkpoint.name)),
                "declaration": clean(stage.reason) if stage else None,
            }
        )
    return rows


def documents_of(work: Work) -> int:
    """Number of documents that a checkpoint x task covers, from the first on."""
    return sum(unit.documents for unit in work.scores)


def documents_table(lineage: Lineage, work: Sequence[Work]) -> pa.Table:
    """Every task x item, as the first checkpoint that has it was asked."""
    tables: list[pa.Table] = []
    prompt_sets: set[tuple[str, int]] = set()
    items: dict[str, set[str]] = {}
    for w in work:
        count, prompts, task = documents_of(w), w.planned.prompts, w.planned.prompts.header.task
        if (w.planned.prompt_set, count) in prompt_sets:
            continue
        prompt_sets.add((w.planned.prompt_set, count))
        rows = prompts.rows.take(pa.array(prompts.document_starts[:count]))
        seen = items.setdefault(task, set())
        rows = rows.filter(pc.invert(pc.is_in(rows["item"], pa.array(sorted(seen), pa.string()))))
        seen.update(rows["item"].to_pylist())
        columns = {name: rows[name] for name in ("item", "prompt", "gold", "metadata")}
        columns["cluster"] = pc.coalesce(rows["cluster"], rows["item"])
        constants = {"lineage": lineage.name, "task": task}
        tables.append(make_table(DOCUMENTS, rows.num_rows, columns, constants))
    return pa.concat_tables([DOCUMENTS.empty_table(), *tables])
