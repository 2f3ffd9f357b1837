"""The manifest: YAML -> validated settings. Shape only: it knows no plugin and no path.

docs/reference/manifest.md and the JSON Schema are generated from the models below.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    Strict,
    StringConstraints,
    ValidationError,
)

from ptharness.errors import ManifestError
from ptharness.safe_yaml import YamlError, parse_yaml, read_text
from ptharness.shape_problems import kind_of, shape_problem
from ptharness.taxonomy import Interface, Provenance, Role

DEFAULT_SUPPORT_BUDGET = 16
"""k of the analysis where the manifest sets none."""

MOST_NAME_CHARACTERS = 100
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
_RESERVED_LINEAGE_NAMES = frozenset({"units"})

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=MOST_NAME_CHARACTERS)]
Text = Annotated[str, StringConstraints(min_length=1)]


def _many(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _named(key: str, model: type[BaseModel]) -> BeforeValidator:
    """`method: sft` is short for `method: {name: sft}`."""
    return BeforeValidator(
        lambda value: {key: value} if isinstance(value, str) else value,
        json_schema_input_type=str | model,
    )


Names = Annotated[list[Name], BeforeValidator(_many, json_schema_input_type=Name | list[Name])]
Texts = Annotated[list[Text], BeforeValidator(_many, json_schema_input_type=Text | list[Text])]
LooseProvenance = Annotated[Provenance, Strict(False)]
LooseInterface = Annotated[Interface, Strict(False)]
LooseRoles = Annotated[
    list[Annotated[Role, Strict(False)]],
    Field(min_length=1),
    BeforeValidator(_many, json_schema_input_type=Role | list[Role]),
]


class _Entry(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class SamplingEntry(_Entry):
    """How completions are drawn; what is set nowhere stays as the task's own YAML says."""

    samples: int | None = Field(None, ge=1, le=1_000_000)
    """Completions drawn of each prompt."""
    temperature: float | None = Field(None, ge=0, le=100)
    """0 is greedy decoding."""
    top_p: float | None = Field(None, gt=0, le=1)
    """Only the likeliest tokens that together have this probability; 1 is all."""
    top_k: int | None = Field(None, ge=0)
    """Only this many likeliest tokens; 0 is all."""
    min_p: float | None = Field(None, ge=0, le=1)
    """Only tokens at least this fraction as likely as the likeliest; 0 is all."""
    repetition_penalty: float | None = Field(None, gt=0, le=100)
    """Divides the logits of tokens that have occurred; 1 is none."""
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    """Subtracted once from the logits of tokens that have occurred; 0 is none."""
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    """Subtracted from a token's logit for each time it has occurred; 0 is none."""
    max_tokens: int | None = Field(None, ge=1, le=10_000_000)
    """Longest completion, in tokens."""
    stop: Texts | None = None
    """Strings that end a completion and are cut off (instead of the task's own)."""
    seed: int | None = Field(None, ge=0, lt=2**63)
    """Root of all random streams (0 where unset)."""
    num_fewshot: int | None = Field(None, ge=0, le=10_000)
    """Worked examples before each prompt."""
    fewshot_seed: int | None = Field(None, ge=0, lt=2**63)
    """Draws the worked examples, where the task draws them (1234 where unset, as in lm-eval)."""
    fewshot_as_multiturn: bool | None = None
    """In a chat template, whether each worked example is a turn of its own (true where unset)."""
    think_end_token: Text | None = None
    """Text that ends a model's thoughts, such as `</think>`. A completion is kept whole; what
    follows the last one is scored. Stop strings then cut the answer alone."""
    chat_template: Text | None = None
    """auto (the tokenizer's own, if it has one), none, or a Jinja file."""
    system_prompt: str | None = None
    """Text of the system turn before each prompt."""


class TaskEntry(SamplingEntry):
    """One task, with settings that beat those of `evaluate`.

    A key set to null here goes back to what the task's own YAML says.
    """

    task: Text
    """A task, group or tag by name, or the path of a task's YAML file."""
    metric: Text | None = None
    """The primary metric (the first that the task reports where unset)."""
    filter: Text | None = None
    """The filter of the primary metric."""


class EvaluateEntry(SamplingEntry):
    """What to evaluate every checkpoint on, and how."""

    tasks: Annotated[
        list[Annotated[TaskEntry, _named("task", TaskEntry)]],
        BeforeValidator(_many, json_schema_input_type=str | list[str | TaskEntry]),
    ] = Field(min_length=1)
    """Names, groups, tags, paths of YAML files, or mappings with a task's own settings."""
    support_budget: int | None = Field(None, ge=1, le=1_000_000)
    """k of the analysis: reachable means solved within k samples (16 where unset). Needs
    at least k + 1 samples."""


class MethodEntry(_Entry):
    """The method of a stage; further keys are the method's own options."""

    model_config = ConfigDict(extra="allow")

    name: Name
    """A method that `ptharness methods` lists, or a new one with its declaration here."""
    provenance: LooseProvenance | None = None
    """Whose trajectories the stage learned from."""
    interface: LooseInterface | None = None
    """How the correction is attached to the trajectories."""
    role: LooseRoles | None = None
    """What the stage is meant to do; one or a list."""

    @property
    def options(self) -> Mapping[str, Any]:
        """The method's own options."""
        return dict(self.model_extra or {})


class CheckpointEntry(_Entry):
    """One checkpoint: where its weights are, and the stage that made it."""

    path: Text | None = None
    """Folder, relative to the manifest, or a hub id `org/name@revision`."""
    adapter: Text | None = None
    """Instead of path: a LoRA adapter (folder or hub id) on the weights of its parent."""
    parent: Names | None = Field(None, min_length=1)
    """The checkpoint it was trained from; a list for a merge; absent for a root."""
    method: Annotated[MethodEntry, _named("name", MethodEntry)] | None = None
    """The kind of stage. A root has none."""
    trajectories: Text | None = None
    """File of what the stage was trained on; lets provenance be measured."""
    teacher: Name | None = None
    """The checkpoint whose outputs the stage imitates."""
    step: int | None = Field(None, ge=0, le=2**53)
    """Training step of this checkpoint."""
    steps: Texts | None = Field(None, min_length=1)
    """Pattern of the folders of intermediate steps, such as `runs/sft/checkpoint-*`; or a list."""
    replicate: int = Field(0, ge=0, lt=2**31)
    """Same weights, same protocol, but independent samples for every value."""
    provenance: LooseProvenance | None = None
    """Overrides what the method declares."""
    interface: LooseInterface | None = None
    """Overrides what the method declares."""
    role: LooseRoles | None = None
    """Overrides what the method declares; one or a list."""


class EngineEntry(_Entry):
    """The engine; further keys are the engine's own options."""

    model_config = ConfigDict(extra="allow")

    name: Text
    """An engine that `ptharness engines` lists."""

    @property
    def options(self) -> Mapping[str, Any]:
        """The engine's own options."""
        return dict(self.model_extra or {})


class Manifest(_Entry):
    """A lineage of checkpoints and what to evaluate them on."""

    lineage: Name
    """The lineage's name; it becomes a folder of results."""
    checkpoints: dict[Name, CheckpointEntry] = Field(min_length=1)
    """The checkpoints under their names, which become names of folders."""
    evaluate: EvaluateEntry
    """Tasks and sampling."""
    engine: Annotated[EngineEntry, _named("name", EngineEntry)] = EngineEntry(name="vllm")
    """What generates: a name, or a mapping of a name and the engine's own options."""

    _path: Path = PrivateAttr(default=Path("manifest.yaml"))
    _text: str = PrivateAttr(default="")

    @property
    def path(self) -> Path:
        """The file it was read from, absolute."""
        return self._path

    @property
    def folder(self) -> Path:
        """The folder that relative paths in it are taken against."""
        return self._path.parent

    @property
    def text(self) -> str:
        """The file's text as it was read."""
        return self._text


def read_manifest(path: Path | str) -> Manifest:
    """Read and validate a manifest. Raises `ManifestError` naming file, key, value, remedy."""
    path = Path(path)
    try:
        text = read_text(path)
        content = parse_yaml(text)
    except YamlError as problem:
        raise ManifestError(problem.problem, path=path, key=problem.key) from None
    if not isinstance(content, dict) or not content:
        what = "is empty" if not content else f"holds {kind_of(content)}, not keys and values"
        raise ManifestError(
            f"{what}; a manifest has the keys lineage, checkpoints and evaluate", path=path
        )
    try:
        manifest = Manifest.model_validate(content)
    except ValidationError as error:
        key, shape = shape_problem(error, _legal_keys, _PLACES)
        raise ManifestError(shape, path=path, key=key) from None
    _check(manifest, path)
    manifest._path, manifest._text = path.absolute(), text
    return manifest


def manifest_schema() -> dict[str, Any]:
    """The JSON Schema of a manifest, by which editors complete and check it."""
    schema = Manifest.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


# --- what pydantic's types do not say ---------------------------------------------------------

_STAGE_KEYS = ("method", "trajectories", "teacher", "provenance", "interface", "role")


def _check(manifest: Manifest, path: Path) -> None:
    if manifest.lineage in _RESERVED_LINEAGE_NAMES:
        raise ManifestError(
            f"{manifest.lineage!r} is the name of a folder that results hold beside the "
            "lineages; choose another",
            path=path,
            key="lineage",
        )
    for name, entry in manifest.checkpoints.items():
        _check_checkpoint(name, entry, path)


def _check_checkpoint(name: str, entry: CheckpointEntry, path: Path) -> None:
    key = f"checkpoints.{name}"
    if entry.path is None and entry.adapter is None and entry.steps is None:
        raise ManifestError(
            "has no weights; give it `path:` (a folder or hub id), `adapter:` or `steps:`",
            path=path,
            key=key,
        )
    if entry.path is None and entry.adapter is None and entry.step is not None:
        raise ManifestError(
            "has `steps` and no `path`, so its step is that of the last folder; remove step, or "
            "name the folder as `path:`",
            path=path,
            key=f"{key}.step",
        )
    if entry.path is not None and entry.adapter is not None:
        raise ManifestError(
            "has both path and adapter; an adapter is served on its parent's weights: "
            "remove path, or merge the adapter and remove adapter",
            path=path,
            key=f"{key}.adapter",
        )
    parents = entry.parent or []
    if entry.adapter is not None and len(parents) != 1:
        raise ManifestError(
            f"is an adapter with {len(parents)} parents; give it the one whose weights it "
            "is served on, as `parent: NAME`",
            path=path,
            key=f"{key}.parent",
        )
    if len(set(parents)) != len(parents):
        raise ManifestError(f"names a parent twice: {', '.join(parents)}", path=path, key=key)
    stage_keys = [name for name in _STAGE_KEYS if getattr(entry, name) is not None]
    if not parents and stage_keys:
        raise ManifestError(
            "is set on a root (a checkpoint without parent), which no stage made; add "
            f"`parent: NAME`, or remove {', '.join(stage_keys)}",
            path=path,
            key=f"{key}.{stage_keys[0]}",
        )
    if parents and entry.method is None:
        raise ManifestError(
            f"has a parent ({', '.join(parents)}) but no method; add `method: NAME` "
            "(`ptharness methods` lists them)",
            path=path,
            key=f"{key}.method",
        )


def _legal_keys(level: Sequence[str | int]) -> list[str]:
    """The keys that may stand at a place of the manifest."""
    models: dict[tuple[str, int], type[BaseModel]] = {
        ("", 0): Manifest,
        ("checkpoints", 2): CheckpointEntry,
        ("evaluate", 1): EvaluateEntry,
        ("evaluate", 3): TaskEntry,
    }
    model = models.get((str(level[0]) if level else "", len(level)))
    return list(model.model_fields) if model else []


_PLACES = {
    "evaluate": frozenset(EvaluateEntry.model_fields),
    "checkpoints.NAME": frozenset(CheckpointEntry.model_fields),
}
"""Where a key belongs that stands where it is not known."""
