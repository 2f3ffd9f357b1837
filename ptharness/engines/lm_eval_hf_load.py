"""How `lm_eval:hf` loads a checkpoint: where to, with which arguments, and whether it is right."""

from __future__ import annotations

from typing import Any

from ptharness.engines import lm_eval_options
from ptharness.engines.adapters import Adapter, read_factors
from ptharness.engines.base import EngineSettings
from ptharness.engines.devices import gpu_names
from ptharness.engines.lm_eval_batches import free_memory, out_of_memory
from ptharness.engines.lm_eval_names import lm_eval_version
from ptharness.engines.preflight import Files, read_tensors
from ptharness.errors import CheckpointError, EngineError

DEFAULT_BATCH_SIZE = 8
INSTALL = "pip install 'ptharness[hf]'"


def hf_model_class() -> Any:
    """lm-eval's class, imported. Raises `EngineError` where that is not possible."""
    try:
        from lm_eval.models.huggingface import HFLM
    except ImportError as error:
        lm_eval_version()
        raise EngineError(f"lm-eval's hf model cannot be imported ({error}): {INSTALL}") from error
    return HFLM


def start(model_class: Any, files: Files, tokenizer: Any, settings: EngineSettings) -> Any:
    """lm-eval's model of a checkpoint whose files are sound. Raises `CheckpointError`."""
    options = {k: v for k, v in settings.options.items() if k not in lm_eval_options.OURS}
    try:
        return model_class(
            pretrained=str(files.directory.resolve()),
            tokenizer=tokenizer,
            **{"batch_size": DEFAULT_BATCH_SIZE, "device": device(settings), **options},
            trust_remote_code=False,
            use_safetensors=True,
        )
    except Exception as error:
        reason = " ".join(str(error).split())[:400] or type(error).__name__
        free_memory()
        if out_of_memory(error):
            raise CheckpointError(
                f"{files.directory}: memory does not suffice to load it ({reason}); set "
                "engine.dtype: bfloat16 or engine.parallelize: true"
            ) from error
        if "trust_remote_code" in str(error):
            reason = (
                "its architecture is code in its folder, which is not run; convert it to one "
                "that transformers has"
            )
        raise CheckpointError(f"{files.directory}: lm-eval cannot load it: {reason}") from error


def device(settings: EngineSettings) -> str:
    """Where to compute: the option, else a GPU where there is one."""
    return str(settings.options.get("device") or ("cuda" if gpu_names() else "cpu"))


def device_class(settings: EngineSettings) -> str:
    """The device class of a unit's key: cpu, or the GPU's name."""
    kind = device(settings).partition(":")[0]
    return " + ".join(gpu_names()) or kind if kind == "cuda" else kind


def compare(model: Any, files: Files) -> str:
    """Why the weights could not be compared with the files; "" where all are equal to them.

    Raises `CheckpointError` for one that is not what its file holds.
    """
    import torch

    if files.quantised:
        return "quantised weights are not compared with the files"
    held = model.state_dict()
    unknown = [name for name in files.shapes if name not in held]
    if unknown:
        return f"transformers has no tensor {unknown[0]!r} in this architecture"
    for name, tensor in read_tensors(files):
        parameter = held[name]
        if parameter.device.type == "meta":
            return f"tensor {name!r} is kept outside memory"
        if not torch.equal(parameter.cpu(), tensor.to(parameter.dtype)):
            raise CheckpointError(
                f"{files.file_of[name]}: tensor {name!r} is not what transformers loaded of it"
            )
    return ""


def merge_adapter(model: Any, adapter: Adapter) -> None:
    """Add a LoRA adapter to a loaded model's weights, in float32 before they are rounded.

    Raises `CheckpointError` for a layer that the model has not, or of another size.
    """
    import torch

    tensors = dict(read_factors(adapter))
    turned = bool(adapter.config.get("fan_in_fan_out"))
    for module, factors in adapter.factors.items():
        try:
            weight = model.get_submodule(module).weight
        except AttributeError:
            raise CheckpointError(
                f"{adapter.weights}: tensor {factors.down!r} is for a layer that transformers "
                "does not have in this architecture: was the adapter trained on another base?"
            ) from None
        change = factors.scaling * (tensors[factors.up].float() @ tensors[factors.down].float())
        change = change.T if turned else change
        if weight.shape != change.shape:
            raise CheckpointError(
                f"{adapter.weights}: tensor {factors.down!r} changes a weight of "
                f"{list(change.shape)}, and transformers' has {list(weight.shape)}"
            )
        with torch.no_grad():
            weight.copy_(weight.float() + change.to(weight.device))


def forget_generation_config(model: Any) -> None:
    """Sampling is the protocol's: nothing of a checkpoint's generation_config.json counts."""
    from transformers import GenerationConfig

    model.generation_config = GenerationConfig()
