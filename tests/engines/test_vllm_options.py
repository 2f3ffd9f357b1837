"""Options of the vllm engine: foreign code is refused, and checking imports no vLLM."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ptharness.engines import vllm_options
from ptharness.engines.base import EngineSettings
from ptharness.engines.vllm import VllmEngine
from ptharness.errors import EngineError


@pytest.mark.parametrize(
    "name",
    [
        "trust_remote_code", "load_format", "worker_cls", "worker_extension_cls",
        "logits_processors", "hf_overrides", "model", "tokenizer", "plugins", "tokenizer_mode",
        "model_impl", "code_revision", "scheduler_cls", "reasoning_parser_plugin",
        "io_processor_plugin", "kv_transfer_config", "speculative_config", "compilation_config",
        "log_config_file", "override_generation_config", "seed",
    ],
)  # fmt: skip
def test_refused_with_a_reason(name: str) -> None:
    with pytest.raises(EngineError, match=rf"engine\.{name}: refused: \w+"):
        VllmEngine.check_options({name: True})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtyp": "float32"}, "did you mean 'dtype'"),
        ({"dtype": "float64"}, "legal: auto, float32, bfloat16, float16"),
        ({"max_model_len": "long"}, "not a value of type int"),
        ({"max_num_seqs": True}, "not a value of type int"),
        ({"window": 0}, "the least is 1"),
        ({"gpu_memory_utilization": -0.1}, "negative"),
        ({"distributed_executor_backend": "my.own.Executor"}, "legal: mp, ray, uni"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        VllmEngine.check_options(options)


def test_usual_options_pass() -> None:
    VllmEngine.check_options(
        {"dtype": "bfloat16", "gpu_memory_utilization": 1, "tensor_parallel_size": 2, "window": 9}
    )


@pytest.mark.vllm
def test_every_allowed_option_is_vllms_and_every_other_is_refused_or_unknown() -> None:
    arguments = pytest.importorskip("vllm.engine.arg_utils")
    fields = set(arguments.EngineArgs.__dataclass_fields__)
    assert set(vllm_options.ALLOWED) - {"window"} <= fields
    assert not set(vllm_options.ALLOWED) & set(vllm_options.REFUSED)


def test_the_identity_needs_no_vllm() -> None:
    code = (
        "import sys\n"
        "from ptharness.engines.base import EngineSettings\n"
        "from ptharness.engines.vllm import VllmEngine\n"
        "print(dict(VllmEngine.identity(EngineSettings('vllm', {'dtype': 'float32'}))))\n"
        "assert not {'vllm', 'torch', 'transformers'} & set(sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if "vLLM is not installed" in result.stderr:
        pytest.skip("vLLM is not installed")
    assert result.returncode == 0, result.stderr
    assert "'dtype': 'float32'" in result.stdout
    assert "max_model_len" not in result.stdout


def test_only_a_length_that_was_asked_for_is_part_of_the_identity() -> None:
    try:
        plain = VllmEngine.identity(EngineSettings("vllm", {}, needed_tokens=100))
    except EngineError:
        pytest.skip("vLLM is not installed")
    asked = VllmEngine.identity(EngineSettings("vllm", {"max_model_len": 128}))
    assert dict(asked) == {**plain, "max_model_len": "128"}
