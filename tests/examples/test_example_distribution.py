"""docs/examples/ptharness-echo as its users get it: a wheel in a fresh environment, for real.

The environment has ptharness as a wheel of this checkout with the engine for this machine, and
nothing of the development tools: what the wheels lack is missing here.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

import ptharness

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "ptharness-echo"
PAGE = ROOT / "docs" / "how-to" / "ship-a-plugin.md"
TEXT = PAGE.read_text(encoding="utf-8")
INSTALL, LOOK, RUN = re.findall(r"^```console\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)

MANIFEST = """\
lineage: echoes
checkpoints:
  base: {{path: {checkpoints}/base}}
  echo: {{path: {checkpoints}/sft, parent: base, method: {{name: echo, answers: kept}}}}
evaluate:
  tasks: [echo_twice]
  samples: 4
  temperature: 1.0
  max_tokens: 40
engine: {{name: vllm, dtype: float32}}
"""


class Environment:
    """A virtual environment, and a copy of the example beside it, in which commands run."""

    def __init__(self, parent: Path) -> None:
        self.venv, self.folder = parent / "venv", parent / "ptharness-echo"
        litter = shutil.ignore_patterns(".*", "__pycache__", "dist")
        shutil.copytree(EXAMPLE, self.folder, ignore=litter)

    def __call__(self, *words: str | Path) -> str:
        """What a command printed; it must end well."""
        path = f"{self.venv / 'bin'}{os.pathsep}{os.environ['PATH']}"
        hidden = ("PYTHONPATH", "VIRTUAL_ENV", "PTHARNESS_DISABLE")
        variables = {name: value for name, value in os.environ.items() if name not in hidden}
        ran = subprocess.run(
            [shutil.which(words[0], path=path) or words[0], *words[1:]],
            cwd=self.folder,
            env=variables | {"PATH": path},
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        assert ran.returncode == 0, f"{words}\n{ran.stdout}\n{ran.stderr}"
        return ran.stdout

    def follow(self, block: str) -> list[str]:
        """What each command of a console block printed."""
        return [self(*line.removeprefix("$ ").split()) for line in block.splitlines()]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """`make install` without the tools, ptharness as a wheel, and the example as the page says."""
    made = Environment(tmp_path_factory.mktemp("example"))
    # The Makefile knows which torch and which pins this machine needs.
    make = ["make", "-C", ROOT, "install", f"VENV={made.venv}", f"PYTHON={sys.executable}"]
    made(*make, "EXTRAS=$(HARDWARE)")
    lend_bytecode(made.venv)
    made("uv", "build", "--quiet", "--wheel", "--out-dir", "wheels", ROOT)
    [wheel] = (made.folder / "wheels").glob("ptharness-*.whl")
    made("python", "-m", "pip", "install", "--quiet", "--force-reinstall", "--no-deps", wheel)
    made.follow(INSTALL)
    yield made
    shutil.rmtree(made.venv)  # gigabytes, which pytest would keep for three runs


def lend_bytecode(venv: Path) -> None:
    """Let the fresh environment find what Python has compiled for this one.

    Compiling torch and vLLM again takes a minute. Python checks a source's time and size before
    it uses its bytecode, so a package that differs is compiled as usual.
    """
    ours = Path(sysconfig.get_path("purelib"))
    theirs = venv / ours.relative_to(sys.prefix)
    for cache in ours.rglob("__pycache__"):
        place = theirs / cache.relative_to(ours)
        if place.parent.is_dir() and not place.exists():
            shutil.copytree(cache, place, copy_function=os.symlink)


def test_the_page_shows_the_files_of_the_example() -> None:
    """Blocks of files are whole files or pieces of them, word for word."""
    blocks = re.findall(r"^```(?:python|toml|yaml)\n# (\S+)\n(.*?)^```$", TEXT, re.M | re.S)
    assert len(blocks) == 5
    for name, content in blocks:
        assert content in (EXAMPLE / name).read_text(), name


def test_its_tests_pass_and_its_plugins_are_found(environment: Environment) -> None:
    tests, plugins, method, task = environment.follow(LOOK)
    assert " passed" in tests
    assert "skipped" not in tests
    assert {"echo", "echo-tasks", "echo-lengths"} <= set(plugins.split())
    assert "plugin 'echo' of ptharness-echo" in method
    assert "echo_twice" in task


@pytest.mark.vllm
def test_its_method_task_and_command_work_on_real_models(environment: Environment) -> None:
    where = "import ptharness_zoo; print(ptharness_zoo.CHECKPOINTS)"
    checkpoints = environment("python", "-c", where).strip()
    assert str(environment.venv) in checkpoints, "the wheel's zoo, not the checkout's"
    (environment.folder / "lineage.yaml").write_text(MANIFEST.format(checkpoints=checkpoints))
    environment.follow(RUN)
    lengths = environment("ptharness", "lengths", "results/echoes", "--json")
    for checkpoint, row in zip(("base", "echo"), json.loads(lengths), strict=True):
        assert (row["checkpoint"], row["task"]) == (checkpoint, "echo_twice")
        assert 5 < row["mean_completion_tokens"] <= 40
    # The tables open here as well: the same ptharness reads them.
    items = ptharness.Results(environment.folder / "results" / "echoes").items
    base, echo = (items[items.checkpoint == name] for name in ("base", "echo"))
    assert base.n.sum() == echo.n.sum() == 8 * 4
    assert base.c.sum() > 8, "the zoo's base model doubles letters well"
    assert set(echo.method) == {"echo"}
    assert set(echo.provenance) == {"off_policy"}
