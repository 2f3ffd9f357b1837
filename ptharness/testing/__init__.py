"""What a plugin's author needs to test a plugin: contracts, and checkpoints to try it on.

    import my_plugin
    from ptharness.testing import MethodContract

    class TestMine(MethodContract):
        method = my_plugin.Mine()
        plugin = my_plugin

pytest then runs every clause of the contract as a test of its own. `EngineContract` is the same for
an engine, `TaskContract` for a task. ptharness's own pass these suites.
"""

from __future__ import annotations

try:
    import pytest
except ImportError as error:
    raise ImportError("ptharness.testing needs pytest: `pip install 'pytest>=8.3'`") from error

# Before the import below: a bare `assert` in the suite then explains itself.
pytest.register_assert_rewrite(
    *(
        f"ptharness.testing.{name}"
        for name in (
            *("contract", "checks"),
            *("engine_contract", "engine_answers", "engine_checks", "engine_running"),
            *("task_contract", "task_checks"),
        )
    )
)

from ptharness.testing.contract import MethodContract  # noqa: E402
from ptharness.testing.engine_contract import EngineContract  # noqa: E402
from ptharness.testing.folders import (  # noqa: E402
    DISTILLATION_KEYS,
    DPO_KEYS,
    GKD_KEYS,
    GRPO_KEYS,
    SFT_KEYS,
    leave_adapter_config,
    leave_card,
    leave_trainer_state,
    leave_training_arguments,
    write_checkpoint,
    write_safetensors,
)
from ptharness.testing.task_contract import TaskContract  # noqa: E402
from ptharness.testing.tiny_models import (  # noqa: E402
    edit_tensors,
    write_adapter,
    write_model,
    write_tokenizer,
)

__all__ = [
    "DISTILLATION_KEYS",
    "DPO_KEYS",
    "GKD_KEYS",
    "GRPO_KEYS",
    "SFT_KEYS",
    "EngineContract",
    "MethodContract",
    "TaskContract",
    "edit_tensors",
    "leave_adapter_config",
    "leave_card",
    "leave_trainer_state",
    "leave_training_arguments",
    "write_adapter",
    "write_checkpoint",
    "write_model",
    "write_safetensors",
    "write_tokenizer",
]
