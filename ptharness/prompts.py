"""Prompt sets: the requests that one task makes for one tokenizer and template, as Arrow.

A prompt set is built once by a task (which is slow: lm-eval, datasets, tokenizers), stored as
one Parquet file, and from then on read by the planner, the worker and the scorers alike. It
holds token ids, so an engine needs no tokenizer to use it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from ptharness.schema import PROMPTS

Kind = Literal["generate", "loglikelihood", "loglikelihood_rolling"]
"""What is asked: a completion; a continuation's log-likelihood; that of a whole text, which may
be longer than the context."""


@dataclass(frozen=True)
class Template:
    """What is put around a prompt before it is tokenised.

    `chat_template` is auto (the tokenizer's own, if it has one), none, or the template's
    text, already read from its file.
    """

    chat_template: str = "auto"
    system_prompt: str | None = None


@dataclass(frozen=True)
class PromptSetHeader:
    """What a prompt set says of itself beside its rows.

    `generation` are the generation settings of the task's own YAML (`until`,
    `max_gen_toks`, `temperature`, ...), before the manifest's are laid over them.
    `score_digest` covers filters, metrics, their source code and versions, not the gold
    data (that is in each row's `document_digest`). `metrics` lists (metric, filter) in
    the order the task reports them; `primary` is the one that `score` and `correct` show,
    `binary` says whether it is a yes/no.
    """

    task: str
    kind: Kind
    documents: int
    generation: Mapping[str, Any] = field(default_factory=dict)
    metrics: tuple[tuple[str, str], ...] = ()
    primary: tuple[str, str] = ("", "")
    binary: bool = True
    score_digest: str = ""
    chat_template_used: bool = False
    add_bos: bool = False
    version: str = ""


@dataclass(frozen=True)
class PromptSet:
    """A header and one row per request, in document order (`schema.PROMPTS`).

    What `from_table` gives back has two columns more: `prompt_digest` and `occurrence`.
    """

    header: PromptSetHeader
    rows: pa.Table

    def to_table(self) -> pa.Table:
        """One table with the header in its metadata."""
        rows = _with_digests(self.rows.select(PROMPTS.names).cast(PROMPTS))
        return rows.replace_schema_metadata({"header": json.dumps(self.header.__dict__)})

    @classmethod
    def from_table(cls, table: pa.Table) -> PromptSet:
        """The inverse of `to_table`."""
        fields = json.loads(table.schema.metadata[b"header"])
        fields["metrics"] = tuple(tuple(pair) for pair in fields["metrics"])
        fields["primary"] = tuple(fields["primary"])
        return cls(PromptSetHeader(**fields), table.replace_schema_metadata(None))

    @cached_property
    def document_starts(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Row at which each document begins, and one past the last: shape (documents + 1,)."""
        document = self.rows["document"].to_numpy()
        first = np.flatnonzero(np.diff(document, prepend=-1))
        return np.append(first, len(document)).astype(np.int64)

    def slice_documents(self, start: int, count: int) -> pa.Table:
        """The rows of documents [start, start + count)."""
        begin, end = self.document_starts[start], self.document_starts[start + count]
        return self.rows.slice(begin, end - begin)


def _with_digests(rows: pa.Table) -> pa.Table:
    """Add `prompt_digest` (of the token ids alone) and `occurrence` (0 for the first of equals).

    Together they name a request by its content, so that neither keys nor seeds depend on what
    a task or an item is called.
    """
    prompts = rows["prompt_token_ids"].to_pylist()
    continuations = rows["continuation_token_ids"].to_pylist()
    digests, occurrences, seen = [], [], Counter[str]()
    for prompt, continuation in zip(prompts, continuations, strict=True):
        parts = [np.asarray(ids or (), dtype="<i4").tobytes() for ids in (prompt, continuation)]
        text = hashlib.sha256(len(parts[0]).to_bytes(8, "little") + b"".join(parts)).hexdigest()[
            :32
        ]
        digests.append(text)
        occurrences.append(seen[text])
        seen[text] += 1
    return rows.append_column("prompt_digest", pa.array(digests, pa.string())).append_column(
        "occurrence", pa.array(occurrences, pa.int32())
    )
