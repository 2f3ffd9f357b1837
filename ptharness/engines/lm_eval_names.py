"""Which model classes the installed lm-eval has, read from its source: importing it is slow."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from ptharness.errors import EngineError

PREFIX = "lm_eval:"
INSTALL = "lm-eval is not installed: pip install 'ptharness[hf]'"

APIS = ("local-completions", "openai-completions")
"""Classes that send token ids to a server."""

_MESSAGES = (
    "it takes chat messages, and prompts are templated already; use lm_eval:local-completions"
)
_MEDIA = "it wants images or sound beside the text"
_NO_CHECKPOINT = "no checkpoint can be named to it, so it would answer alike for all of them"
_MORE = "it computes with more than the checkpoint"
UNSERVED: Mapping[str, str] = {
    **dict.fromkeys(
        ("anthropic-chat", "litellm", "local-chat-completions", "openai-chat-completions"),
        _MESSAGES,
    ),
    **dict.fromkeys(("hf-audiolm-qwen", "hf-multimodal", "hf-mistral3", "vllm-vlm"), _MEDIA),
    **dict.fromkeys(
        (
            "anthropic-completions",
            "dummy",
            "ggml",
            "megatron_lm",
            "nemo_lm",
            "sglang-generate",
            "textsynth",
            "watsonx_llm",
        ),
        _NO_CHECKPOINT,
    ),
    "steered": _MORE,
}
"""Classes that cannot be an engine, and why."""


@dataclass(frozen=True)
class ModelClass:
    """A model class of lm-eval: its name there, its other names, and `module:class`."""

    name: str
    aliases: tuple[str, ...]
    target: str

    @property
    def engine(self) -> str:
        """Its name as an engine of a manifest."""
        return PREFIX + self.name

    @property
    def engine_aliases(self) -> tuple[str, ...]:
        """Its other names as an engine."""
        return tuple(PREFIX + alias for alias in self.aliases)

    @property
    def summary(self) -> str:
        """A line for lists."""
        if self.name in UNSERVED:
            return f"Not served: {UNSERVED[self.name]}."
        how = "by token ids, from a server" if self.name in APIS else "by text, in process"
        return f"lm-eval's model class {self.name}, {how}."


HF = ModelClass("hf", ("hf-auto", "huggingface"), "lm_eval.models.huggingface:HFLM")


@cache
def other_classes() -> Sequence[ModelClass]:
    """Every class but `hf`; none where lm-eval is not installed, or is laid out otherwise."""
    by_target: dict[str, list[str]] = {}
    for name, target in _mapping().items():
        by_target.setdefault(target, []).append(name)
    by_target.pop(HF.target, None)
    return [ModelClass(names[0], tuple(names[1:]), target) for target, names in by_target.items()]


def lm_eval_version() -> str:
    """Version of the installed lm-eval. Raises `EngineError` where there is none."""
    try:
        return version("lm_eval")
    except PackageNotFoundError:
        raise EngineError(INSTALL) from None


def library_version(name: str) -> str:
    """Version of an installed distribution without its local part (`+cpu`); "none" without it."""
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return "none"


def _mapping() -> dict[str, str]:
    """lm-eval's own mapping of names to `module:class`."""
    spec = find_spec("lm_eval")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        source = Path(folder) / "models" / "__init__.py"
        if source.is_file():
            return _assigned(source.read_text(encoding="utf-8"), "MODEL_MAPPING")
    return {}


def _assigned(source: str, name: str) -> dict[str, str]:
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == name for target in node.targets
        ):
            value = ast.literal_eval(node.value)
            return {str(key): str(target) for key, target in value.items()}
    return {}
