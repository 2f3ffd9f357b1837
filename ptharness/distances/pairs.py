"""Which checkpoints can be compared, and how."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ptharness.distances.texts import TextSet
from ptharness.engines.base import vocabulary_size
from ptharness.errors import CheckpointError, EngineError
from ptharness.evaluation import Session
from ptharness.fingerprint import read_config, vocabulary_digest
from ptharness.lineage import Checkpoint
from ptharness.tokenizer import load_tokenizer
from ptharness.units import Failure

Method = Literal["auto", "exact", "sampled"]
How = Literal["exact", "sampled", "text"]
"""How a pair is measured: text is read in the judge's own tokens, where vocabularies differ."""
Pair = tuple[str, str]
"""Names of a source and its target."""

MOST_EXACT_BYTES = 1 << 30
"""Of the distributions over one checkpoint's samples, by one judge, that `auto` takes."""
_BYTES = 4


@dataclass
class Tokenizers:
    """Tokenizers of checkpoints, each loaded once."""

    loaded: dict[Path, Any] = field(default_factory=dict)

    def of(self, checkpoint: Checkpoint) -> Any:
        """Raises `CheckpointError` where it cannot be loaded."""
        directory = checkpoint.tokenizer_directory
        if directory not in self.loaded:
            self.loaded[directory] = load_tokenizer(directory)
        return self.loaded[directory]


def ways(session: Session, wanted: Method, tokenizers: Tokenizers) -> dict[Pair, How]:
    """How each ordered pair of checkpoints is measured; one that cannot be read is in none.

    Raises `EngineError` where exact sums are wanted that cannot be had.
    """
    vocabularies: dict[str, str] = {}
    widths: dict[str, int] = {}
    for checkpoint in session.evaluation.checkpoints:
        if checkpoint.name in session.prints:
            try:
                tokenizers.of(checkpoint)
                vocabularies[checkpoint.name] = vocabulary_digest(checkpoint.tokenizer_directory)
                widths[checkpoint.name] = vocabulary_size(read_config(checkpoint.directory))
            except CheckpointError as error:
                session.fail(Failure(checkpoint.name, "", "distances", str(error)))
    found: dict[Pair, How] = {}
    for source, target in itertools.permutations(widths, 2):
        if vocabularies[source] != vocabularies[target]:
            found[source, target] = "text"
            continue
        problem = _why_not_exact(session, widths[source], widths[target])
        if problem and wanted == "exact":
            raise EngineError(
                f"method exact: {source} and {target}: {problem}; choose the method auto or sampled"
            )
        found[source, target] = "sampled" if problem or wanted == "sampled" else "exact"
    return found


def _why_not_exact(session: Session, source: int, target: int) -> str:
    """Why no distributions over so many tokens can be compared, "" where they can."""
    engine = session.evaluation.engine
    most = engine.capabilities.distributions
    if not most:
        return f"the {engine.name} engine gives no distributions over the vocabulary"
    if source != target:
        return f"one's vocabulary is filled up to {source:,} tokens and the other's to {target:,}"
    if not source:
        return "their config.json names no vocab_size"
    if source > most:
        return (
            f"distributions over their {source:,} tokens are too large: the {engine.name} engine "
            f"gives those over {most:,} at most"
        )
    return ""


def bounded(found: Mapping[Pair, How], texts: Sequence[TextSet]) -> dict[Pair, How]:
    """The same, sampled where exact sums over all that a checkpoint says would be too large."""
    size: dict[str, int] = {}
    for one in texts:
        vocabulary = vocabulary_size(read_config(one.source.directory))
        size[one.source.name] = size.get(one.source.name, 0) + one.tokens * vocabulary * _BYTES
    return {
        (source, target): "sampled"
        if how == "exact" and size.get(source, 0) > MOST_EXACT_BYTES
        else how
        for (source, target), how in found.items()
    }
