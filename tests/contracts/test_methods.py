"""Every method that any installed plugin registers passes the contract that authors are given."""

from __future__ import annotations

from types import ModuleType

import pytest

from ptharness.methods import Method
from ptharness.plugins import load_plugins
from ptharness.testing import MethodContract

PLUGINS = load_plugins()
METHODS = PLUGINS.registry(["methods"]).methods
MODULES = {plugin.name: plugin.content for plugin in PLUGINS.loaded}
CASES = [
    pytest.param((METHODS.get(entry.name), MODULES[entry.origin.plugin]), id=entry.name)
    for entry in METHODS
]


class TestEveryMethod(MethodContract):
    """The suite once for each registered method: a new plugin is covered without a line here."""

    @pytest.fixture(autouse=True, params=CASES, scope="class")
    @classmethod
    def _one_method(cls, request: pytest.FixtureRequest) -> None:
        case: tuple[Method, ModuleType] = request.param
        cls.method, cls.plugin = case


def test_all_families_are_under_contract() -> None:
    assert len(CASES) >= 8
