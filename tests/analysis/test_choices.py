"""Multiple choice of a pair, against plain counting over items and leaving clusters out."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ptharness.analysis.choices import CHOICE_PROBABILITY, choice_changes
from ptharness.analysis.counts import counts_of
from ptharness.analysis.inputs import Inputs
from ptharness.analysis_settings import Settings
from ptharness.lineage import Edge
from ptharness.schema import CHECKPOINTS, ITEMS, SAMPLES
from tests.analysis.lineages import ASKED, checkpoint, item_rows

ITEMS_ASKED = 150
EDGE = Edge("parent", "child", "edge")
Answers = list[tuple[str, int, list[float]]]
"""Of each item its cluster, the place of the right choice, and the log-likelihoods."""


def drawn(seed: int, lift: float) -> Answers:
    """Items of 2 to 5 choices; the right one is likelier by `lift` nats."""
    # Which item it is decides its cluster, its right choice and the number of its choices.
    generator = random.Random(seed)
    answers = []
    for item in range(ITEMS_ASKED):
        choices = 2 + item % 4
        right = item % choices
        shared = 0.5 * math.sin(item // 3)
        nats = [generator.gauss(shared * (c == right), 1.0) for c in range(choices)]
        nats[right] += lift
        answers.append((f"passage {item // 3}", right, nats))
    return answers


def belief(answer: tuple[str, int, list[float]]) -> float:
    _, right, nats = answer
    return math.exp(nats[right]) / sum(math.exp(value) for value in nats)


def is_right(answer: tuple[str, int, list[float]]) -> int:
    _, right, nats = answer
    return int(nats.index(max(nats)) == right)


def made(sides: dict[str, Answers]) -> Inputs:
    rows: list[dict[str, Any]] = []
    samples = {}
    for name, answers in sides.items():
        of_side = item_rows(name, "pick", 1, [is_right(a) for a in answers])
        for row, (cluster, _, _) in zip(of_side, answers, strict=True):
            rows.append(row | {"cluster": cluster, "completion_tokens": None})
        told = [
            {
                **dict.fromkeys(SAMPLES.names),
                "lineage": "planted",
                "item": f"pick-{place}",
                "choice_logprobs_nats": answer[2],
                "scores": [
                    {"metric": "acc", "filter": "none", "value": float(is_right(answer))},
                    {"metric": CHOICE_PROBABILITY, "filter": "none", "value": belief(answer)},
                ],
            }
            for place, answer in enumerate(answers)
        ]
        # The two sides' files need not have the items in one order.
        random.Random(name).shuffle(told)
        columns = ["item", "choice_logprobs_nats", "scores"]
        schema = pa.schema([SAMPLES.field(column) for column in columns])
        samples[name] = pa.Table.from_pylist(told, schema=schema)

    def read(name: str, task: str, columns: Sequence[str]) -> pa.Table:
        assert task == "pick"
        return samples[name].select(list(columns))

    checkpoints = [checkpoint("parent"), checkpoint("child", "parent")]
    return Inputs(
        pa.Table.from_pylist(checkpoints, schema=CHECKPOINTS),
        counts_of(pa.Table.from_pylist(rows, schema=ITEMS)),
        {(name, "pick"): ASKED for name in sides},
        samples=read,
    )


def counted(parent: Answers, child: Answers) -> dict[str, float]:
    """The definitions, item by item."""
    pairs = list(zip(parent, child, strict=True))
    wrong_before = sum(not is_right(a) for a, _ in pairs) / len(pairs)
    wrong_after = sum(not is_right(b) for _, b in pairs) / len(pairs)
    odds = sum(1 / (len(a[2]) - 1) for a, _ in pairs) / len(pairs)
    lucky = wrong_before * wrong_after * odds
    gone = sum(is_right(a) and not is_right(b) for a, b in pairs) / len(pairs)
    back = sum(is_right(b) and not is_right(a) for a, b in pairs) / len(pairs)
    moved = sum(belief(b) - belief(a) for a, b in pairs) / len(pairs)
    return {
        "choice_probability": moved,
        "forgetting": gone - lucky,
        "backward_transfer": back - lucky,
    }


def left_out(parent: Answers, child: Answers, measure: Callable[..., dict[str, float]]) -> Any:
    """Standard errors by leaving out each cluster in turn (jackknife)."""
    names = sorted({cluster for cluster, _, _ in parent})
    found = []
    for name in names:
        sides = ([a for a in side if a[0] != name] for side in (parent, child))
        found.append(list(measure(*sides).values()))
    spread = np.var(np.array(found), axis=0)
    return dict(zip(measure(parent, child), np.sqrt((len(names) - 1) * spread), strict=True))


@pytest.mark.parametrize("lift", [0.0, 0.8])
def test_the_estimates_are_those_of_plain_counting(lift: float) -> None:
    parent, child = drawn(1, 0.5), drawn(2, 0.5 + lift)
    found = choice_changes(made({"parent": parent, "child": child}), EDGE, "pick", Settings())
    expected, spreads = counted(parent, child), left_out(parent, child, counted)
    assert set(found) == set(expected)
    for name, estimate in found.items():
        assert estimate.estimate == pytest.approx(expected[name]), name
        assert estimate.stderr == pytest.approx(spreads[name], rel=0.03), name
        assert estimate.ci_low is not None
        assert estimate.ci_high is not None
        # 50 passages: Student's t with 49 degrees of freedom.
        width = 2 * 2.009575 * estimate.stderr
        assert estimate.ci_high - estimate.ci_low == pytest.approx(width, rel=1e-5)
    change = sum(map(is_right, child)) / len(child) - sum(map(is_right, parent)) / len(parent)
    difference = expected["backward_transfer"] - expected["forgetting"]
    assert difference == pytest.approx(change)


def test_an_item_without_known_choices_leaves_nothing_to_guess_among() -> None:
    child = drawn(2, 0.5)
    child[4] = (child[4][0], 0, [-1.0])
    sides = {"parent": drawn(1, 0.5), "child": child}
    assert choice_changes(made(sides), EDGE, "pick", Settings()) == {}
