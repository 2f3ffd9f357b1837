"""Write the generated pages of docs/reference: `python docs/generate.py`, or `--check` them.

manifest.md comes from the pydantic models, cli.md from the commands' help, tables.md from the
Arrow schemas, methods.md from the method plugins, parity.md from the tests' matrix. A test fails
where a page is not what this script would write.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Container, Iterator, Mapping
from pathlib import Path
from typing import Any

REFERENCE = Path(__file__).parent / "reference"

NOTICE = "<!-- written by docs/generate.py: change the code, then run `make docs` -->\n"


# --- manifest.md ------------------------------------------------------------------------------

MANIFEST_EXAMPLE = """\
lineage: arith
checkpoints:
  base: {path: checkpoints/base}                 # a root has no method
  sft:
    path: checkpoints/sft                        # relative to this file; or a hub id
    parent: base
    method: sft
    trajectories: data/sft.jsonl                 # optional: what it was trained on
  dpo: {path: checkpoints/dpo, parent: sft, method: {name: dpo, pairs: offline}}
  grpo:
    path: checkpoints/grpo
    parent: sft
    method: grpo
    step: 400
    steps: checkpoints/grpo/checkpoint-*         # grpo-100, grpo-200, ...: the steps on the way
  lora: {adapter: checkpoints/lora, parent: sft, method: sft}    # a LoRA adapter on its parent
  sft-again: {path: checkpoints/sft, replicate: 1}               # the same weights again
  student: {path: checkpoints/student, parent: base, teacher: grpo, method: sequence_kd}
  merged: {path: checkpoints/merged, parent: [dpo, grpo], method: merge}
  own:
    path: checkpoints/own
    parent: sft
    method: {name: our_trick, provenance: mixed, interface: rewards, role: policy_reshaping}
evaluate:
  tasks:
    - arith_add                                  # a name, a group, a tag, or a path to a YAML
    - my_task.yaml
    - {task: gsm8k, num_fewshot: 4, max_tokens: 512, samples: 16}
  samples: 32
  temperature: 1.0
  max_tokens: 64
engine: {name: vllm, dtype: float32}
"""

MANIFEST_TEXT = """\
A manifest is one YAML file: a lineage of checkpoints, and what to evaluate each of them on.

```yaml
{example}```

- **Paths** are relative to the manifest. Where no folder of that name exists, `org/name` and
  `org/name@revision` are hub ids: taken from the local hub cache, else downloaded (safetensors,
  tokenizer and configuration only; never pickles, never code).
- **Names** of lineages, checkpoints and tasks are letters, digits, `.`, `-`, `_`, starting with a
  letter or digit: they become names of folders.
- **What is set where.** A task's own entry beats `evaluate`, `evaluate` beats the task's YAML. A
  key that a task's entry sets to `null` goes back to what the task's YAML says. A task for which
  nothing is set runs as its YAML says (mostly greedy, one sample) and then equals lm-eval.
- **Methods.** [Methods](methods.md) and `ptharness methods` list them; a further key of
  `method: {{name: ..., ...}}` is an option of the method. What a method declares is overridden by
  `provenance`, `interface` and `role` of the checkpoint. A method that no plugin knows is declared
  in full, as `our_trick` is above.
- **Steps.** `steps` makes one checkpoint of every folder that its pattern (`*`, `?`, `[...]`; no
  `**`; or a list of patterns) matches, taken against the manifest's folder as paths are. Each
  is named `NAME-STEP`, has everything else of its entry, and so is one more child of the same
  parents, to be compared with them. The step is the last number in that part of the path where
  the pattern has its wildcard: `global_step_500/actor/hf` is 500. Files that match are passed over;
  a folder without a number, two with the same, more than 1,000, or none at all are errors.
  - *Beside `path`* (or `adapter`, then the steps are adapters too) `NAME` stays what lies there,
    the end of the stage. A folder that is that very one, or has the number of its `step`, is not
    there twice.
  - *Instead of `path`* `NAME` is the last step, so that other stages have the end of this one as
    their parent, and a later end once a later folder is there. Nothing is generated again then:
    samples are stored by weights, not by names.
  - *Of a root*, steps are those of its pre-training: further roots, with no parent to compare
    them with.

  `parent: NAME-STEP` and `teacher: NAME-STEP` name a step like any other checkpoint.
- **Some of the checkpoints.** `ptharness run lineage.yaml --checkpoints 'base,grpo*'` evaluates and
  publishes these alone, as `--tasks` does for tasks. The table `checkpoints` keeps the whole
  lineage, without fingerprints of what was left out; pairs are compared where both sides were
  evaluated. What is left out is not read, nor need it be there; what was generated stays stored.
- **Not by hand.** `ptharness discover DIR... -o lineage.yaml` writes a manifest from folders of
  checkpoints and marks what it could not decide: [how, and how sure](../explanation/discovery.md).
- **Support budget.** An explicit `support_budget: k` needs at least k + 1 samples. Without one,
  k is 16, and with fewer samples what depends on it stays undefined.
- **YAML** here refuses what YAML usually lets pass: a key written twice, a key that is no text
  (quote it: `"1": ...`), and aliases that expand without end. `1e-3` is a number and
  `2024-01-01` is text.

`ptharness check lineage.yaml` says whether a manifest is sound; `ptharness manifest-schema` prints
its JSON Schema, by which editors complete it.
"""

MODEL_TITLES = {
    "Manifest": "Top level",
    "CheckpointEntry": "`checkpoints:` NAME",
    "MethodEntry": "`method:` as a mapping",
    "EvaluateEntry": "`evaluate:`",
    "TaskEntry": "`evaluate: tasks:` as a mapping",
    "EngineEntry": "`engine:` as a mapping",
}


def manifest_page() -> str:
    """docs/reference/manifest.md."""
    from ptharness.manifest import Manifest, manifest_schema
    from ptharness.safe_yaml import parse_yaml

    Manifest.model_validate(parse_yaml(MANIFEST_EXAMPLE))
    schema = manifest_schema()
    lines = ["# The manifest", "", MANIFEST_TEXT.format(example=MANIFEST_EXAMPLE)]
    for model, title in MODEL_TITLES.items():
        properties = schema if model == "Manifest" else schema["$defs"][model]
        lines += [f"## {title}", "", properties["description"], ""]
        lines += ["| key | value | meaning |", "|---|---|---|"]
        shared = schema["$defs"]["EvaluateEntry"]["properties"] if model == "TaskEntry" else ()
        lines += _manifest_rows(properties, shared)
        lines.append("")
    return "\n".join(lines)


def _manifest_rows(model: Mapping[str, Any], shared: Container[str]) -> Iterator[str]:
    """A row for each key; those that stand in `shared` are explained there."""
    if shared:
        yield "| `samples` ... `system_prompt` | as under `evaluate` | For this task alone. |"
    for key, value in model["properties"].items():
        if key in shared:
            continue
        needed = " (required)" if key in model.get("required", ()) else ""
        meaning = " ".join(value["description"].split())
        yield f"| `{key}`{needed} | {_kind(value)} | {meaning} |"


def _kind(value: Mapping[str, Any]) -> str:
    """What may stand there, in words, from a piece of JSON Schema."""
    if "anyOf" in value:
        kinds = [_kind(each) for each in value["anyOf"] if each.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "$ref" in value:
        name = value["$ref"].rsplit("/", 1)[-1]
        return {"Provenance": _words("Provenance"), "Interface": _words("Interface")}.get(
            name, _words("Role") if name == "Role" else "mapping"
        )
    if value.get("type") == "array":
        return f"list of {_kind(value['items'])}"
    limits = [
        f"{sign} {value[key]}"
        for key, sign in (
            ("minimum", "≥"),
            ("exclusiveMinimum", ">"),
            ("maximum", "≤"),
            ("exclusiveMaximum", "<"),
        )
        if key in value
    ]
    name = {
        "integer": "whole number",
        "number": "number",
        "boolean": "true or false",
        "object": "mapping",
        "string": "text",
    }
    kind = "name" if value.get("pattern") else name[value["type"]]
    return " ".join([kind, ", ".join(limits)]).strip()


def _words(enum: str) -> str:
    from ptharness import taxonomy

    return ", ".join(f"`{member}`" for member in getattr(taxonomy, enum))


# --- cli.md -----------------------------------------------------------------------------------

CLI_TEXT = """\
Exit codes: 0 all done; 1 some units failed (each is named); 2 wrong use or wrong input; 130
interrupted. An error is one line on standard error. `--json` prints for programs.
"""


def cli_page() -> str:
    """docs/reference/cli.md."""
    import click

    from ptharness.builtin import COMMANDS
    from ptharness.cli import application
    from ptharness.plugins import load_plugins

    commands = load_plugins(installed=False).registry(["commands"]).commands
    context = click.Context(application, info_name="ptharness", **application.context_settings)
    lines = ["# The command line", "", CLI_TEXT, "## ptharness", "", *_help(application, context)]
    for name in COMMANDS:
        inner = click.Context(commands.get(name), info_name=name, parent=context)
        lines += [f"## ptharness {name}", "", *_help(commands.get(name), inner)]
    return "\n".join(lines)


def _help(command: Any, context: Any) -> list[str]:
    from ptharness.cli.session import Session

    # What is installed beside ptharness must not get into its documentation.
    context.terminal_width = 88
    context.obj = Session(installed=False)
    return ["```text", command.get_help(context), "```", ""]


# --- tables.md --------------------------------------------------------------------------------

TABLES_TEXT = """\
Published under `results/<lineage>/`, as Parquet that plain pandas reads. Tables are added to;
no column is renamed or removed. `samples/` is a folder, `samples/<checkpoint>/<task>.parquet`, with
every column inside each file. Fractions are of 1; units stand in the name or the meaning. The
schema's version ({version}) is in each file's metadata.

```python
import pandas as pd

samples = pd.read_parquet("results/arith/samples")
```

[Open results](../how-to/open-results.md) shows more ways, and says how the numbers are made.
"""

TABLE_ROWS = {
    "checkpoints": "One row per checkpoint of the lineage, parents first.",
    "documents": "One row per task x item.",
    "samples": "One row per completion, or per item of a choice task.",
    "items": "One row per checkpoint x task x item.",
    "metrics": "One row per checkpoint x task (after those, group) x metric x filter.",
    "edges": "One row per source x target x task x quantity: what each stage did. The tags are the "
    "target's.",
    "verdicts": "One row per source x target x task: the role declared, the role measured.",
    "measures": "One row per checkpoint x task x quantity: what it can do, at which price.",
    "retention": "One row per stage x later checkpoint x task: what is left there of what the "
    "stage `source` -> `target` gained. The tags are the later checkpoint's.",
    "turnover": "One row per two checkpoints x task x quantity: which share of items one solves "
    "and the other does not.",
    "sensitivity": "The cells of `edges` at k = 4, 8, 16 and 32.",
    "certified": "One row per item that certainly became reachable, or certainly no longer is.",
    "provenance": "One row per stage that names its trajectories, and per side of preference "
    "pairs. Written by `ptharness provenance`; "
    "[how to read it](../how-to/measure-provenance.md).",
    "distances": "One row per ordered pair of checkpoints and task. Written by "
    "`ptharness distances`; [how to read it](../how-to/measure-distances.md).",
    "token_likelihoods": "One row per sample of a child that its parent judged, token by token. "
    "Written beside `distances`; `ptharness show RESULTS --item ITEM --tokens` shows one.",
}

ANALYSIS_TEXT = """\
# The analysis

The tables below are made of those above by every run, and again by `ptharness analyze`; none needs
an engine. [What is measured](../explanation/measurement.md) explains every quantity. A row is about
one task (`scope` = task), the tasks that share a tag (tag), or all of them (pooled: the mean of
the tasks, each counting the same). `estimate` is null where a quantity is undefined, and `reason`
says what it would take. `analysis.json` says with which k, level and false discovery rate.
"""

RUN_TEXT = """\
## run.json

| key | meaning |
|---|---|
| `schema_version` | Version of the tables. |
| `state` | Digest of the state that all tables beside it belong to; written after them. |
| `lineage` | Name of the lineage. |
| `started`, `finished`, `command`, `timings` | Of the run that made the numbers, in UTC and s. |
| `versions`, `machine`, `engine` | What it ran with. |
| `seeds`, `support_budget` | As resolved from the manifest. |
| `tasks` | Per task: kind, primary metric and filter, whether that is a yes/no, version, tags. |
| `evaluated` | Per checkpoint x task, digests of what was asked and how it was scored: by these \
it is decided what may be compared. |
| `protocols` | Per key of the column `protocol`: all that fixes how samples are drawn. |
| `failures` | What could not be done: `checkpoint`, `task`, `stage`, `message`. |
| `engine_loads` | Per checkpoint, how its weights last came into an engine for these numbers: \
`how` (cold, swap, adapter), `seconds`, `verified`, `reason`, `fingerprint`. |
"""


def tables_page() -> str:
    """docs/reference/tables.md."""
    from ptharness.schema import ANALYSIS, LIKELIHOODS, PUBLISHED, SCHEMA_VERSION

    lines = ["# The tables", "", TABLES_TEXT.format(version=SCHEMA_VERSION)]
    for name, schema in {**PUBLISHED, **ANALYSIS, **LIKELIHOODS}.items():
        if name == next(iter(ANALYSIS)):
            lines += [ANALYSIS_TEXT, *_quantity_rows(), ""]
        lines += [f"## {name}", "", TABLE_ROWS[name], ""]
        lines += ["| column | type | meaning |", "|---|---|---|"]
        for column in schema:
            metadata = column.metadata or {}
            meaning = metadata.get(b"description", b"").decode()
            lines.append(f"| `{column.name}` | {_arrow_kind(column)} | {meaning} |")
        lines.append("")
    return "\n".join([*lines, RUN_TEXT])


def _quantity_rows() -> Iterator[str]:
    from ptharness.quantities import QUANTITIES

    yield "| quantity | table | unit | meaning |"
    yield "|---|---|---|---|"
    for name, quantity in QUANTITIES.items():
        tables = ", ".join(quantity.tables)
        yield f"| `{name}` | {tables} | {quantity.unit} | {quantity.meaning} |"


def _arrow_kind(column: Any) -> str:
    import pyarrow as pa

    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    text = str(kind).replace("|", "\\|").replace("<item: ", "<")
    return f"{text}{', never null' if not column.nullable else ''}"


# --- methods.md -------------------------------------------------------------------------------

METHODS_TEXT = """\
The kinds of training stage, by the families of the survey arXiv 2604.07941, each a plugin like any
third party's. `ptharness methods NAME` prints the same, with the reason and the literature. A
method's *declaration* says whose trajectories a stage learns from (provenance), how the correction
is attached (interface) and what the stage is meant to do (roles); it depends on the options, which
stand beside the name: `method: {name: dpo, pairs: fresh_rollouts}`. What a stage really did is
measured elsewhere and never overwrites it.

What a family is *recognised by* is used by `ptharness check`, which holds the folders against what
a manifest declares, and by `ptharness discover`
([how, and what cannot be told apart](../explanation/discovery.md)).
"""


def methods_page() -> str:
    """docs/reference/methods.md."""
    import inspect

    from ptharness.evidence import declare
    from ptharness.methods import Method, StageSettings
    from ptharness.plugins import load_plugins

    catalogue = load_plugins(installed=False).registry(["methods"]).methods
    lines = ["# Methods", "", METHODS_TEXT]
    for entry in catalogue:
        method = catalogue.get(entry.name)
        detected = type(method).detect is not Method.detect
        lines += [f"## {method.title}", "", inspect.getdoc(type(method)) or "", ""]
        lines += ["| name | provenance | interface | roles | paper |", "|---|---|---|---|---|"]
        for name in entry.names:
            declared = declare(catalogue, StageSettings(name))
            papers = [s for s in declared.sources if not s.startswith("arXiv:2604.07941")]
            lines.append(
                f"| `{name}` | {declared.provenance} | {declared.interface} | "
                f"{', '.join(declared.roles)} | {papers[0] if name != entry.name else ''} |"
            )
        found = inspect.getdoc(type(method).detect) if detected else "Not recognised."
        lines += ["", "Recognised by: " + " ".join((found or "").split()), ""]
    return "\n".join(lines)


# --- parity.md --------------------------------------------------------------------------------

MATRIX = Path(__file__).parents[1] / "tests" / "tasks" / "data" / "matrix"

PARITY_TEXT = """\
A task of lm-eval's gives the same numbers here as in lm-eval. The test suite runs each row below
through a whole run, from the manifest to `metrics.parquet`, and asks `lm_eval.simple_evaluate` with
its `hf` model of the same checkpoint (a model that solves part of the tasks, in float32; one sample
per document). It compares every value and every standard error, and fails a row whose numbers say
nothing, such as a score of 0.

| engine | answers, counts, scores of completions | what is made of log-likelihoods |
|---|---|---|
{engines}

Log-likelihoods are compared as perplexities (their logarithm), bits and Brier scores, relative to
lm-eval's.

| task | metrics | keys of the manifest | file |
|---|---|---|---|
{rows}

## What differs, and why

- **Samples.** At n samples a metric is the mean over samples, its error over documents; lm-eval has
  one sample, or hands all `repeats` to the filters. Filters that combine samples get them all here
  too.
- **Clusters.** Where a task says that its documents are not independent (`metadata.cluster_by`),
  the standard errors, and those of its groups, are clustered.
- **Errors.** A scorer that raises, which ends lm-eval, gives a sample that counts 0 and says why.
- **Documents that do not fit the context** are cut from the left by lm-eval; here they are not
  asked, count as not correct, and are told (`too_long_rate`).
- **Rolling log-likelihoods** with vLLM have windows one token shorter than with `hf`, which
  matters only to texts longer than the context, and is little there; above, `hf` is given the same.
- **Thoughts.** A stop string within them does not end a completion (`think_end_token`), as in
  lm-eval's `vllm`; its `hf` stops there.
- **Bootstrap.** Beyond 500 documents, errors without a formula are drawn fewer times than lm-eval
  would (100,000).
- **Groups** have a row only where each of their tasks was evaluated. A group's own aggregation
  function changes nothing, as in lm-eval: it is always the mean.
- **Not run:** tasks that run what the model wrote (`unsafe_code`: humaneval, mbpp, cruxeval and
  their kin, 35 of lm-eval's), images and audio (46), metrics of completions that are code from the
  hub (`hf_evaluate`: 2), and tasks whose requests are of several kinds (squadv2). Each is refused
  by name, with the reason.
"""


def parity_page() -> str:
    """docs/reference/parity.md."""
    from ptharness.safe_yaml import parse_yaml

    content = parse_yaml((MATRIX / "matrix.yaml").read_text(encoding="utf-8"))
    engines = [f"| `{name}` | equal | to {far:g} |" for name, far in content["tolerances"].items()]
    rows = []
    for row in content["rows"]:
        metrics = ", ".join(f"`{metric}`" for metric in row["metrics"])
        keys = ", ".join(f"`{key}: {_yaml(value)}`" for key, value in row.get("keys", {}).items())
        file = f"{row['task']}.yaml"
        link = f"[{file}](../../tests/tasks/data/matrix/{file})"
        rows.append(f"| {row['feature']} | {metrics} | {keys} | {link} |")
    text = PARITY_TEXT.format(engines="\n".join(engines), rows="\n".join(rows))
    return "# Parity with lm-eval\n\n" + text


def _yaml(value: Any) -> str:
    import json

    return json.dumps(value)


# ----------------------------------------------------------------------------------------------

PAGES: Mapping[str, Callable[[], str]] = {
    "manifest.md": manifest_page,
    "cli.md": cli_page,
    "methods.md": methods_page,
    "tables.md": tables_page,
    "parity.md": parity_page,
}


def written(name: str) -> str:
    """A page as it should be."""
    return NOTICE + PAGES[name]().rstrip() + "\n"


def main(check: bool) -> int:
    """Write all pages; with `check`, only say which ones are not up to date."""
    stale = []
    for name in PAGES:
        path, text = REFERENCE / name, written(name)
        if check:
            current = path.read_text(encoding="utf-8") if path.exists() else ""
            stale += [] if current == text else [name]
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if stale:
        sys.stderr.write(f"not up to date: {', '.join(stale)}; run `make docs`\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
