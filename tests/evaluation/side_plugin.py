"""The engine `side`: the fake one with adapters side by side, and what goes wrong with them.

It writes what it was asked into `side.log` beside the adapters' folder, one JSON list a line.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from ptharness.engines.base import EngineSettings, Generated, GenerateRequest, LoadReport
from ptharness.engines.fake import FakeEngine
from ptharness.errors import CheckpointError
from ptharness.hookspecs import hookimpl
from ptharness.lineage import Checkpoint
from ptharness.registry import Registry

OURS = ("refuse", "crash_on", "crash_together")


class SideEngine(FakeEngine):
    """Options: `refuse` and `crash_on` name an adapter; `crash_together`: loading two kills it."""

    name = "side"
    capabilities = replace(FakeEngine.capabilities, side_by_side=2)

    def __init__(self, settings: EngineSettings) -> None:
        self.ours = {name: settings.options.get(name) for name in OURS}
        rest = {k: v for k, v in settings.options.items() if k not in OURS}
        super().__init__(replace(settings, options=rest))
        self.loaded: dict[str, str] = {}

    @classmethod
    def check_options(cls, options: Any) -> None:
        FakeEngine.check_options({k: v for k, v in options.items() if k not in OURS})

    def load(self, checkpoint: Checkpoint) -> LoadReport:
        report = super().load(checkpoint)
        self.loaded = {checkpoint.name: self._digest}
        return report

    def load_adapters(
        self, checkpoints: Sequence[Checkpoint]
    ) -> Sequence[LoadReport | CheckpointError]:
        assert checkpoints[0].adapter is not None
        self.log = checkpoints[0].adapter.parent / "side.log"
        self.say("load", *(one.name for one in checkpoints))
        if self.ours["crash_together"] and len(checkpoints) > 1:
            os._exit(66)
        outcomes: list[LoadReport | CheckpointError] = []
        loaded = {}
        for one in checkpoints:
            if one.name == self.ours["refuse"]:
                outcomes.append(CheckpointError("planted refusal"))
                continue
            outcomes.append(super().load(one))
            loaded[one.name] = self._digest
        self.loaded = loaded
        return outcomes

    def generate(self, requests: Iterable[GenerateRequest]) -> Iterator[Generated]:
        for request in requests:
            self._digest = self.loaded[request.checkpoint]
            if len(self.loaded) > 1:
                self.say("ask", request.checkpoint)
            if request.checkpoint == self.ours["crash_on"]:
                os._exit(66)
            yield from super().generate([request])

    def say(self, *words: str) -> None:
        with self.log.open("a") as file:
            file.write(json.dumps(words) + "\n")


class PlainEngine(FakeEngine):
    """Serves no adapters."""

    name = "plain"
    capabilities = replace(FakeEngine.capabilities, adapters=False)


@hookimpl
def ptharness_register_engines(registry: Registry) -> None:
    registry.engines.add(SideEngine)
    registry.engines.add(PlainEngine)
