"""Methods that break one clause of the contract each, and two that keep it.

tests/test_testing.py runs the suite over them and checks which tests fail.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import pickle
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from ptharness.errors import ManifestError
from ptharness.hookspecs import hookimpl
from ptharness.leftovers import read_leftovers
from ptharness.methods import Declaration, Evidence, Method, StageSettings
from ptharness.taxonomy import Interface, Provenance, Role
from ptharness.testing import MethodContract, leave_card

REASON = "it chooses among answers that the learner gives anyway"
TURNS = itertools.count()


def declaration(**changes: Any) -> Declaration:
    whole = {
        "provenance": Provenance.ON_POLICY,
        "interface": Interface.REWARDS,
        "roles": (Role.POLICY_RESHAPING,),
        "reason": REASON,
        "sources": ("our internal note 17",),
    }
    return Declaration(**(whole | changes))


class Sound(Method):
    """Keeps every clause. Options: `pace` (slow, fast): how fast it goes."""

    name = "sound"
    title = "Sound training"
    aliases = ("sound_short",)
    options = ("pace",)

    def declare(self, stage: StageSettings) -> Declaration:
        if stage.options.get("pace", "slow") not in ("slow", "fast"):
            raise ManifestError(f"option 'pace' is {stage.options['pace']!r}; legal: slow, fast")
        return declaration()

    def detect(self, directory: Path) -> Evidence | None:
        """A card of TRL that is tagged `sound`."""
        tagged = {"sound", "trl"} <= read_leftovers(directory).tags
        return Evidence("sound_short", 0.9, "README.md is tagged sound") if tagged else None


class FreeNumber(Sound):
    """Takes any number. Options: `beta`: how much it counts."""

    options = ("beta",)

    def declare(self, stage: StageSettings) -> Declaration:
        if not isinstance(stage.options.get("beta", 0.1), float):
            raise ManifestError(f"option 'beta' is {stage.options['beta']!r}; give a number")
        return declaration()


class TitleOfTwoLines(Sound):
    __doc__ = Sound.__doc__
    title = "Sound training\nand more"


class IllegalAlias(Sound):
    __doc__ = Sound.__doc__
    aliases = ("sound_short", "../sound")


class NameTwice(Sound):
    __doc__ = Sound.__doc__
    aliases = ("sound_short", "other", "other")


class ReservedOption(Sound):
    """Options: `pace` and `role`."""

    options = ("pace", "role")

    def declare(self, stage: StageSettings) -> Declaration:
        if "role" in stage.options:
            raise ManifestError("option 'role' is none of ours")
        return super().declare(stage)


class SilentOption(Sound):
    """Says nothing of its pace."""


class NoSources(Sound):
    __doc__ = Sound.__doc__

    def declare(self, stage: StageSettings) -> Declaration:
        super().declare(stage)
        return declaration(sources=())


class ShortReason(Sound):
    __doc__ = Sound.__doc__

    def declare(self, stage: StageSettings) -> Declaration:
        super().declare(stage)
        return declaration(reason="it just does")


class StringsForEnums(Sound):
    __doc__ = Sound.__doc__

    def declare(self, stage: StageSettings) -> Declaration:
        super().declare(stage)
        return declaration(provenance="on_policy")


class NoRoles(Sound):
    __doc__ = Sound.__doc__

    def declare(self, stage: StageSettings) -> Declaration:
        super().declare(stage)
        return declaration(roles=())


class BrokenAlias(Sound):
    __doc__ = Sound.__doc__

    def declare(self, stage: StageSettings) -> Declaration:
        super().declare(stage)
        return {"sound": declaration()}[stage.method]


class Moody(Sound):
    __doc__ = Sound.__doc__

    def declare(self, stage: StageSettings) -> Declaration:
        super().declare(stage)
        return declaration(reason=f"{REASON}, asked {next(TURNS)} times before")


class ChangesSettings(Sound):
    __doc__ = Sound.__doc__

    def declare(self, stage: StageSettings) -> Declaration:
        stage.options.setdefault("pace", "slow")  # type: ignore[attr-defined]
        return super().declare(stage)


class TakesAnything(Sound):
    __doc__ = Sound.__doc__

    def declare(self, stage: StageSettings) -> Declaration:
        return declaration()


class RaisesKeyError(Sound):
    __doc__ = Sound.__doc__

    def declare(self, stage: StageSettings) -> Declaration:
        return {"slow": declaration()}[stage.options.get("pace", "slow")]


class ErrorWithoutOption(Sound):
    __doc__ = Sound.__doc__

    def declare(self, stage: StageSettings) -> Declaration:
        if "pace" in stage.options:
            raise ManifestError("something is wrong")
        return declaration()


class ClaimsEverything(Sound):
    __doc__ = Sound.__doc__

    def detect(self, directory: Path) -> Evidence | None:
        return Evidence(self.name, 0.1, "it is a folder")


class ListsMissingFolder(Sound):
    __doc__ = Sound.__doc__

    def detect(self, directory: Path) -> Evidence | None:
        sorted(directory.iterdir())
        return super().detect(directory)


class ClaimsForOthers(Sound):
    __doc__ = Sound.__doc__

    def detect(self, directory: Path) -> Evidence | None:
        found = super().detect(directory)
        return found and Evidence("sft", 0.9, found.found)


class TooStrong(Sound):
    __doc__ = Sound.__doc__

    def detect(self, directory: Path) -> Evidence | None:
        found = super().detect(directory)
        return found and Evidence(self.name, 90, found.found)


class ChattyEvidence(Sound):
    __doc__ = Sound.__doc__

    def detect(self, directory: Path) -> Evidence | None:
        found = super().detect(directory)
        return found and Evidence(self.name, 0.9, "a card\nand a tag")


class SaysTrue(Sound):
    __doc__ = Sound.__doc__

    def detect(self, directory: Path) -> Any:
        return super().detect(directory) is not None or None


class SeesNothing(Sound):
    __doc__ = Sound.__doc__

    def detect(self, directory: Path) -> Evidence | None:
        return None


class SilentLook(Sound):
    __doc__ = Sound.__doc__

    def detect(self, directory: Path) -> Evidence | None:
        return super().detect(directory)

    detect.__doc__ = Method.detect.__doc__


class Unregistered(Sound):
    __doc__ = Sound.__doc__


class ReadsNaively(Sound):
    __doc__ = Sound.__doc__

    def detect(self, directory: Path) -> Evidence | None:
        if (directory / "trainer_state.json").exists():
            json.loads((directory / "trainer_state.json").read_text())["log_history"][0]["loss"]
        return super().detect(directory)


class ReadsUnsafeYaml(Sound):
    __doc__ = Sound.__doc__

    def detect(self, directory: Path) -> Evidence | None:
        path = directory / "README.md"
        if path.is_file():
            try:
                yaml.unsafe_load(path.read_bytes().decode().split("---\n")[1])
            except Exception:
                return None
        return super().detect(directory)


class Unpickles(Sound):
    __doc__ = Sound.__doc__

    def detect(self, directory: Path) -> Evidence | None:
        try:
            with zipfile.ZipFile(directory / "training_args.bin") as archive:
                pickle.loads(archive.read("archive/data.pkl"))
        except Exception:
            return None
        return super().detect(directory)


class Imports(Sound):
    __doc__ = Sound.__doc__

    def detect(self, directory: Path) -> Evidence | None:
        path = directory / "configuration_stage.py"
        if path.is_file():
            spec = importlib.util.spec_from_file_location("configuration_stage", path)
            assert spec is not None
            assert spec.loader is not None
            spec.loader.exec_module(importlib.util.module_from_spec(spec))
        return super().detect(directory)


class FollowsLinks(Sound):
    __doc__ = Sound.__doc__

    def detect(self, directory: Path) -> Evidence | None:
        if (directory / "config.json").is_symlink():
            (directory / "config.json").stat()
        return super().detect(directory)


class Dawdles(Sound):
    __doc__ = Sound.__doc__

    def detect(self, directory: Path) -> Evidence | None:
        if directory.is_dir():
            sum(number for _ in directory.iterdir() for number in range(25_000))
        return super().detect(directory)


class LeavesNotes(Sound):
    __doc__ = Sound.__doc__

    def detect(self, directory: Path) -> Evidence | None:
        if (directory / "file-1").exists():
            (directory / "seen.txt").touch()
        return super().detect(directory)


class ReadsItsOwnFileNaively(Sound):
    __doc__ = Sound.__doc__

    def detect(self, directory: Path) -> Evidence | None:
        if (directory / "own.json").exists():
            json.loads((directory / "own.json").read_bytes())
        return super().detect(directory)


def plugin_of(method: Method, *, registers: bool) -> ModuleType:
    """A module that can be imported by its name and adds this method, or does nothing."""
    module = ModuleType(f"plugin_of_{type(method).__name__}")

    @hookimpl
    def ptharness_register_methods(registry: Any) -> None:
        if registers:
            registry.methods.add(method)

    module.ptharness_register_methods = ptharness_register_methods  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    return module


class SuiteOfBroken(MethodContract):
    """The contract as an author sets it up; it must be over within seconds."""

    most_seconds = 2.0
    reads = ("own.json",)
    free_options = {"beta": (float,)}  # noqa: RUF012

    def leave(self, folder: Path) -> None:
        leave_card(folder, "sound")


for broken in [Sound, *Sound.__subclasses__()]:
    attributes = {
        "method": broken(),
        "plugin": plugin_of(broken(), registers=broken is not Unregistered),
    }
    globals()[f"Test{broken.__name__}"] = type(
        f"Test{broken.__name__}", (SuiteOfBroken,), attributes
    )
