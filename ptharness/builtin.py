"""ptharness's own tasks, engines, executors and commands, added through the public hooks.

Everything is named by dotted string or imported inside its hook: `ptharness --help` asks for
the commands alone and must stay quick.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ptharness.hookspecs import hookimpl

if TYPE_CHECKING:
    from ptharness.registry import Registry

COMMANDS = {
    "run": "Evaluate every checkpoint of a lineage and publish the tables.",
    "demo": "Evaluate the bundled lineage of tiny checkpoints.",
    "analyze": "Measure again what each stage did, without an engine.",
    "report": "Write the page that shows what each stage did.",
    "results": "List the lineages in a results folder, with sizes, dates and failures.",
    "show": "Show items: prompts, completions side by side, what was gained or lost.",
    "compare": "Compare any two checkpoints, per task and over all.",
    "plan": "Show what a run would do, what is cached, and the engine starts.",
    "provenance": "Measure whose words each stage learned from, under its parent.",
    "distances": "Measure how far the checkpoints behave from each other.",
    "discover": "Write a manifest from folders of checkpoints.",
    "check": "Check a manifest: names, paths, declared methods, comparability.",
    "methods": "List the kinds of training stage, or explain one.",
    "tasks": "List or search the eval tasks.",
    "engines": "List the engines.",
    "plugins": "List the loaded plugins, where they are from, and their hooks.",
    "manifest-schema": "Print the JSON Schema of a manifest, for editors.",
}
"""Name of a command (its module in ptharness.cli, with `_`) and its line in `--help`."""


@hookimpl
def ptharness_register_tasks(registry: Registry) -> None:
    import ptharness_tasks

    from ptharness.tasks.catalogue import LmEvalCatalogue, PathTasks, YamlFolder

    lm_eval = LmEvalCatalogue()
    bundled = Path(ptharness_tasks.__path__[0])
    registry.tasks.add(PathTasks(fallback=lm_eval))
    registry.tasks.add(YamlFolder(bundled, origin="ptharness", fallback=lm_eval))
    registry.tasks.add(lm_eval, last_resort=True)


@hookimpl
def ptharness_register_engines(registry: Registry) -> None:
    from ptharness.engines.lm_eval_names import HF, other_classes

    registry.engines.add(
        "ptharness.engines.vllm:VllmEngine",
        name="vllm",
        summary="vLLM, in process; one start serves every checkpoint of an architecture.",
    )
    registry.engines.add(
        "ptharness.engines.fake:FakeEngine",
        name="fake",
        summary="Deterministic nonsense without a model, for tests of plugins.",
    )
    registry.engines.add(
        "ptharness.engines.lm_eval_hf:HfEngine",
        name=HF.engine,
        aliases=HF.engine_aliases,
        summary="transformers, as lm-eval's hf model uses it: the reference; needs no vLLM.",
    )
    for known in other_classes():
        registry.engines.add(
            f"ptharness.engines.lm_eval:{known.name}",
            name=known.engine,
            aliases=known.engine_aliases,
            summary=known.summary,
        )


@hookimpl
def ptharness_register_executors(registry: Registry) -> None:
    registry.executors.add(
        "ptharness.executors.local:LocalExecutor",
        name="local",
        summary="This machine: one worker process at a time.",
    )


@hookimpl
def ptharness_register_commands(registry: Registry) -> None:
    for name, summary in COMMANDS.items():
        module = name.replace("-", "_")
        registry.commands.add(f"ptharness.cli.{module}:{module}", name=name, summary=summary)
