"""Every registered engine passes the contract that authors are given."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from ptharness import builtin
from ptharness.engines.fake import FakeEngine
from ptharness.engines.lm_eval_hf import HfEngine
from ptharness.engines.lm_eval_names import other_classes
from ptharness.engines.vllm import VllmEngine
from ptharness.plugins import load_plugins
from ptharness.testing import (
    EngineContract,
    leave_adapter_config,
    write_checkpoint,
    write_safetensors,
)


class TestFake(EngineContract):
    engine = FakeEngine
    plugin = builtin
    options: ClassVar = {"answer": "42", "success": 0.1}

    def write_checkpoints(self, first: Path, second: Path) -> None:
        for value, folder in enumerate((first, second)):
            made = write_checkpoint(folder, vocab_size=128)
            write_safetensors(made / "model.safetensors", float(value))

    def write_adapter(self, folder: Path, base: Path, seed: int) -> None:
        leave_adapter_config(folder, str(base))


class TestHf(EngineContract):
    engine = HfEngine
    plugin = builtin
    options: ClassVar = {"dtype": "float32", "device": "cpu", "batch_size": 8, "window": 8}

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _installed(cls) -> None:
        pytest.importorskip("lm_eval")
        pytest.importorskip("accelerate")


@pytest.mark.vllm
class TestVllm(EngineContract):
    engine = VllmEngine
    plugin = builtin
    options: ClassVar = {"dtype": "float32", "window": 8}

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _installed(cls) -> None:
        pytest.importorskip("vllm")


def test_all_engines_are_under_contract() -> None:
    registered = {entry.name for entry in load_plugins().registry(["engines"]).engines}
    # Those need a server, or libraries that are not installed; tests/engines asks them.
    elsewhere = {known.engine for known in other_classes()}
    assert registered - elsewhere == {
        TestFake.engine.name,
        TestHf.engine.name,
        TestVllm.engine.name,
    }
