"""The reference pages: generated ones are up to date, the hooks' page is complete."""

from __future__ import annotations

import importlib.util
import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest

from ptharness import hookspecs

DOCS = Path(__file__).parents[2] / "docs"


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PAGES = ["manifest.md", "cli.md", "methods.md", "tables.md", "parity.md"]


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_up_to_date(name: str) -> None:
    page = (DOCS / "reference" / name).read_text(encoding="utf-8")
    assert page == generator().written(name), "run `make docs`"


def test_every_generated_page_is_tested_and_stale_ones_are_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = generator()
    assert list(module.PAGES) == PAGES
    monkeypatch.setattr(module, "REFERENCE", tmp_path)
    assert module.main(check=True) == 1
    assert f"{', '.join(PAGES)}; run `make docs`" in capsys.readouterr().err
    assert module.main(check=False) == 0
    assert module.main(check=True) == 0


def test_every_hook_is_documented_with_its_arguments_and_no_other() -> None:
    page = (DOCS / "reference" / "hooks.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^## (ptharness_\w+\(.*\))$", page, re.MULTILINE))
    hooks = {
        f"{name}({', '.join(inspect.signature(hook).parameters)})"
        for name, hook in inspect.getmembers(hookspecs, inspect.isfunction)
        if name.startswith("ptharness_")
    }
    assert documented == hooks


def test_links_between_pages_lead_somewhere() -> None:
    for page in DOCS.rglob("*.md"):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page}: {target}"
