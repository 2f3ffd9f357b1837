"""One file of weights in two folders: a second run of one model, or another model."""

from __future__ import annotations

import shutil

from ptharness.results import Results
from tests.evaluation.conftest import Toys
from tests.evaluation.test_context import write_config


def of_sft(results: Results) -> dict[str, tuple[str, str]]:
    """Relation to `base`, with whether it is compared and why not."""
    edges = results.edges
    rows = edges[(edges.source == "base") & (edges.target == "sft") & (edges.scope == "task")]
    rows = rows[rows.quantity == "delta"]
    return {row.relation: (row.comparable, row.reason) for row in rows.itertuples()}


def test_weights_under_another_configuration_are_another_model(toys: Toys) -> None:
    toys.task(documents=12, lengths=list(range(30, 42)))
    folder = toys.folder / "checkpoints"
    shutil.copytree(folder / "base", folder / "sft", dirs_exist_ok=True)
    one = of_sft(toys.run())
    assert set(one) == {"edge", "replicate"}
    assert {comparable for comparable, _ in one.values()} == {"no"}
    assert all("the samples of the same weights are the same" in why for _, why in one.values())

    write_config(folder / "sft", max_position_embeddings=40)
    results = toys.run()
    digests = results.checkpoints.set_index("checkpoint")
    assert digests.fingerprint["base"] == digests.fingerprint["sft"]
    assert digests.architecture_fingerprint["base"] != digests.architecture_fingerprint["sft"]
    samples = results.samples
    asked = samples[samples.finish_reason != "too_long"].set_index(["checkpoint", "item", "sample"])
    # The same seeds: what fits both is answered alike, so it tells nothing of a change.
    seeds = asked.seed["sft"]
    assert len(seeds) == 10 * 20
    assert (seeds == asked.seed["base"].reindex(seeds.index)).all()
    ((relation, (comparable, why)),) = of_sft(results).items()
    assert (relation, comparable) == ("edge", "no")
    assert "drew from the same seeds" in why

    toys.manifest("path: checkpoints/sft,", "path: checkpoints/sft, replicate: 1,")
    ((relation, (comparable, _)),) = of_sft(toys.run()).items()
    assert (relation, comparable) == ("edge", "same")
