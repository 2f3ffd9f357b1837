"""What a plugin's author needs to test a plugin: the contract of a method, and folders to try.

    import my_plugin
    from ptharness.testing import MethodContract

    class TestMine(MethodContract):
        method = my_plugin.Mine()
        plugin = my_plugin

pytest then runs every clause of the contract as a test of its own. ptharness's own methods pass
the same suite.
"""

from __future__ import annotations

try:
    import pytest
except ImportError as error:
    raise ImportError("ptharness.testing needs pytest: `pip install 'pytest>=8.3'`") from error

# Before the import below: a bare `assert` in the suite then explains itself.
pytest.register_assert_rewrite("ptharness.testing.contract", "ptharness.testing.checks")

from ptharness.testing.contract import MethodContract  # noqa: E402
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

__all__ = [
    "DISTILLATION_KEYS",
    "DPO_KEYS",
    "GKD_KEYS",
    "GRPO_KEYS",
    "SFT_KEYS",
    "MethodContract",
    "leave_adapter_config",
    "leave_card",
    "leave_trainer_state",
    "leave_training_arguments",
    "write_checkpoint",
    "write_safetensors",
]
