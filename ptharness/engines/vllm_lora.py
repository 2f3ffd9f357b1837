"""LoRA adapters in a running vLLM: looked at before, put in, compared with their files after."""

from __future__ import annotations

import itertools

from ptharness.engines import adapters
from ptharness.engines.adapter_probe import AdapterFinding, probe_adapter
from ptharness.engines.adapters import MERGE, Adapter
from ptharness.engines.preflight import Files
from ptharness.engines.vllm_running import Running, Served
from ptharness.errors import CheckpointError
from ptharness.lineage import Checkpoint
from ptharness.tokenizer import load_tokenizer

_numbers = itertools.count(1)
"""vLLM's prefix cache goes by an adapter's name, so none is ever used again."""


def inspect(checkpoint: Checkpoint, base: Files) -> Adapter | CheckpointError:
    """A checkpoint's adapter if its files are sound and fit the base, else what is wrong."""
    assert checkpoint.adapter is not None
    try:
        adapter = adapters.inspect_adapter(checkpoint.adapter)
        adapters.check_on_base(adapter, base)
        adapters.check_finite(adapter)
    except CheckpointError as error:
        return error
    return adapter


def add(running: Running, checkpoint: Checkpoint, adapter: Adapter) -> str:
    """Put an adapter into the running engine; why it is not verified, or "".

    Raises `CheckpointError` where vLLM refuses it or makes something else of it; it is then
    taken out again, and the engine stays as it was.
    """
    from vllm.lora.request import LoRARequest

    tokenizer = load_tokenizer(checkpoint.tokenizer_directory)
    number = next(_numbers)
    request = LoRARequest(f"ptharness-{number}", number, str(adapter.directory.resolve()))
    engine = running.llm.llm_engine
    try:
        engine.add_lora(request)
    except Exception as error:
        engine.remove_lora(number)
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise CheckpointError(
            f"{adapter.directory}: vLLM cannot serve it: {reason}; {MERGE}"
        ) from error
    if running.llm.get_world_size() > 1:
        running.served[checkpoint.name] = Served(tokenizer, request)
        return running.unverified
    finding: AdapterFinding = running.llm.apply_model(
        lambda model: probe_adapter(model, number, adapter)
    )[0]
    if finding.wrong:
        engine.remove_lora(number)
        raise CheckpointError(
            f"{adapter.directory}: vLLM made something else of it: {finding}; {MERGE}"
        )
    running.served[checkpoint.name] = Served(tokenizer, request)
    return f"not verified: {finding}" if finding.unknown else running.unverified


def remove_all(running: Running) -> None:
    """Take every adapter out of the engine."""
    for served in running.served.values():
        running.llm.llm_engine.remove_lora(served.adapter.lora_int_id)
    running.served = {}
