"""What a checkpoint's folder says about the stage that made it: every method is asked."""

from __future__ import annotations

from pathlib import Path

from ptharness.errors import PluginError, PtharnessError
from ptharness.methods import Evidence, Method
from ptharness.registry import Catalogue


def gather_evidence(directory: Path, methods: Catalogue[Method]) -> list[Evidence]:
    """All methods' evidence for this folder, strongest first.

    Raises `PluginError` naming the plugin whose `detect` raises.
    """
    found = []
    for entry in methods:
        method = methods.get(entry.name)
        try:
            evidence = method.detect(directory)
        except PtharnessError:
            raise
        except Exception as error:
            raise PluginError(
                f"{entry.origin} failed to look into {directory} for traces of {entry.name!r}: "
                f"{type(error).__name__}: {error}"
            ) from error
        if evidence is not None:
            found.append(evidence)
    return sorted(found, key=lambda evidence: (-evidence.strength, evidence.method))


def strongest(evidence: list[Evidence], directory: Path) -> Evidence | None:
    """The strongest evidence, None if there is none.

    Raises `PtharnessError` printing both where two methods' evidence is equally strong.
    """
    if len(evidence) > 1 and evidence[0].strength == evidence[1].strength:
        first, second = evidence[:2]
        raise PtharnessError(
            f"{directory}: two methods have equally strong evidence: {first.method} "
            f"({first.found}) and {second.method} ({second.found}); say which in the manifest"
        )
    return evidence[0] if evidence else None


def same_family(one: str, other: str, methods: Catalogue[Method]) -> bool:
    """Whether two names of methods belong to one plugin's method, or are equal."""
    if one not in methods or other not in methods:
        return one == other
    return methods.entry(one) is methods.entry(other)
