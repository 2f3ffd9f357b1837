"""The page's manifests resolve, and it names every option."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ptharness.engines import lm_eval_options
from ptharness.manifest import read_manifest
from ptharness.plugins import load_plugins
from ptharness.resolve import resolve
from ptharness.testing import write_checkpoint

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "use-lm-eval-engines.md"
TEXT = PAGE.read_text(encoding="utf-8")
MANIFESTS = dict(re.findall(r"^```yaml\n# (\S+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_of_the_page_resolves(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(MANIFESTS[name])
    for checkpoint in ("base", "sft"):
        write_checkpoint(tmp_path / checkpoint)
    found = resolve(read_manifest(tmp_path / name), load_plugins().registry())
    assert found.engine.name == found.engine_settings.name
    assert found.engine.name in TEXT


def test_two_manifests_are_shown() -> None:
    assert len(MANIFESTS) == 2


@pytest.mark.parametrize("options", ["HF_ALLOWED", "API_ALLOWED", "TEXT_ALLOWED"])
def test_every_option_is_named(options: str) -> None:
    named = set(re.findall(r"`(\w+)`", TEXT)) | set(re.findall(r"^  (\w+):", TEXT, re.MULTILINE))
    assert set(getattr(lm_eval_options, options)) <= named


def test_what_is_said_to_be_refused_is() -> None:
    section = TEXT.partition("## What is refused")[2]
    refused = {name for name in re.findall(r"`(\w+)`", section) if name != "evaluate"}
    assert refused
    assert refused <= set(lm_eval_options.REFUSED)
