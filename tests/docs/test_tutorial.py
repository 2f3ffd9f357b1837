"""The tutorial is run as it stands: its files written, its commands and its Python executed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run_block(language: str, text: str, folder: Path) -> str:
    """Write a file block (its first line names it), or run a console or Python block."""
    if language in ("yaml", "json"):
        name, _, content = text.partition("\n")
        (folder / name.removeprefix("# ")).write_text(content)
        return ""
    if language == "python":
        commands = [[sys.executable, "-c", text]]
    else:
        lines = [line.removeprefix("$ ").split() for line in text.splitlines()]
        commands = [[sys.executable, "-m", *words] for words in lines]
    output = ""
    for command in commands:
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
            env={**os.environ, "COLUMNS": "160"},
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        output += done.stdout
    return output


@pytest.mark.vllm
def test_every_block_of_the_tutorial_works(tmp_path: Path) -> None:
    blocks = BLOCK.findall(TUTORIAL.read_text())
    assert len(blocks) >= 8
    output = "".join(
        run_block(language, text, tmp_path)
        for language, text in blocks
        if language != "text"  # output, not input
    )
    assert "measured policy_reshaping (supported)" in " ".join(output.split())
    assert "needs 17 samples of each item" in output
    assert (tmp_path / "results" / "tutorial" / "report.html").is_file()
    # The last block but one adds a task: it runs, and only it generates.
    manifest = tmp_path / "lineage.yaml"
    manifest.write_text(
        manifest.read_text().replace("tasks: [arith_rot", "tasks: [my_task.yaml, arith_rot")
    )
    planned = run_block(
        "console", "$ ptharness plan lineage.yaml --limit 40 --samples 24", tmp_path
    )
    assert "to generate: 144 completions" in planned
