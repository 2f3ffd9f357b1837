"""Success probabilities whose decomposition is known: five kinds of stage, 400 items each."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

ITEMS = 400
SCENARIOS = ("null", "reshape", "expand", "attrit", "mixed")


def probabilities(
    scenario: str, random: np.random.Generator, items: int = ITEMS
) -> tuple[Floats, Floats]:
    """p0 and p1 of each item: a quarter out of reach, the others spread, then the stage."""
    parent = random.beta(0.6, 0.8, items)
    parent[random.random(items) < 0.25] = 0
    child = parent.copy()
    part = random.random(items)
    if scenario == "reshape":
        parent = random.uniform(0.15, 0.6, items)
        child = np.clip(parent + random.normal(0.2, 0.1, items), 0.05, 0.98)
    elif scenario == "expand":
        parent[part < 0.3] = 0
        child = np.where(part < 0.3, random.uniform(0.2, 0.9, items), parent)
    elif scenario == "attrit":
        parent[part < 0.3] = random.uniform(0.2, 0.9, items)[part < 0.3]
        child = np.where(part < 0.3, 0, parent)
    elif scenario == "mixed":
        lost = (part >= 0.2) & (part < 0.4)
        parent[part < 0.2] = 0
        parent[lost] = random.uniform(0.2, 0.9, items)[lost]
        better = np.clip(parent + 0.1 * (parent > 0), 0, 1)
        child = np.where(part < 0.2, random.uniform(0.2, 0.9, items), np.where(lost, 0, better))
    return parent, child


def cells(p0: Floats, p1: Floats, k: int) -> dict[str, float]:
    """The quantities by their definitions, from the probabilities themselves."""
    u, v, d = (1 - p0) ** k, (1 - p1) ** k, p1 - p0
    both = (1 - u) * (1 - v)
    terms = {
        "delta": d,
        "exp": d * u * (1 - v),
        "rsh": d * both,
        "att": d * (1 - u) * v,
        "res": d * u * v,
        "rsh_up": np.maximum(d, 0) * both,
        "rsh_down": np.minimum(d, 0) * both,
        "new": u * (1 - v),
        "lost": (1 - u) * v,
        "kept": both,
        "neither": u * v,
        "same_model_new": u - u**2,
    }
    return {name: float(values.mean()) for name, values in terms.items()}


def population(scenario: str, k: int) -> dict[str, float]:
    """The quantities over a million items: what intervals have to cover."""
    return cells(*probabilities(scenario, np.random.default_rng(99), 1_000_000), k)
