"""Generation units + score units + prompts of one checkpoint x task -> its samples table.

Joined by position with Arrow and numpy: nothing here runs once per sample in Python.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ptharness.context import TOO_LONG
from ptharness.planner import Work
from ptharness.publish.columns import make_table
from ptharness.schema import SAMPLES
from ptharness.store import UnitStore

Array = np.ndarray[Any, np.dtype[Any]]

_SCORED = ("answer", "score", "correct", "scores", "error")
_GENERATED = ["row", "sample", "token_ids", "token_logprobs_nats", "text", "finish_reason", "seed"]


def samples_table(work: Work, tags: Mapping[str, Any], store: UnitStore) -> pa.Table:
    """Rows of `schema.SAMPLES`: one per completion, or one per item of a choice task.

    After them comes a row with `sample` null for each item whose samples a filter took all
    together. Raises `StoreError` where a unit is missing or damaged.
    """
    units = [store.read("generation", u.key, _GENERATED) for u in work.generation]
    counts = [unit.num_rows for unit in units]
    generated = pa.concat_tables(units)
    starts = work.planned.prompts.document_starts
    first_rows = [starts[u.first_document] for u in work.generation]
    rows = np.repeat(first_rows, counts) + generated["row"].to_numpy()
    unit = pa.DictionaryArray.from_arrays(
        np.repeat(np.arange(len(units), dtype=np.int32), counts),
        pa.array([u.key for u in work.generation], pa.string()),
    )
    scores = pa.concat_tables([store.read("score", s.key) for s in work.scores])
    constants = {
        **tags,
        "task": work.planned.prompts.header.task,
        "protocol": work.planned.protocol,
    }
    kind = work.planned.prompts.header.kind
    if kind == "generate":
        columns = _completions(work, generated, rows, unit)
    elif kind == "loglikelihood":
        columns = _choices(work, generated, rows, unit)
    else:
        columns = _texts(work, generated, rows, unit)
    document = work.planned.prompts.rows["document"].to_numpy()
    scored = _align(scores, document[columns.pop("row")], columns["sample"], work.planned.samples)
    table = make_table(SAMPLES, len(columns["sample"]), {**columns, **scored}, constants)
    return pa.concat_tables([table, _together(work, scores, constants)])


def cut_at_stops(text: pa.ChunkedArray, stops: Sequence[str]) -> pa.ChunkedArray:
    """`protocol.cut_at_stop` of every string of an array."""
    for stop in stops:
        if stop:
            parts = pc.split_pattern(text, pattern=stop, max_splits=1)
            text = pc.list_element(parts, 0)
    return text


def list_sums(lists: pa.ChunkedArray) -> Array:
    """Sum of each list of numbers as float64; 0 for an empty one. Shape (rows,)."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    values = pc.list_flatten(lists).to_numpy().astype(np.float64)
    sums = np.zeros(len(lengths))
    filled = lengths > 0
    if len(values):
        sums[filled] = np.add.reduceat(values, (np.cumsum(lengths) - lengths)[filled])
    return sums


def _of_prompts(work: Work, rows: Array) -> dict[str, Any]:
    """Columns that come from the prompt set, at these rows of it."""
    prompts = work.planned.prompts.rows
    cluster = pc.coalesce(prompts["cluster"], prompts["item"])
    return {
        "row": rows,
        "item": prompts["item"].take(pa.array(rows)),
        "cluster": cluster.take(pa.array(rows)),
        "prompt_digest": prompts["prompt_digest"].take(pa.array(rows)),
        "prompt_tokens": pc.list_value_length(prompts["prompt_token_ids"]).take(pa.array(rows)),
    }


def _completions(
    work: Work, generated: pa.Table, rows: Array, unit: pa.DictionaryArray
) -> dict[str, Any]:
    stops = work.planned.sampling.stop if work.planned.sampling else ()
    # Where a document makes several requests, the first stands for it.
    first = np.isin(rows, work.planned.prompts.document_starts)
    if not first.all():
        generated, rows = generated.filter(pa.array(first)), rows[first]
        unit = unit.filter(pa.array(first))
    tokens = pc.fill_null(pc.list_value_length(generated["token_ids"]), 0).to_numpy()
    unasked = _is_too_long(generated)
    # An engine that gives text alone says nothing of its tokens; no completion has none.
    unknown = (tokens == 0) & ~unasked
    return _of_prompts(work, rows) | {
        "sample": generated["sample"].to_numpy(),
        "completion": cut_at_stops(generated["text"], stops),
        "finish_reason": generated["finish_reason"].dictionary_encode(),
        "completion_tokens": pa.array(tokens, mask=unknown),
        "logprob_nats": pa.array(
            list_sums(generated["token_logprobs_nats"]), mask=unasked | unknown
        ),
        "seed": generated["seed"],
        "unit": unit,
    }


def _choices(
    work: Work, generated: pa.Table, rows: Array, unit: pa.DictionaryArray
) -> dict[str, Any]:
    """One row per document; its requests' log-likelihoods, in request order, become a list."""
    starts = work.planned.prompts.document_starts
    ordered = np.argsort(rows, kind="stable")
    sums, rows = list_sums(generated["token_logprobs_nats"])[ordered], rows[ordered]
    document = np.searchsorted(starts, rows, side="right") - 1
    documents, first, counts = np.unique(document, return_index=True, return_counts=True)
    if any(metric == "acc_mutual_info" for metric, _ in work.planned.prompts.header.metrics):
        # lm-eval then asks for every choice a second time, without its context.
        kept = rows - starts[document] < (counts // 2).repeat(counts)
        sums, counts = sums[kept], counts // 2
    offsets = np.append(0, np.cumsum(counts)).astype(np.int32)
    chosen = pa.array(ordered[first])
    unasked = pa.array(_is_too_long(generated)).take(chosen)
    return _of_prompts(work, starts[documents]) | {
        "sample": np.zeros(len(documents), np.int32),
        "finish_reason": generated["finish_reason"].take(chosen).dictionary_encode(),
        "choice_logprobs_nats": pa.ListArray.from_arrays(offsets, sums, mask=unasked),
        "unit": unit.take(chosen),
    }


def _texts(
    work: Work, generated: pa.Table, rows: Array, unit: pa.DictionaryArray
) -> dict[str, Any]:
    """One row per text; of a document with several, the first stands for it."""
    first = pa.array(np.isin(rows, work.planned.prompts.document_starts))
    generated, rows = generated.filter(first), rows[first.to_numpy(zero_copy_only=False)]
    return _of_prompts(work, rows) | {
        "sample": generated["sample"].to_numpy(),
        "logprob_nats": list_sums(generated["token_logprobs_nats"]),
        "unit": unit.filter(first),
    }


def _is_too_long(generated: pa.Table) -> Array:
    return np.asarray(pc.fill_null(pc.equal(generated["finish_reason"], TOO_LONG), False))


def _align(scores: pa.Table, document: Array, sample: Array, samples: int) -> dict[str, Any]:
    """The score columns in the order of (document, sample); null where a sample has none."""
    single = scores.filter(pc.is_valid(scores["sample"]))
    place = np.full((int(document.max(initial=-1)) + 1) * samples, -1)
    place[single["document"].to_numpy() * samples + single["sample"].to_numpy()] = np.arange(
        single.num_rows
    )
    found = place[document * samples + sample]
    indices = pa.array(found, mask=found < 0)
    return {name: single[name].take(indices) for name in _SCORED}


def _together(work: Work, scores: pa.Table, constants: Mapping[str, Any]) -> pa.Table:
    """Rows for what filters made of all samples of an item together."""
    together = scores.filter(pc.is_null(scores["sample"]))
    rows = work.planned.prompts.document_starts[together["document"].to_numpy()]
    columns = _of_prompts(work, rows) | {name: together[name] for name in _SCORED}
    return make_table(SAMPLES, together.num_rows, columns, constants)
