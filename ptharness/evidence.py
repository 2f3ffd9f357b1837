"""Asking the methods: what one declares of a stage, and what all find in a folder.

A plugin that raises, or answers with something else, is named.
"""

from __future__ import annotations

from pathlib import Path

from ptharness.errors import PluginError, PtharnessError
from ptharness.methods import Declaration, Evidence, Method, StageSettings
from ptharness.registry import Catalogue


def declare(methods: Catalogue[Method], stage: StageSettings) -> Declaration:
    """What the method of this name declares for a stage.

    Raises `ManifestError` for a wrong option, `PluginError` where the plugin is at fault.
    """
    origin = methods.entry(stage.method).origin
    try:
        declared: object = methods.get(stage.method).declare(stage)
    except PtharnessError:
        raise
    except Exception as error:
        raise PluginError(
            f"{origin} failed to declare {stage.method!r}: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(declared, Declaration):
        raise PluginError(f"{origin} declared {declared!r} for {stage.method!r}, no Declaration")
    return declared


def gather_evidence(directory: Path, methods: Catalogue[Method]) -> list[Evidence]:
    """All methods' evidence for this folder, strongest first, equals as they were registered.

    Raises `PluginError` naming the plugin whose `detect` raises.
    """
    found: list[Evidence] = []
    for entry in methods:
        method = methods.get(entry.name)
        try:
            evidence: object = method.detect(directory)
        except PtharnessError:
            raise
        except Exception as error:
            raise PluginError(
                f"{entry.origin} failed to look into {directory} for traces of {entry.name!r}: "
                f"{type(error).__name__}: {error}"
            ) from error
        if evidence is not None and not isinstance(evidence, Evidence):
            raise PluginError(f"{entry.origin} found {evidence!r} in {directory}, no Evidence")
        if evidence is not None:
            found.append(evidence)
    return sorted(found, key=lambda evidence: -evidence.strength)


def strongest(evidence: list[Evidence], directory: Path) -> Evidence | None:
    """The strongest evidence, None if there is none.

    Raises `PtharnessError` printing all whose evidence is equally strong, if several are.
    """
    best = [found for found in evidence if found.strength == evidence[0].strength]
    if len(best) > 1:
        told = " and ".join(f"{found.method} ({found.found})" for found in best)
        raise PtharnessError(
            f"{directory}: equally strong evidence for {told}; say which in the manifest"
        )
    return best[0] if best else None


def same_family(one: str, other: str, methods: Catalogue[Method]) -> bool:
    """Whether two names of methods belong to one plugin's method, or are equal."""
    if one not in methods or other not in methods:
        return one == other
    return methods.entry(one) is methods.entry(other)
