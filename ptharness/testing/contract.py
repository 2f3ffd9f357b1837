"""The contract of a method plugin, as a class of tests for its author to subclass.

A clause is a test. Its message says what is wrong and what to do, so that it can be read without
this file. Where methods may rightly differ, a subclass says so by setting an attribute.
"""

from __future__ import annotations

import copy
import inspect
import json
import re
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import pytest

from ptharness.cli import main
from ptharness.errors import ManifestError
from ptharness.manifest import NAME_PATTERN, MethodEntry
from ptharness.method_problems import is_line
from ptharness.methods import Evidence, Method, StageSettings, told_by_detect
from ptharness.testing.checks import (
    check_declaration,
    check_evidence,
    detect_in_time,
    framework_folders,
    is_loaded,
    names_of,
    odd_stages,
    snapshot,
    stages,
    try_to_declare,
    with_plugin,
)
from ptharness.testing.hostile import OCCASIONS, USUAL_FILES, Place


class MethodContract:
    """Subclass it, name the subclass `Test...`, and set `method` and `plugin`."""

    method: ClassVar[Method]
    """The method, made as its plugin makes it."""

    plugin: ClassVar[ModuleType]
    """The module whose `ptharness_register_methods` adds it."""

    free_options: ClassVar[Mapping[str, tuple[type, ...]]] = {}
    """Options that take any value of a type: `{"beta": (float,)}`. All others must refuse
    what they do not know."""

    reads: ClassVar[tuple[str, ...]] = ()
    """Files that `detect` reads beside those that frameworks usually leave."""

    most_seconds: ClassVar[float] = 10.0
    """How long one look into one folder may compute; usually it is milliseconds."""

    def leave(self, folder: Path) -> None:
        """Write into `folder` what training leaves. Override it where `detect` is written."""

    # --- what it is called --------------------------------------------------------------------

    def test_it_is_a_method_with_a_title(self) -> None:
        assert isinstance(self.method, Method), (
            f"{self.method!r} is no instance of ptharness.methods.Method"
        )
        title = getattr(self.method, "title", None)
        assert is_line(title), f"the title is {title!r}; give it a line of text"

    def test_its_names_are_legal_and_differ(self) -> None:
        names = names_of(self.method)
        for name in names:
            assert isinstance(name, str), f"the name {name!r} is no text"
            assert re.fullmatch(NAME_PATTERN, name), (
                f"no manifest can name {name!r}: letters, digits, '.', '-', '_', not leading"
            )
            assert len(name) <= 100, f"{name!r} has more than 100 characters"
        twice = [name for name, count in Counter(names).items() if count > 1]
        assert not twice, f"{', '.join(twice)} occurs twice among the name and the aliases"

    def test_its_options_reach_it(self) -> None:
        taken = [option for option in self.method.options if option in MethodEntry.model_fields]
        assert not taken, f"the manifest itself takes the keys {taken}; rename these options"

    def test_its_options_are_documented(self) -> None:
        described = inspect.getdoc(type(self.method)) or ""
        missing = [option for option in self.method.options if f"`{option}`" not in described]
        assert not missing, (
            f"the docstring of {type(self.method).__name__}, which `ptharness methods NAME` "
            f"prints, does not explain {', '.join(f'`{option}`' for option in missing)}"
        )

    def test_its_look_is_documented(self) -> None:
        looks = type(self.method).detect is not Method.detect
        assert told_by_detect(self.method) or not looks, (
            f"{type(self.method).__name__}.detect has no docstring; `ptharness methods NAME` "
            "prints it as what the method is recognised by"
        )

    # --- what it declares ---------------------------------------------------------------------

    def test_every_name_declares(self) -> None:
        for stage in stages(self.method):
            check_declaration(self.method.declare(stage), stage.method)

    def test_equal_settings_are_declared_equally(self) -> None:
        for stage in stages(self.method):
            first = self.method.declare(copy.deepcopy(stage))
            again = self.method.declare(copy.deepcopy(stage))
            assert first == again, f"two declarations of {stage} differ: {first}, {again}"

    def test_settings_are_left_alone(self) -> None:
        for stage in [*stages(self.method), *odd_stages(self.method)]:
            before = copy.deepcopy(stage)
            try_to_declare(self.method, stage)
            assert stage == before, f"declare changed its settings: {before} became {stage}"

    def test_an_unknown_value_of_an_option_is_a_manifest_error(self) -> None:
        for stage in odd_stages(self.method):
            [(option, value)] = stage.options.items()
            error = try_to_declare(self.method, stage)
            if isinstance(value, self.free_options.get(option, ())) and error is None:
                continue
            where = f"option {option!r} of {stage.method!r} with the value {value!r}"
            assert error is not None, (
                f"{where} was accepted; raise ManifestError, or list it in `free_options`"
            )
            assert isinstance(error, ManifestError), f"{where} raised {error!r}, no ManifestError"
            assert option in str(error), f"{where}: the error does not name it: {error}"

    # --- what it detects ----------------------------------------------------------------------

    def test_an_empty_folder_is_no_evidence(self, tmp_path: Path) -> None:
        found = self._look(tmp_path)
        assert found is None, f"an empty folder gave {found}"

    def test_a_missing_folder_is_no_evidence(self, tmp_path: Path) -> None:
        found = self._look(tmp_path / "missing")
        assert found is None, f"a folder that does not exist gave {found}"

    @pytest.mark.parametrize("occasion", OCCASIONS)
    def test_a_hostile_folder_is_survived(self, occasion: str, tmp_path: Path) -> None:
        place = Place(tmp_path / "folder", (*USUAL_FILES, *self.reads), tmp_path / "proof")
        place.folder.mkdir()
        OCCASIONS[occasion](place)
        self._look(place.folder)
        assert not place.proof.exists(), "detect ran code that lay in the folder"
        shutil.rmtree(place.folder)  # pytest would keep its thousands of files for three runs

    def test_evidence_is_well_formed(self, tmp_path: Path) -> None:
        for folder in framework_folders(self.method, tmp_path):
            self._look(folder)

    def test_what_its_training_leaves_is_recognised(self, tmp_path: Path) -> None:
        self.leave(tmp_path)
        if any(tmp_path.iterdir()):
            assert self._look(tmp_path) is not None, "detect finds nothing in what `leave` wrote"

    # --- how it is registered -----------------------------------------------------------------

    def test_its_plugin_registers_it(self) -> None:
        methods = with_plugin(self.plugin).registry(["methods"]).methods
        for name in names_of(self.method):
            assert name in methods, f"{self.plugin.__name__} does not register {name!r}"
            registered = methods.get(name)
            assert type(registered) is type(self.method), (
                f"{name!r} is registered as {registered!r}, not as {self.method!r}"
            )

    def test_the_command_line_explains_it(self, capsys: pytest.CaptureFixture[str]) -> None:
        options = [] if is_loaded(self.plugin) else ["--plugin", self.plugin.__name__]
        for name in names_of(self.method):
            command = [*options, "methods", name]
            assert main(command) == 0, capsys.readouterr().err
            assert self.method.title in capsys.readouterr().out
            assert main([*command, "--json"]) == 0, capsys.readouterr().err
            declared = self.method.declare(StageSettings(name))
            assert json.loads(capsys.readouterr().out)["reason"] == declared.reason

    def _look(self, folder: Path) -> Evidence | None:
        """What `detect` finds, checked: in time, no exception, nothing written, well formed."""
        before = snapshot(folder)
        found = detect_in_time(self.method, folder, self.most_seconds)
        changed = before.items() ^ snapshot(folder).items()
        assert not changed, f"detect wrote into the folder: {sorted({path for path, _ in changed})}"
        if found is not None:
            check_evidence(found, self.method)
        return found
