from __future__ import annotations

import time
from pathlib import Path

import pytest

from ptharness.safe_yaml import MOST_BYTES, YamlError, parse_yaml, read_text

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"b{i}: &b{i} [{', '.join([f'*b{i - 1}' if i else '*a'] * 10)}]\n" for i in range(30)
)
MERGE_BOMB = "m0: &m0 {a: 1, b: 2}\n" + "".join(
    f"m{i}: &m{i} {{<<: [{', '.join([f'*m{i - 1}'] * 10)}]}}\n" for i in range(1, 30)
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 1e-3", {"a": 0.001}),
        ("a: 2024-01-01", {"a": "2024-01-01"}),
        ("a: 1.5\nb: 7\nc: text", {"a": 1.5, "b": 7, "c": "text"}),
        ("a: &x {k: 1}\nb: *x", {"a": {"k": 1}, "b": {"k": 1}}),
        ("a: &x {k: 1}\nb: {<<: *x, k: 2}", {"a": {"k": 1}, "b": {"k": 2}}),
        ("", None),
        ("# nothing", None),
    ],
)
def test_plain_values_are_read(text: str, value: object) -> None:
    assert parse_yaml(text) == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\na: 2", "a: written twice, on line 1 and line 2"),
        ("a: {b: 1, c: 2, b: 3}", "a.b: written twice"),
        ("- {b: 1, b: 3}", "[0].b: written twice"),
        ("1: x", "write it in quotes: '1'"),
        ("yes: x", "YAML reads the key 'yes' as bool"),
        ("? [a]\n: x", "a key is a list or mapping"),
        ("a: &a [*a]", "the alias contains itself"),
        (BOMB, "aliases expand to more than 100,000 values"),
        (MERGE_BOMB, "aliases expand to more than 100,000 values"),
        ("a: [1", "line 1, column 6: not YAML"),
        ("a:\n\t- b", "line 2, column 1: not YAML"),
        ("a: !!python/object/apply:os.system [id]", "could not determine a constructor"),
        ("a: 1\n---\nb: 2", "another document"),
        ("a: " + "9" * 5000, "not YAML"),
        ("a: !!bool maybe", "not YAML"),
        ("a: !!timestamp x", "not YAML"),
        ("a: \x01", "not YAML"),
        ("a: 1" + ":1" * 400 + ".5", "not YAML"),
        ("[" * 3000, "nested too deeply"),
    ],
)
def test_hostile_or_ambiguous_yaml_is_one_line(text: str, said: str) -> None:
    started = time.monotonic()
    with pytest.raises(YamlError) as raised:
        parse_yaml(text)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    assert time.monotonic() - started < 20


def test_files_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"a" * (MOST_BYTES + 1))
    (tmp_path / "latin").write_bytes("é".encode("latin-1"))
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name, said in [
        ("absent", "no such file"),
        ("large", "larger than 1,000,000 bytes"),
        ("latin", "not UTF-8"),
        ("loop", "no such file"),
        (".", "is a folder"),
    ]:
        with pytest.raises(YamlError, match=said):
            read_text(tmp_path / name)
    with pytest.raises(YamlError):
        read_text(Path("/dev/zero"))


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\xef\xbb\xbfa: 1")
    assert parse_yaml(read_text(tmp_path / "file")) == {"a": 1}
