"""An engine under test: what its author says of it, and one running instance for all clauses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest

from ptharness.engines.base import Engine, EngineSettings, LoadReport
from ptharness.errors import EngineError
from ptharness.lineage import Checkpoint
from ptharness.testing.engine_checks import GREEDY, NEEDED_TOKENS, Asker, Said
from ptharness.testing.tiny_models import write_adapter, write_model


class Running:
    """An instance of an engine, made anew after it was closed, and the checkpoints for it."""

    def __init__(
        self,
        engine: type[Engine],
        settings: EngineSettings,
        folders: Mapping[str, Path],
        stops: tuple[int, ...],
    ) -> None:
        self.folders = folders
        self._class, self._settings, self._stops = engine, settings, stops
        self.engine = engine(settings)
        self._closed = False

    @property
    def asker(self) -> Asker:
        """Asks what is loaded."""
        return Asker(self.engine, self._stops)

    def load(self, name: str) -> LoadReport:
        """Load `one` or `two`; what is reported."""
        return self.load_folder(self.folders[name])

    def load_folder(self, folder: Path, adapter: Path | None = None) -> LoadReport:
        """Load a folder, or an adapter on it, as a checkpoint of its name; what is reported."""
        if self._closed:
            self.engine, self._closed = self._class(self._settings), False
        named = adapter or folder
        return self.engine.load(Checkpoint(named.name, folder, str(named), adapter))

    def answers(self) -> dict[int, Said]:
        """What the loaded checkpoint says, greedily."""
        return self.asker.say(GREEDY, samples=1)

    def answers_of(self, name: str) -> dict[int, Said]:
        """What `one` or `two` says, greedily, after a load."""
        self.load(name)
        return self.answers()

    def close(self) -> None:
        """Close the instance."""
        self.engine.close()
        self._closed = True


class EngineUnderTest:
    """What the clauses of an engine's contract stand on."""

    engine: ClassVar[type[Engine]]
    """The engine's class."""

    plugin: ClassVar[ModuleType]
    """The module whose `ptharness_register_engines` adds it."""

    options: ClassVar[Mapping[str, Any]] = {}
    """Options to test it with; a small `window`, if it has one, makes the tests quick."""

    free_options: ClassVar[tuple[str, ...]] = ()
    """Those of `options` that take any value. All others must refuse a mapping."""

    stop_token_ids: ClassVar[tuple[int, ...]] = (2,)
    """Tokens that end a completion now and then, but not always."""

    def write_checkpoints(self, first: Path, second: Path) -> None:
        """Write two checkpoints of one architecture with other weights into these new folders.

        Unless overridden, tiny random models, which needs torch and `transformers`.
        """
        write_model(first, seed=1)
        write_model(second, seed=2)

    def write_adapter(self, folder: Path, base: Path, seed: int) -> None:
        """Write a LoRA adapter on a checkpoint of `write_checkpoints` into this new folder.

        Asked for only where `capabilities.adapters` promise it.
        """
        write_adapter(folder, base, seed=seed)

    def break_checkpoint(self, folder: Path) -> None:
        """Spoil a checkpoint so that it cannot be loaded; here, half of a weight file is cut."""
        path = next(folder.glob("*.safetensors"))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    @pytest.fixture(scope="class")
    @classmethod
    def running(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
        """One instance for all clauses, and the two checkpoints `one` and `two`."""
        parent = tmp_path_factory.mktemp("checkpoints")
        folders = {name: parent / name for name in ("one", "two")}
        cls().write_checkpoints(folders["one"], folders["two"])
        cls.engine.preload()
        running = Running(cls.engine, cls._settings(), folders, cls.stop_token_ids)
        yield running
        running.close()

    @pytest.fixture
    def one(self, running: Running) -> Asker:
        """Asks the checkpoint `one`."""
        running.load("one")
        return running.asker

    @classmethod
    def _settings(cls) -> EngineSettings:
        return EngineSettings(cls.engine.name, dict(cls.options), needed_tokens=NEEDED_TOKENS)

    def _check_refused(self, option: str, value: object) -> None:
        with pytest.raises(EngineError) as caught:
            self.engine.check_options({**self.options, option: value})
        assert option in str(caught.value), f"the error does not name {option}: {caught.value}"

    def _skip_unless_reproducible(self, one: Asker) -> None:
        if not one.engine.capabilities.reproducible:
            pytest.skip("it does not promise to be reproducible")

    def _skip_unless_tokens(self, one: Asker) -> None:
        if not one.engine.capabilities.tokens:
            pytest.skip("it gives text without tokens")

    def _skip_unless_scores(self, one: Asker) -> None:
        if not one.engine.capabilities.scores:
            pytest.skip("it gives no log-likelihoods")
