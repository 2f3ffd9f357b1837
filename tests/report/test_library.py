"""The charts' script is made once per version, and made again where it was damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from ptharness.report.library import chart_library


def test_it_is_remembered_and_made_again_where_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import vl_convert

    made = []
    text = "window.vegaEmbed = () => {}; // \u00e4"
    monkeypatch.setattr(vl_convert, "javascript_bundle", lambda entry: made.append(entry) or text)
    monkeypatch.setenv("PTHARNESS_CACHE", str(tmp_path / "new"))
    fresh = chart_library.__wrapped__
    assert [fresh(), fresh()] == [text, text]
    assert len(made) == 1
    (kept,) = (tmp_path / "new").iterdir()
    kept.write_bytes(kept.read_bytes() + b" evil()")
    assert fresh() == text
    assert len(made) == 2
    kept.write_bytes(b"\xff\xfe")
    assert fresh() == text
    # Where nothing can be kept it is made every time.
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PTHARNESS_CACHE", str(tmp_path / "file" / "below"))
    assert [fresh(), fresh()] == [text, text]
    assert len(made) == 5
