"""Asking the methods: what one declares of a stage, and what all find in a folder.

A plugin that raises, or answers with something else, is named.
"""

from __future__ import annotations

import traceback
from pathlib import Path

from ptharness.errors import PluginError, PtharnessError
from ptharness.method_problems import declaration_problem, evidence_problem
from ptharness.methods import Declaration, Evidence, Method, StageSettings
from ptharness.registry import Catalogue, Origin


def declare(methods: Catalogue[Method], stage: StageSettings) -> Declaration:
    """What the method of this name declares for a stage.

    Raises `ManifestError` for a wrong option, `PluginError` where the plugin is at fault.
    """
    method, origin = methods.get(stage.method), methods.entry(stage.method).origin
    try:
        declared = method.declare(stage)
    except PtharnessError:
        raise
    except Exception as error:
        raise _failed(f"declare {stage.method!r}", method, origin, error) from error
    if problem := declaration_problem(declared):
        raise PluginError(f"{origin} declares {stage.method!r} wrongly: {problem}{_remedy(origin)}")
    return declared


def gather_evidence(directory: Path, methods: Catalogue[Method]) -> list[Evidence]:
    """All methods' evidence for this folder, strongest first, equals as they were registered.

    Raises `PluginError` naming the plugin whose `detect` raises or answers with something else.
    """
    gathered: list[Evidence] = []
    for entry in methods:
        method = methods.get(entry.name)
        try:
            found = method.detect(directory)
        except PtharnessError:
            raise
        except Exception as error:
            doing = f"look into {directory} for traces of {entry.name!r}"
            raise _failed(doing, method, entry.origin, error) from error
        if found is None:
            continue
        if problem := evidence_problem(found, entry.names):
            raise PluginError(
                f"{entry.origin} looked into {directory} for traces of {entry.name!r} and answered "
                f"wrongly: {problem}{_remedy(entry.origin)}"
            )
        gathered.append(found)
    return sorted(gathered, key=lambda evidence: -evidence.strength)


def _failed(doing: str, method: Method, origin: Origin, error: Exception) -> PluginError:
    """What was asked of a plugin, and the line of the plugin's own at which it went wrong."""
    own = type(method).__module__.partition(".")[0]
    frames = [
        (frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] == own
    ]
    where = f" at {frames[-1][0]}:{frames[-1][1]}" if frames else ""
    return PluginError(
        f"{origin} failed to {doing}: {type(error).__name__}: {error}{where}{_remedy(origin)}"
    )


def _remedy(origin: Origin) -> str:
    return f"; repair the plugin, or leave it out with `--no-plugin {origin.plugin}`"


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
