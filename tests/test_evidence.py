from __future__ import annotations

from pathlib import Path

import pytest

from ptharness.errors import PluginError, PtharnessError
from ptharness.evidence import gather_evidence, same_family, strongest
from ptharness.methods import Declaration, Evidence, Method, StageSettings
from ptharness.registry import Catalogue, Origin, Registry
from ptharness.taxonomy import Interface, Provenance, Role


class Claiming(Method):
    """Claims every folder with the given strength."""

    title = "claims"

    def __init__(self, name: str, strength: float, *aliases: str) -> None:
        self.name, self.strength, self.aliases = name, strength, aliases  # type: ignore[misc]

    def declare(self, stage: StageSettings) -> Declaration:
        return Declaration(Provenance.MIXED, Interface.REWARDS, (Role.CONSOLIDATION,), "")

    def detect(self, directory: Path) -> Evidence | None:
        if self.strength < 0:
            raise ValueError("no luck")
        if self.strength > 1:
            return "a string"  # type: ignore[return-value]
        return Evidence(self.name, self.strength, f"a {self.name} file") if self.strength else None


def catalogue(*methods: Claiming) -> Catalogue[Method]:
    registry = Registry(origin=Origin("test", "test-dist"))
    for method in methods:
        registry.methods.add(method)
    return registry.methods


def test_evidence_is_ranked() -> None:
    methods = catalogue(Claiming("weak", 0.2), Claiming("strong", 0.9), Claiming("none", 0))
    found = gather_evidence(Path(), methods)
    assert [evidence.method for evidence in found] == ["strong", "weak"]
    best = strongest(found, Path())
    assert best is not None
    assert best.method == "strong"
    assert strongest([], Path()) is None


def test_a_tie_prints_both() -> None:
    found = gather_evidence(Path(), catalogue(Claiming("one", 0.5), Claiming("two", 0.5)))
    with pytest.raises(PtharnessError) as raised:
        strongest(found, Path("folder"))
    assert str(raised.value) == (
        "folder: equally strong evidence for one (a one file) and two (a two file); "
        "say which in the manifest"
    )


def test_a_plugin_that_raises_is_named() -> None:
    with pytest.raises(PluginError, match=r"plugin 'test' of test-dist failed to look into \."):
        gather_evidence(Path(), catalogue(Claiming("broken", -1)))


def test_an_answer_that_is_no_evidence_is_named() -> None:
    with pytest.raises(PluginError, match=r"found 'a string' in .*, no Evidence"):
        gather_evidence(Path(), catalogue(Claiming("broken", 2)))


def test_names_of_one_method_are_one_family() -> None:
    methods = catalogue(Claiming("one", 0, "uno", "eins"), Claiming("two", 0))
    assert same_family("uno", "eins", methods)
    assert not same_family("uno", "two", methods)
    assert not same_family("uno", "unheard", methods)
    assert same_family("unheard", "unheard", methods)
