"""The contract of an engine, as a class of tests for its author to subclass.

A clause is a test, asked only where the engine's `capabilities` promise it. One instance of the
engine answers them all, so that it is started once.
"""

from __future__ import annotations

import json
import pickle
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from ptharness.cli import main
from ptharness.engines.base import Capabilities, Engine
from ptharness.errors import CheckpointError, EngineError
from ptharness.method_problems import is_line
from ptharness.testing.checks import is_loaded, with_plugin
from ptharness.testing.engine_answers import AnswerClauses
from ptharness.testing.engine_checks import (
    GREEDY,
    NEEDED_TOKENS,
    Asker,
    answers_to,
    imported_for_identity,
)
from ptharness.testing.engine_running import Running


class EngineContract(AnswerClauses):
    """Subclass it, name the subclass `Test...`, and set `engine` and `plugin`."""

    # --- before anything runs -----------------------------------------------------------------

    def test_it_is_an_engine_with_a_name(self) -> None:
        assert isinstance(self.engine, type), f"{self.engine!r} is no class"
        assert issubclass(self.engine, Engine), f"{self.engine!r} is no subclass of Engine"
        assert is_line(self.engine.name), f"the name is {self.engine.name!r}; give it a line"
        assert isinstance(self.engine.capabilities, Capabilities)
        assert self.engine.capabilities.window >= 1

    def test_its_options_are_accepted(self) -> None:
        self.engine.check_options(self.options)

    def test_an_unknown_option_is_refused(self) -> None:
        self._check_refused("no_such_option", 1)

    def test_a_value_of_another_kind_is_refused(self) -> None:
        for option in self.options:
            if option not in self.free_options:
                self._check_refused(option, {"no": "such"})

    def test_its_identity_is_plain(self) -> None:
        identity = dict(self.engine.identity(self._settings()))
        assert identity.get("engine") == self.engine.name, (
            f"{identity}: a unit's key must tell engines apart; give the name under 'engine'"
        )
        for name, value in identity.items():
            assert isinstance(value, str), f"{name!r}: {value!r} in the identity is no text"
        assert json.loads(json.dumps(identity)) == identity

    def test_its_identity_is_the_same_each_time(self) -> None:
        first = dict(self.engine.identity(self._settings()))
        assert dict(self.engine.identity(self._settings())) == first
        longer = replace(self._settings(), needed_tokens=10 * NEEDED_TOKENS)
        assert dict(self.engine.identity(longer)) == first, (
            "the identity depends on needed_tokens, so that every change of the plan would "
            "generate everything anew"
        )

    def test_its_identity_imports_nothing_heavy(self) -> None:
        found = imported_for_identity(self.engine, json.dumps(dict(self.options)))
        assert found == "[]", (
            f"importing the engine and asking for its identity imports {found}; import heavy "
            "libraries inside load, or preload"
        )

    def test_it_can_be_sent_to_a_worker(self) -> None:
        assert pickle.loads(pickle.dumps(self.engine)) is self.engine, (
            "the class cannot be pickled to a worker process; define it at the top of a module"
        )

    def test_its_plugin_registers_it(self) -> None:
        engines = with_plugin(self.plugin).registry(["engines"]).engines
        assert self.engine.name in engines, (
            f"{self.plugin.__name__} does not register {self.engine.name!r}"
        )
        assert engines.get(self.engine.name) is self.engine

    def test_the_command_line_lists_it(self, capsys: pytest.CaptureFixture[str]) -> None:
        options = [] if is_loaded(self.plugin) else ["--plugin", self.plugin.__name__]
        assert main([*options, "engines", "--json"]) == 0
        listed = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
        assert listed.get(self.engine.name, {}).get("summary"), (
            f"`ptharness engines` has no line for {self.engine.name!r}; give add(summary=...) or "
            "the class a docstring"
        )

    # --- loading ------------------------------------------------------------------------------

    def test_nothing_is_answered_before_a_load(self) -> None:
        engine = self.engine(self._settings())
        with pytest.raises(EngineError):
            answers_to(engine, Asker(engine, self.stop_token_ids).requests(GREEDY))
        engine.close()

    def test_a_load_is_reported(self, running: Running) -> None:
        report = running.load("one")
        assert report.checkpoint == "one", f"the report is on {report.checkpoint!r}, not on 'one'"
        assert report.how in ("cold", "swap"), f"{report.how!r} is neither cold nor swap"
        assert report.seconds >= 0
        assert report.verified or report.reason, "a load that is not verified must say why"

    def test_each_checkpoint_gives_its_own_answers(self, running: Running) -> None:
        """No weights of before stay, neither in the engine nor in what it remembers."""
        first = running.answers_of("one")
        second = running.answers_of("two")
        assert first != second, "two checkpoints with other weights answer alike"
        assert running.answers_of("one") == first, "the answers after a load back are others"

    def test_a_swap_is_one(self, running: Running) -> None:
        if not self.engine.capabilities.swaps:
            pytest.skip("it does not promise swaps")
        running.load("one")
        report = running.load("two")
        assert report.how == "swap", (
            f"capabilities.swaps, and yet the load was {report.how}: {report.reason}"
        )

    def test_new_files_under_an_old_path_are_read(self, running: Running, tmp_path: Path) -> None:
        expected = running.answers_of("two")
        moving = Path(shutil.copytree(running.folders["one"], tmp_path / "moving"))
        running.load_folder(moving)
        for path in running.folders["two"].iterdir():
            shutil.copy(path, moving / path.name)
        running.load_folder(moving)
        assert running.answers() == expected, "the answers are those of the files of before"

    def test_a_broken_checkpoint_is_named(self, running: Running, tmp_path: Path) -> None:
        broken = Path(shutil.copytree(running.folders["two"], tmp_path / "broken"))
        self.break_checkpoint(broken)
        running.load("one")
        with pytest.raises(CheckpointError) as caught:
            running.load_folder(broken)
        assert "broken" in str(caught.value), f"the error does not name it: {caught.value}"

    def test_a_broken_checkpoint_spoils_no_other(self, running: Running, tmp_path: Path) -> None:
        expected = running.answers_of("two")
        broken = Path(shutil.copytree(running.folders["one"], tmp_path / "broken"))
        self.break_checkpoint(broken)
        with suppress(CheckpointError):
            running.load_folder(broken)
        assert running.answers_of("two") == expected

    def test_each_adapter_gives_its_own_answers(self, running: Running, tmp_path: Path) -> None:
        if not self.engine.capabilities.adapters:
            pytest.skip("it does not promise to serve adapters")
        base = running.folders["one"]
        said = [running.answers_of("one")]
        for seed, name in ((1, "first"), (2, "second")):
            self.write_adapter(tmp_path / name, base, seed)
            report = running.load_folder(base, tmp_path / name)
            assert report.how == "adapter", f"an adapter's load is reported as {report.how}"
            said.append(running.answers())
        assert said[0] not in said[1:], "an adapter changes nothing"
        assert said[1] != said[2], "two adapters answer alike"
        assert running.answers_of("one") == said[0], "an adapter is still there in its base"

    # --- the end ------------------------------------------------------------------------------

    def test_it_can_be_closed_twice(self, running: Running) -> None:
        running.close()
        running.engine.close()
