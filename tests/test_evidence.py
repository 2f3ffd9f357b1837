from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ptharness.errors import PluginError, PtharnessError
from ptharness.evidence import declare, gather_evidence, same_family, strongest
from ptharness.methods import Declaration, Evidence, Method, StageSettings
from ptharness.registry import Catalogue, Origin, Registry
from ptharness.taxonomy import Interface, Provenance, Role

SOURCE = Path(__file__).read_text().splitlines()


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


def test_a_plugin_that_raises_is_named_with_its_line() -> None:
    with pytest.raises(PluginError) as raised:
        gather_evidence(Path(), catalogue(Claiming("broken", -1)))
    line = next(n for n, text in enumerate(SOURCE, 1) if "no luck" in text)
    assert str(raised.value) == (
        "plugin 'test' of test-dist failed to look into . for traces of 'broken': "
        f"ValueError: no luck at {__file__}:{line}; "
        "repair the plugin, or leave it out with `--no-plugin test`"
    )


def test_the_line_is_the_plugins_own_where_a_library_raises() -> None:
    class Reading(Claiming):
        def declare(self, stage: StageSettings) -> Declaration:
            json.loads("{")
            raise AssertionError

    line = next(n for n, text in enumerate(SOURCE, 1) if 'json.loads("{")' in text)
    with pytest.raises(PluginError, match=f"JSONDecodeError: .* at {__file__}:{line}; repair"):
        declare(catalogue(Reading("reading", 0)), StageSettings("reading"))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("a string", "'a string' is no Evidence"),
        (
            Evidence("other", 0.5, "x"),
            "the evidence is for 'other'; it must be for one of one, uno",
        ),
        (Evidence("two", 0.5, "x"), "the evidence is for 'two'; it must be for one of one, uno"),
        (Evidence("one", 0, "x"), "the strength is 0; it must be a number above 0, at most 1"),
        (Evidence("one", 1.5, "x"), "the strength is 1.5"),
        (Evidence("one", math.nan, "x"), "the strength is nan"),
        (Evidence("one", "0.5", "x"), "the strength is '0.5'"),  # type: ignore[arg-type]
        (Evidence("one", True, "x"), "the strength is True"),
        (Evidence("one", 0.5, "a\nb"), r"found is 'a\nb'; it must be a line of text"),
        (Evidence("one", 0.5, ""), "found is ''"),
        (Evidence("one", 0.5, None), "found is None"),  # type: ignore[arg-type]
    ],
)
def test_an_answer_that_is_no_evidence_for_this_method_is_named(answer: object, said: str) -> None:
    class Answering(Claiming):
        def detect(self, directory: Path) -> Any:
            return answer

    methods = catalogue(Answering("one", 0, "uno"), Claiming("two", 0))
    with pytest.raises(PluginError) as raised:
        gather_evidence(Path("folder"), methods)
    assert str(raised.value).startswith(
        "plugin 'test' of test-dist looked into folder for traces of 'one' and answered wrongly: "
    )
    assert said in str(raised.value)
    assert "`--no-plugin test`" in str(raised.value)


def test_evidence_for_an_alias_is_fine() -> None:
    class ForAlias(Claiming):
        def detect(self, directory: Path) -> Evidence | None:
            return Evidence("uno", 1, "a file")

    [found] = gather_evidence(Path(), catalogue(ForAlias("one", 0, "uno")))
    assert found.method == "uno"


@pytest.mark.parametrize(
    ("field", "value", "legal"),
    [
        ("provenance", "on_policy", "one of Provenance.OFF_POLICY, Provenance.ON_POLICY"),
        ("interface", None, "one of Interface.TOKEN_TARGETS"),
        ("roles", "policy", "a tuple of one or more of Role.SUPPORT_EXPANSION"),
        ("roles", ("nonsense",), "a tuple of one or more of Role.SUPPORT_EXPANSION"),
        ("roles", [Role.CONSOLIDATION], "a tuple of one or more of"),
        ("roles", (), "a tuple of one or more of"),
        ("reason", "", "a line of text"),
        ("reason", 3, "a line of text"),
        ("sources", "a note", "a tuple of lines of text"),
        ("sources", (3,), "a tuple of lines of text"),
    ],
)
def test_a_declaration_of_the_wrong_kind_names_field_and_legal_values(
    field: str, value: object, legal: str
) -> None:
    class Declaring(Claiming):
        def declare(self, stage: StageSettings) -> Declaration:
            whole = Declaration(Provenance.MIXED, Interface.REWARDS, (Role.CONSOLIDATION,), "why")
            return replace(whole, **{field: value})

    with pytest.raises(PluginError) as raised:
        declare(catalogue(Declaring("one", 0)), StageSettings("one"))
    assert str(raised.value).startswith(
        f"plugin 'test' of test-dist declares 'one' wrongly: {field} is {value!r}; "
        f"it must be {legal}"
    )


def test_names_of_one_method_are_one_family() -> None:
    methods = catalogue(Claiming("one", 0, "uno", "eins"), Claiming("two", 0))
    assert same_family("uno", "eins", methods)
    assert not same_family("uno", "two", methods)
    assert not same_family("uno", "unheard", methods)
    assert same_family("unheard", "unheard", methods)
