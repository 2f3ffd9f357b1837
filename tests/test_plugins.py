"""The plugin core through real plugin files, modules and installed distributions."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from ptharness import hookspecs
from ptharness.errors import PluginError
from ptharness.plugins import BUILT_IN, load_plugins

HEAD = "from ptharness.hookspecs import hookimpl\n"


@pytest.fixture
def plugin(tmp_path: Path) -> Any:
    """`plugin(name, source)` writes a plugin file."""

    def write(name: str, source: str) -> Path:
        path = tmp_path / f"{name}.py"
        path.write_text(HEAD + dedent(source))
        return path

    return write


def installed(folder: Path, distribution: str, entry: str, source: str) -> None:
    """Lay a distribution with an entry point into `folder`, as pip would."""
    information = folder / f"{distribution}-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\n")
    (information / "entry_points.txt").write_text(f"[ptharness]\n{entry}\n")
    (folder / f"{entry.split('=')[1].strip()}.py").write_text(HEAD + dedent(source))


# --- each hook -------------------------------------------------------------------------------


def test_hook_register_methods(plugin: Any) -> None:
    path = plugin(
        "hook_methods",
        """
        from ptharness_methods.sft import SupervisedFineTuning

        class Mine(SupervisedFineTuning):
            name, aliases = "mine", ()

        @hookimpl
        def ptharness_register_methods(registry):
            registry.methods.add(Mine())
        """,
    )
    plugins = load_plugins([path])
    entry = plugins.registry().methods.entry("mine")
    assert entry.origin.plugin == "hook_methods"
    assert entry.origin.distribution == f"file {path}"
    assert plugins.files == (path,)


def test_hook_register_tasks(plugin: Any, tmp_path: Path) -> None:
    (tmp_path / "yamls").mkdir()
    (tmp_path / "yamls" / "mine.yaml").write_text("task: mine_add\ndataset_path: json\n")
    path = plugin(
        "hook_tasks",
        """
        from pathlib import Path

        @hookimpl
        def ptharness_register_tasks(registry):
            registry.tasks.add_folder(Path(__file__).parent / "yamls")
        """,
    )
    registry = load_plugins([path]).registry(["tasks"])
    assert [task.name for task in registry.tasks.find("mine_add", tmp_path)] == ["mine_add"]


def test_hook_register_engines(plugin: Any) -> None:
    path = plugin(
        "hook_engines",
        """
        from ptharness.engines.fake import FakeEngine

        class MyEngine(FakeEngine):
            name = "mine"

        @hookimpl
        def ptharness_register_engines(registry):
            registry.engines.add(MyEngine)
        """,
    )
    assert load_plugins([path]).registry(["engines"]).engines.get("mine").name == "mine"


def test_hook_register_executors(plugin: Any) -> None:
    path = plugin(
        "hook_executors",
        """
        @hookimpl
        def ptharness_register_executors(registry):
            from ptharness.executors.local import LocalExecutor

            class Mine(LocalExecutor):
                name = "mine"

            registry.executors.add(Mine)
        """,
    )
    assert load_plugins([path]).registry(["executors"]).executors.get("mine").name == "mine"


def test_hook_register_analyses(plugin: Any) -> None:
    path = plugin(
        "hook_analyses",
        """
        @hookimpl
        def ptharness_register_analyses(registry):
            registry.analyses.add(lambda tables: 42, name="answer")
        """,
    )
    assert load_plugins([path]).registry(["analyses"]).analyses.get("answer")({}) == 42


def test_hook_register_commands(plugin: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from ptharness.cli import main

    path = plugin(
        "hook_commands",
        '''
        import click

        @click.command()
        def hello():
            """Say hello."""
            click.echo("hello from a plugin")
            return 1

        @hookimpl
        def ptharness_register_commands(registry):
            registry.commands.add(hello)
        ''',
    )
    assert main(["--plugin", str(path), "hello"]) == 1
    assert capsys.readouterr().out == "hello from a plugin\n"
    assert main(["--plugin", str(path), "--help"]) == 0
    assert "Say hello." in capsys.readouterr().out


def test_hook_run_finished(plugin: Any) -> None:
    path = plugin(
        "hook_finished",
        """
        @hookimpl
        def ptharness_run_finished(results):
            results.seen.append("told")
        """,
    )
    results: Any = SimpleNamespace(seen=[])
    load_plugins([path]).run_finished(results)
    assert results.seen == ["told"]


def test_every_hook_has_a_test() -> None:
    hooks = {name for name in vars(hookspecs) if name.startswith("ptharness_")}
    tested = {
        name.replace("test_hook_", "ptharness_") for name in globals() if "test_hook_" in name
    }
    assert hooks == tested
    assert len(hooks) == 7


def test_every_hook_is_typed_and_described() -> None:
    for name, hook in inspect.getmembers(hookspecs, inspect.isfunction):
        assert inspect.getdoc(hook), name
        assert all(p.annotation for p in inspect.signature(hook).parameters.values())


# --- what goes wrong -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            "@hookimpl\ndef ptharness_register_metods(registry): ...",
            "plugin 'broken' of file {path}: no hook 'ptharness_register_metods' "
            "(did you mean 'ptharness_register_methods'",
        ),
        (
            "def ptharness_register_methods(registry): ...",
            "ptharness_register_methods is not marked; put `@hookimpl` above it",
        ),
        ("x = 1", "plugin 'broken' of file {path} implements no hook"),
        (
            "@hookimpl\ndef ptharness_register_methods(registri): ...",
            "plugin 'broken' of file {path} has a hook of the wrong shape",
        ),
        ("raise RuntimeError('no luck')", "{path}: failed to import: RuntimeError: no luck"),
        ("import nowhere", "failed to import: ModuleNotFoundError"),
        ("def broken(:", "failed to import: SyntaxError"),
    ],
)
def test_a_plugin_that_fails_to_load_stops_everything(plugin: Any, source: str, said: str) -> None:
    path = plugin("broken", source)
    with pytest.raises(PluginError) as raised:
        load_plugins([path])
    assert said.format(path=path) in str(raised.value)
    load_plugins([path], disabled=["broken"])


def test_a_hook_that_raises_names_plugin_and_hook(plugin: Any) -> None:
    path = plugin(
        "raiser",
        """
        @hookimpl
        def ptharness_register_methods(registry):
            raise ValueError("no luck")

        @hookimpl
        def ptharness_run_finished(results):
            raise ValueError("nor here")
        """,
    )
    plugins = load_plugins([path])
    with pytest.raises(
        PluginError,
        match=r"plugin 'raiser' of file .*raiser.py failed in "
        r"ptharness_register_methods: ValueError: no luck; `--no-plugin raiser`",
    ):
        plugins.registry()
    with pytest.raises(PluginError, match="failed in ptharness_run_finished: ValueError: nor here"):
        plugins.run_finished(SimpleNamespace())  # type: ignore[arg-type]


def test_missing_modules_and_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="plugin 'nowhere' of module nowhere failed to load"):
        load_plugins(["nowhere"])
    with pytest.raises(PluginError, match=r"absent.py: not a Python file"):
        load_plugins([tmp_path / "absent.py"])


def test_one_plugin_twice_is_refused(plugin: Any, tmp_path: Path) -> None:
    source = "@hookimpl\ndef ptharness_run_finished(results): ..."
    path = plugin("twice", source)
    with pytest.raises(PluginError, match="two plugins of one name"):
        load_plugins([path, path])
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / "twice.py"
    other.write_text(HEAD + source)
    with pytest.raises(PluginError, match=r"a plugin file named twice.py is loaded already"):
        load_plugins([path, other])


def test_a_name_that_a_built_in_has_is_refused_naming_both(plugin: Any) -> None:
    path = plugin(
        "thief",
        """
        from ptharness_methods.sft import SupervisedFineTuning

        @hookimpl
        def ptharness_register_methods(registry):
            registry.methods.add(SupervisedFineTuning())
        """,
    )
    with pytest.raises(PluginError) as raised:
        load_plugins([path]).registry()
    assert "plugin 'thief' of file" in str(raised.value)
    assert "plugin 'sft' of ptharness" in str(raised.value)
    assert load_plugins([path], disabled=["sft"]).registry().methods.entry("sft").origin.plugin == (
        "thief"
    )


# --- choosing --------------------------------------------------------------------------------


def test_built_ins_go_through_the_hooks_and_can_be_left_out() -> None:
    plugins = load_plugins(installed=False)
    assert [plugin.name for plugin in plugins.loaded] == list(BUILT_IN)
    assert all(plugins.hooks_of(plugin) for plugin in plugins.loaded)
    assert all(isinstance(plugin.content, ModuleType) for plugin in plugins.loaded)
    without = load_plugins(disabled=["preference"], installed=False).registry(["methods"])
    assert "dpo" not in without.methods
    assert "sft" in without.methods


def test_an_unknown_name_to_leave_out_is_an_error() -> None:
    with pytest.raises(PluginError, match=r"no such plugin \(did you mean 'preference'"):
        load_plugins(disabled=["preferense"])


def test_the_environment_leaves_out_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PTHARNESS_DISABLE", "sft, preference,not-installed-here")
    names = [plugin.name for plugin in load_plugins(installed=False).loaded]
    assert names == [name for name in BUILT_IN if name not in ("sft", "preference")]


def test_two_managers_share_nothing() -> None:
    one, two = load_plugins(disabled=["sft"]), load_plugins()
    assert one.manager is not two.manager
    assert "sft" not in one.registry(["methods"]).methods
    assert "sft" in two.registry(["methods"]).methods


def test_an_installed_distribution_is_found_by_its_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(
        tmp_path,
        "acme-plugins",
        "acme = acme_ptharness_plugin",
        "@hookimpl\ndef ptharness_run_finished(results): ...",
    )
    monkeypatch.syspath_prepend(tmp_path)
    [plugin] = [plugin for plugin in load_plugins().loaded if plugin.name == "acme"]
    assert plugin.distribution == "acme-plugins"
    assert plugin.location == "acme_ptharness_plugin"


def test_an_installed_plugin_that_fails_is_named_with_its_distribution(tmp_path: Path) -> None:
    installed(tmp_path, "acme-plugins", "acme = acme_broken", "import sys\nsys.exit('gone')")
    command = [sys.executable, "-m", "ptharness", "--help"]
    path = ":".join([str(tmp_path), *sys.path])
    failed = subprocess.run(
        command, env={"PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert failed.returncode == 2
    assert failed.stderr == (
        "error: plugin 'acme' of acme-plugins failed to load: SystemExit: gone; repair it, or "
        "leave it out with `--no-plugin acme`\n"
    )
    environment = {"PYTHONPATH": path, "PTHARNESS_DISABLE": "acme"}
    assert (
        subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0
    )
