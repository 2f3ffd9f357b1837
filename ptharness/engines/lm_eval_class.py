"""What all model classes of lm-eval but `hf` have in common as engines."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from ptharness.engines import lm_eval_options
from ptharness.engines.base import Capabilities, Engine, EngineSettings, GenerateRequest
from ptharness.engines.devices import gpu_names
from ptharness.engines.lm_eval_names import (
    UNSERVED,
    ModelClass,
    library_version,
    lm_eval_version,
)
from ptharness.errors import CheckpointError, EngineError
from ptharness.protocol import Sampling

_SHAPING = (
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
)


class ModelClassEngine(Engine):
    """A model class of lm-eval by its public interface: text comes back, and sums.

    The tokens of a completion, their log-probabilities and often the reason of its end are
    unknown. Every checkpoint is loaded afresh.
    """

    model_class: ClassVar[ModelClass]
    capabilities: ClassVar[Capabilities] = Capabilities(reproducible=False, tokens=False, window=64)

    def __init__(self, settings: EngineSettings) -> None:
        super().__init__(settings)
        self.check_options(settings.options)
        self.capabilities = replace(  # type: ignore[misc]
            type(self).capabilities,
            window=int(settings.options.get("window", type(self).capabilities.window)),
        )
        self._lm: Any = None

    @classmethod
    def check_options(cls, options: Mapping[str, Any]) -> None:
        """Raise `EngineError` for an option that is refused, unknown, or of the wrong type."""
        if cls.model_class.name in UNSERVED:
            raise EngineError(f"{cls.name} is not served: {UNSERVED[cls.model_class.name]}")
        lm_eval_options.check(cls.name, options, lm_eval_options.allowed(cls.model_class.name))

    @classmethod
    def identity(cls, settings: EngineSettings) -> Mapping[str, str]:
        """Versions of lm-eval and of what computes, the device, and the options but for speed."""
        return {
            "engine": cls.name,
            "version": lm_eval_version(),
            "library": library_version(cls.model_class.name),
            "torch": library_version("torch"),
            "device": str(settings.options.get("device") or " + ".join(gpu_names()) or "cpu"),
            **{
                name: str(value)
                for name, value in settings.options.items()
                if name not in lm_eval_options.WITHOUT_EFFECT and name != "device"
            },
        }

    def close(self) -> None:
        """Give the model's memory back."""
        if self._lm is not None:
            self._lm = None
            from ptharness.engines.lm_eval_batches import free_memory

            free_memory()

    def _require_lm(self) -> Any:
        if self._lm is None:
            raise EngineError("no checkpoint is loaded; call load() first")
        return self._lm

    def _class(self) -> type:
        """The model class, imported."""
        module, _, attribute = self.model_class.target.partition(":")
        try:
            found: type = getattr(importlib.import_module(module), attribute)
        except Exception as error:
            lm_eval_version()
            raise EngineError(
                f"{self.name} cannot be imported ({type(error).__name__}: {error}); install what "
                f"lm-eval needs for it: pip install 'lm-eval[{self.model_class.name}]'"
            ) from error
        return found

    def _make(self, model_class: type, checkpoint: str, forced: Mapping[str, Any]) -> Any:
        """An instance for a checkpoint, with the manifest's options.

        `forced` are set where the class has such a parameter. Raises `EngineError` for an option
        that it has not, `CheckpointError` where it cannot load the checkpoint.
        """
        known = parameters(model_class)
        options = {k: v for k, v in self.settings.options.items() if k not in lm_eval_options.OURS}
        foreign = [name for name in options if name not in known and name not in forced]
        if foreign and not takes_anything(model_class):
            raise EngineError(f"engine.{foreign[0]}: not an option of {self.name}")
        forced = {name: value for name, value in forced.items() if name in known}
        safe = _safe(model_class, known)
        try:
            return model_class(**{**options, **safe, **forced})
        except ImportError as error:
            raise EngineError(f"{self.name}: {error}") from error
        except Exception as error:
            reason = " ".join(str(error).split())[:400] or type(error).__name__
            raise CheckpointError(f"{checkpoint}: {self.name} cannot load it: {reason}") from error


def _safe(model_class: type, known: set[str]) -> dict[str, Any]:
    """What keeps a class from unpickling weights and from running a checkpoint's code."""
    safe: dict[str, Any] = {"trust_remote_code": False} if "trust_remote_code" in known else {}
    families = {owner.__name__ for owner in inspect.getmro(model_class)}
    if "HFLM" in families:
        safe["use_safetensors"] = True
    elif families & {"VLLM", "SGLangLM"}:
        safe["load_format"] = "safetensors"
    return safe


def parameters(model_class: type) -> set[str]:
    """Names of what its constructor takes, those of the classes that it hands `**kwargs` to too."""
    names: set[str] = set()
    for owner in inspect.getmro(model_class):
        if "__init__" not in vars(owner):
            continue
        own = inspect.signature(vars(owner)["__init__"]).parameters.values()
        names |= {p.name for p in own if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        if not any(p.kind is p.VAR_KEYWORD for p in own):
            break
    return names - {"self"}


def takes_anything(model_class: type) -> bool:
    """Whether the constructor hands what it does not know on to another library."""
    own = inspect.signature(model_class).parameters.values()
    return any(p.kind is p.VAR_KEYWORD for p in own)


def generation_arguments(sampling: Sampling, stops: list[str]) -> dict[str, Any]:
    """lm-eval's `generation_kwargs` of a protocol; `stops` are added to its stop strings."""
    plain = Sampling()
    return {
        "until": [*sampling.stop, *(stop for stop in stops if stop not in sampling.stop)],
        "max_gen_toks": sampling.max_tokens,
        "do_sample": sampling.temperature > 0,
        "temperature": sampling.temperature,
        **{
            name: getattr(sampling, name)
            for name in _SHAPING
            if getattr(sampling, name) != getattr(plain, name)
        },
    }


def different_samples(request: GenerateRequest) -> int:
    """Samples to draw: greedy ones are all the same, and one is drawn."""
    return request.samples if request.sampling.temperature else 1
