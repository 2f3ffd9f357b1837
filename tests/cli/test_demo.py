"""`ptharness demo` runs the bundled zoo: a part of it, or with --full the whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ptharness_zoo import DEMO, MANIFEST

from ptharness.cli import main


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, Any]]:
    """What `ptharness demo` hands to the code of `ptharness run`."""
    calls: list[tuple[Path, Any]] = []

    def run_manifest(_session: object, manifest: Path, **options: Any) -> int:
        calls.append((manifest, options))
        return 0

    monkeypatch.setattr("ptharness.cli.demo.run_manifest", run_manifest)
    return calls


def test_the_demo_is_a_part_and_full_is_everything(asked: list[tuple[Path, Any]]) -> None:
    assert main(["demo", "-o", "here"]) == main(["demo", "--full"]) == 0
    (part, some), (whole, everything) = asked
    assert (part, whole) == (DEMO, MANIFEST)
    assert some["out"] == Path("here")
    assert 16 <= some["limit"] < everything["limit"]


@pytest.mark.parametrize("manifest", [DEMO, MANIFEST])
def test_the_bundled_manifests_are_sound(
    manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(manifest), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["findings"] == []
    declared = {c["checkpoint"]: (c["provenance"], set(c["roles"])) for c in found["checkpoints"]}
    assert declared["grpo"] == ("on_policy", {"policy_reshaping"})
    assert declared["student_skd"] == ("off_policy", {"consolidation"})
