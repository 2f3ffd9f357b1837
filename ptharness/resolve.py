"""Manifest + registry -> an evaluation: every name and path of the manifest looked up.

Cheap errors come first: names, then the graph, then paths on disk, then downloads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ptharness.engines.base import Engine, EngineSettings
from ptharness.errors import ManifestError, near_misses
from ptharness.evidence import declare
from ptharness.lineage import Checkpoint, Lineage, Stage
from ptharness.locations import find_data, find_folder
from ptharness.manifest import DEFAULT_SUPPORT_BUDGET, CheckpointEntry, Manifest, MethodEntry
from ptharness.methods import Declaration, StageSettings
from ptharness.registry import Registry
from ptharness.resolve_tasks import (
    Overrides,
    ResolvedTask,
    at,
    check_samples,
    default_chat_template,
    resolve_tasks,
)
from ptharness.steps import Written, expand_steps
from ptharness.tasks.base import Group

__all__ = ["Evaluation", "Overrides", "ResolvedTask", "resolve"]


@dataclass(frozen=True)
class Evaluation:
    """All that a run needs to know, with no name left to look up.

    `selected` are the names of the checkpoints to evaluate, None for all. The others stay in the
    lineage, which would be another one without them. `chat_template` is that of what is no task.
    """

    lineage: Lineage
    tasks: tuple[ResolvedTask, ...]
    engine: type[Engine]
    engine_settings: EngineSettings
    support_budget: int
    seed: int
    manifest_path: Path
    manifest_text: str
    plugin_files: tuple[Path, ...] = ()
    selected: frozenset[str] | None = None
    groups: tuple[Group, ...] = ()
    chat_template: str = "auto"

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """The checkpoints to evaluate, parents first."""
        chosen = self.selected
        return tuple(c for c in self.lineage.checkpoints if chosen is None or c.name in chosen)


def resolve(
    manifest: Manifest,
    registry: Registry,
    overrides: Overrides | None = None,
    plugin_files: Sequence[Path] = (),
) -> Evaluation:
    """Look up everything that a manifest names. Raises `ManifestError` or `PluginError`."""
    overrides = overrides or Overrides()
    check_samples(manifest, overrides)
    engine, settings = _resolve_engine(manifest, registry, overrides)
    written = expand_steps(manifest)
    unplaced = _resolve_lineage(manifest, written, registry)
    selected = _selected(unplaced, manifest, overrides)
    tasks, groups = resolve_tasks(manifest, registry, overrides)
    return Evaluation(
        lineage=_place_checkpoints(unplaced, manifest, written, selected),
        tasks=tasks,
        groups=groups,
        engine=engine,
        engine_settings=settings,
        support_budget=manifest.evaluate.support_budget or DEFAULT_SUPPORT_BUDGET,
        seed=manifest.evaluate.seed or 0,
        manifest_path=manifest.path,
        manifest_text=manifest.text,
        plugin_files=tuple(plugin_files),
        selected=selected,
        chat_template=default_chat_template(manifest),
    )


# --- lineage ----------------------------------------------------------------------------------


def _resolve_lineage(
    manifest: Manifest, written: Mapping[str, Written], registry: Registry
) -> Lineage:
    """The graph with methods looked up; directories are still as the manifest writes them."""
    names = list(written)
    checkpoints = []
    for name, its in written.items():
        entry, key = its.entry, its.key
        for other_key, others in (("parent", entry.parent or []), ("teacher", [entry.teacher])):
            for other in others:
                if other is not None and other not in names:
                    raise ManifestError(
                        f"{other!r} is not a checkpoint of this manifest"
                        f"{near_misses(other, names)}",
                        path=manifest.path,
                        key=f"{key}.{other_key}",
                    )
        source = entry.path or entry.adapter or ""
        stage = _resolve_stage(manifest, registry, its)
        checkpoints.append(
            Checkpoint(name, Path(source), source, None, entry.replicate, stage, entry.step)
        )
    with at(manifest, "checkpoints"):
        return Lineage(manifest.lineage, tuple(checkpoints))


def _resolve_stage(manifest: Manifest, registry: Registry, written: Written) -> Stage | None:
    entry, key = written.entry, written.key
    if not entry.parent or entry.method is None:
        return None
    with at(manifest, f"{key}.method"):
        declared = _declare(entry.method, entry, registry)
    trajectories = None
    if entry.trajectories is not None:
        with at(manifest, f"{key}.trajectories"):
            trajectories = find_data(entry.trajectories, manifest.folder)
    method = entry.method
    return Stage(
        method=method.name,
        parents=tuple(entry.parent),
        provenance=entry.provenance or method.provenance or declared.provenance,
        interface=entry.interface or method.interface or declared.interface,
        roles=tuple(entry.role or method.role or declared.roles),
        reason=declared.reason,
        teacher=entry.teacher,
        trajectories=trajectories,
        settings=dict(method.options),
    )


def _declare(method: MethodEntry, entry: CheckpointEntry, registry: Registry) -> Declaration:
    """What the method's plugin declares, or the manifest of a method that no plugin knows."""
    if method.name not in registry.methods:
        return _declare_ad_hoc(method, entry, registry)
    plugin = registry.methods.get(method.name)
    for option in method.options:
        if option not in plugin.options:
            known = near_misses(option, plugin.options) if plugin.options else "; it has none"
            raise ManifestError(f"method {method.name!r} has no option {option!r}{known}")
    return declare(
        registry.methods,
        StageSettings(method.name, entry.teacher, entry.trajectories, method.options),
    )


def _declare_ad_hoc(method: MethodEntry, entry: CheckpointEntry, registry: Registry) -> Declaration:
    provenance = entry.provenance or method.provenance
    interface = entry.interface or method.interface
    roles = entry.role or method.role
    if provenance is None and interface is None and roles is None:
        raise ManifestError(
            f"unknown method {method.name!r}{near_misses(method.name, registry.methods.names())}; "
            "`ptharness methods` lists them; declare a new one as `method: {name: "
            f"{method.name}, provenance: ..., interface: ..., role: ...}}`"
        )
    if provenance is None or interface is None or roles is None:
        given = {"provenance": provenance, "interface": interface, "role": roles}
        missing = ", ".join(key for key, value in given.items() if value is None)
        raise ManifestError(
            f"no plugin knows method {method.name!r}, so it must be declared in full; add {missing}"
            + _further_keys(method.options, [key for key, value in given.items() if value is None])
        )
    return Declaration(provenance, interface, tuple(roles), "declared in the manifest")


def _further_keys(options: Mapping[str, Any], missing: Sequence[str]) -> str:
    """The further keys, free as they are, where a key of the declaration is missing."""
    told = " and ".join(f"{key!r}{near_misses(key, missing)}" for key in options)
    return f"; it also has {told}" if told else ""


def _selected(lineage: Lineage, manifest: Manifest, overrides: Overrides) -> frozenset[str] | None:
    """The names that the patterns of the command line mean; None where there are none."""
    if not overrides.checkpoints:
        return None
    selected: set[str] = set()
    for pattern in overrides.checkpoints:
        found = [name for name in lineage.by_name if fnmatchcase(name, pattern)]
        if not found:
            raise ManifestError(
                f"{pattern!r} is no checkpoint of this manifest"
                f"{near_misses(pattern, lineage.by_name)}",
                path=manifest.path,
                key="--checkpoints",
            )
        selected.update(found)
    return frozenset(selected)


def _place_checkpoints(
    lineage: Lineage,
    manifest: Manifest,
    written: Mapping[str, Written],
    selected: frozenset[str] | None,
) -> Lineage:
    """The lineage with every directory absolute and, of what is selected, present.

    What is not evaluated is neither looked for nor downloaded, but for an adapter's base.
    """
    placed: dict[str, Checkpoint] = {}
    needed = _with_bases(lineage, written, selected)
    for checkpoint in lineage.checkpoints:
        its = written[checkpoint.name]
        entry, key = its.entry, its.key
        if entry.adapter is None:
            folder = manifest.folder / checkpoint.source
            if checkpoint.name in needed:
                with at(manifest, its.place):
                    folder = find_folder(checkpoint.source, manifest.folder)
            placed[checkpoint.name] = replace(checkpoint, directory=folder)
            continue
        base = placed[checkpoint.parents[0]]
        if base.adapter is not None:
            raise ManifestError(
                f"its parent {base.name!r} is itself an adapter; merge that one into its "
                "weights first and give the merged folder as the parent's path",
                path=manifest.path,
                key=f"{key}.parent",
            )
        adapter = manifest.folder / entry.adapter
        if checkpoint.name in needed:
            with at(manifest, its.place):
                adapter = find_folder(entry.adapter, manifest.folder)
        placed[checkpoint.name] = replace(checkpoint, directory=base.directory, adapter=adapter)
    _check_bases(placed, manifest, written, needed)
    return Lineage(lineage.name, tuple(placed.values()))


def _check_bases(
    placed: Mapping[str, Checkpoint],
    manifest: Manifest,
    written: Mapping[str, Written],
    needed: frozenset[str],
) -> None:
    """Raise `ManifestError` for an adapter whose config names another base than its parent."""
    adapters = [one for one in placed.values() if one.adapter and one.name in needed]
    if not adapters:
        return
    # Here, not above: few manifests have adapters.
    from ptharness.discovery.adapter_base import check_base

    own_weights = [one for one in placed.values() if one.adapter is None]
    for one in adapters:
        assert one.adapter is not None
        with at(manifest, f"{written[one.name].key}.parent"):
            check_base(one.adapter, placed[one.parents[0]], own_weights)


def _with_bases(
    lineage: Lineage, written: Mapping[str, Written], selected: frozenset[str] | None
) -> frozenset[str]:
    """The names of all whose files a run reads."""
    if selected is None:
        return frozenset(lineage.by_name)
    adapters = (name for name in selected if written[name].entry.adapter is not None)
    return selected.union(*(lineage.by_name[name].parents for name in adapters))


# --- engine -----------------------------------------------------------------------------------


def _resolve_engine(
    manifest: Manifest, registry: Registry, overrides: Overrides
) -> tuple[type[Engine], EngineSettings]:
    name = overrides.engine or manifest.engine.name
    options = manifest.engine.options if name == manifest.engine.name else {}
    with at(manifest, "--engine" if overrides.engine else "engine.name"):
        engine = registry.engines.get(name)
    with at(manifest, "engine"):
        engine.check_options(options)
    return engine, EngineSettings(name=name, options=options)
