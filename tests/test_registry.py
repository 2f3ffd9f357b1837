from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import pytest
from ptharness_methods.sft import SupervisedFineTuning

from ptharness.engines.fake import FakeEngine
from ptharness.errors import PluginError, PtharnessError, TaskError
from ptharness.methods import Declaration, Method, StageSettings
from ptharness.registry import Origin, Registry
from ptharness.tasks.base import Listing, LoadedTask, Task, TaskProvider, TaskSettings


class NamedTask(Task):
    def __init__(self, name: str) -> None:
        self.name = name

    def inputs_digest(self, settings: TaskSettings) -> str:
        return self.name

    def load(self, settings: TaskSettings) -> LoadedTask:
        raise NotImplementedError


class Provider(TaskProvider):
    def __init__(self, origin: str, *names: str) -> None:
        self.origin, self.names, self.asked = origin, names, 0

    def find(self, reference: str, folder: Path) -> Sequence[Task]:
        self.asked += 1
        return [NamedTask(reference)] if reference in self.names else []

    def listings(self) -> Sequence[Listing]:
        return [Listing(name, "task", self.origin) for name in self.names]


@pytest.fixture
def registry() -> Registry:
    return Registry(origin=Origin("one", "one-dist"))


def test_an_entry_is_found_by_name_and_alias_and_remembers_its_plugin(registry: Registry) -> None:
    registry.methods.add(SupervisedFineTuning())
    assert registry.methods.get("sft") is registry.methods.get("instruction_tuning")
    assert registry.methods.entry("sft").origin == Origin("one", "one-dist")
    assert registry.methods.names() == ("sft", "instruction_tuning")
    assert "sft" in registry.methods
    assert "dpo" not in registry.methods


def test_a_taken_name_or_alias_is_refused_naming_both_origins(registry: Registry) -> None:
    registry.methods.add(SupervisedFineTuning())
    registry.origin = Origin("two", "two-dist")

    class Other(SupervisedFineTuning):
        name = "other"
        aliases = ("instruction_tuning",)

    for method in (SupervisedFineTuning(), Other()):
        with pytest.raises(PluginError) as raised:
            registry.methods.add(method)
        assert "plugin 'two' of two-dist" in str(raised.value)
        assert "plugin 'one' of one-dist" in str(raised.value)
    assert "other" not in registry.methods


def test_what_is_not_of_the_kind_is_refused(registry: Registry) -> None:
    for catalogue, wrong in [
        (registry.methods, SupervisedFineTuning),
        (registry.engines, FakeEngine.__mro__[1].__mro__[-1]),
        (registry.executors, FakeEngine),
        (registry.analyses, 3),
        (registry.commands, print),
    ]:
        with pytest.raises(PluginError, match="which is not one"):
            catalogue.add(wrong, name="wrong")  # type: ignore[attr-defined]
    with pytest.raises(PluginError, match="no TaskProvider"):
        registry.tasks.add("gsm8k")  # type: ignore[arg-type]


def test_a_nameless_thing_is_refused(registry: Registry) -> None:
    with pytest.raises(PluginError, match="without a name; give name="):
        registry.analyses.add(lambda: None)


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"title": None}, "its `title` is None; it must be a line of text"),
        ({"title": "two\nlines"}, "its `title` is 'two"),
        ({"name": "my echo"}, "its `name` is 'my echo'; it must be up to 100 letters, digits"),
        ({"name": 3}, "its `name` is 3"),
        ({"aliases": "echo"}, "its `aliases` is 'echo'; it must be a tuple"),
        ({"aliases": ("fine", "../no")}, "its `aliases` is ('fine', '../no')"),
        ({"options": "beta"}, "its `options` is 'beta'; it must be a tuple"),
        ({"options": (1,)}, "its `options` is (1,)"),
    ],
)
def test_a_method_that_cannot_be_listed_is_refused_naming_the_attribute(
    attributes: dict[str, object], said: str, registry: Registry
) -> None:
    made = type("Echo", (SupervisedFineTuning,), {"name": "echo", "aliases": (), **attributes})()
    with pytest.raises(PluginError) as raised:
        registry.methods.add(made)
    assert str(raised.value).startswith("plugin 'one' of one-dist adds method ")
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    assert registry.methods.names() == ()


def test_a_method_without_title_or_name_is_refused(registry: Registry) -> None:
    class Bare(Method):
        def declare(self, stage: StageSettings) -> Declaration:
            raise NotImplementedError

    with pytest.raises(PluginError, match=r"plugin 'one' .* Bare: it has no `name`; give it"):
        registry.methods.add(Bare())
    Bare.name = "bare"
    with pytest.raises(PluginError, match="method 'bare' Bare: it has no `title`; give it a line"):
        registry.methods.add(Bare())


def test_a_dotted_string_is_imported_when_asked_for(registry: Registry) -> None:
    registry.engines.add("ptharness.engines.fake:FakeEngine", name="fake")
    registry.engines.add("nowhere.engine:Engine", name="lost")
    registry.engines.add("ptharness.errors:PtharnessError", name="wrong")
    assert registry.engines.get("fake") is FakeEngine
    with pytest.raises(PluginError, match=r"nowhere.engine:Engine cannot be imported"):
        registry.engines.get("lost")
    with pytest.raises(PluginError, match="which is not one"):
        registry.engines.get("wrong")


def test_a_command_is_named_by_click(registry: Registry) -> None:
    @click.command("hello-there")
    def hello() -> None: ...

    registry.commands.add(hello)
    assert registry.commands.get("hello-there") is hello


def test_an_unknown_name_gets_near_misses(registry: Registry) -> None:
    registry.engines.add(FakeEngine)
    with pytest.raises(PtharnessError, match=r"unknown engine 'fakee' \(did you mean 'fake'\?\)"):
        registry.engines.get("fakee")


def test_tasks_are_found_across_providers(registry: Registry) -> None:
    registry.tasks.add(Provider("ours", "arith_add"))
    registry.tasks.add(Provider("theirs", "gsm8k"))
    assert [task.name for task in registry.tasks.find("gsm8k", Path())] == ["gsm8k"]
    assert [listing.name for listing in registry.tasks.listings()] == ["arith_add", "gsm8k"]
    with pytest.raises(TaskError, match=r"unknown task 'arith_ad' \(did you mean 'arith_add'"):
        registry.tasks.find("arith_ad", Path())


def test_a_task_of_two_providers_is_refused_naming_both(registry: Registry) -> None:
    registry.tasks.add(Provider("ours", "add"))
    registry.tasks.add(Provider("theirs", "add"))
    with pytest.raises(TaskError, match="provided by 'ours' and 'theirs'; give the path"):
        registry.tasks.find("add", Path())


def test_a_last_resort_is_asked_last_and_may_be_shadowed(registry: Registry) -> None:
    slow = Provider("slow", "add", "sub")
    registry.tasks.add(slow, last_resort=True)
    registry.tasks.add(Provider("ours", "add"))
    registry.tasks.find("add", Path())
    assert slow.asked == 0
    assert [task.name for task in registry.tasks.find("sub", Path())] == ["sub"]


def test_a_folder_of_yaml_files_is_added_by_its_path(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("task: mine_add\ndataset_path: json\n")
    registry.tasks.add_folder(tmp_path)
    assert [task.name for task in registry.tasks.find("mine_add", Path())] == ["mine_add"]
    assert [(each.name, each.origin) for each in registry.tasks.listings()] == [("mine_add", "one")]
