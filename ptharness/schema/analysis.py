"""What the analysis says of stages, from the published tables."""

from __future__ import annotations

import pyarrow as pa

from ptharness.schema.columns import (
    COMPARABLE,
    ESTIMATE,
    ITEM,
    NAMES,
    PAIR,
    SCOPE,
    TAG,
    TAGS,
    TASK,
    field,
)

EDGES = pa.schema([*TAGS, *PAIR, *SCOPE, *ESTIMATE, COMPARABLE])
"""The tags are the target's. Also the schema of `sensitivity` and `turnover`."""

VERDICTS = pa.schema(
    [
        *TAGS,
        *PAIR,
        *SCOPE,
        field("role_declared", NAMES, "What the stage was meant to do.", nullable=False),
        field(
            "role_measured",
            TAG,
            "support_expansion, policy_reshaping, mixed, consolidation, none or undetermined: an "
            "answer-level proxy.",
            nullable=False,
        ),
        field("attrition", pa.bool_(), "Whether what was reachable no longer is.", nullable=False),
        field(
            "harmful_reshaping",
            pa.bool_(),
            "Whether the choice among what is reachable got worse.",
            nullable=False,
        ),
        field("verdict", TAG, "supported, contradicted or undetermined.", nullable=False),
        COMPARABLE,
        field("reason", pa.string(), "The numbers behind it, in a sentence.", nullable=False),
    ]
)

MEASURES = pa.schema([*TAGS, *SCOPE, *ESTIMATE])

RETENTION = pa.schema([*TAGS, *PAIR, *SCOPE, *ESTIMATE])
"""source -> target is the stage whose gain is followed; the tags are those of the checkpoint at
which it is looked for."""

CERTIFIED = pa.schema(
    [
        *TAGS,
        *PAIR,
        TASK,
        ITEM,
        field("direction", TAG, "newly_reachable or no_longer_reachable.", nullable=False),
        field("k", pa.int32(), "Attempts within which reachable means.", nullable=False),
        field("source_n", pa.int32(), "Samples of the source.", nullable=False),
        field("source_c", pa.int32(), "Correct ones among them.", nullable=False),
        field("target_n", pa.int32(), "Samples of the target.", nullable=False),
        field("target_c", pa.int32(), "Correct ones among them.", nullable=False),
        field("p", pa.float64(), "Of the intersection-union test.", nullable=False),
        field("q", pa.float64(), "p adjusted over the items of the task.", nullable=False),
    ]
)

ANALYSIS = {
    "edges": EDGES,
    "verdicts": VERDICTS,
    "measures": MEASURES,
    "retention": RETENTION,
    "turnover": EDGES,
    "sensitivity": EDGES,
    "certified": CERTIFIED,
}
"""Tables that the analysis makes of the published ones, under their names."""
