"""A unit's file exists if and only if the unit is done; the first writer wins."""

import errno
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from ptharness import store as store_module
from ptharness.errors import StoreError
from ptharness.store import UnitStore, remove_leftovers, write_parquet

KEY = "ab" * 16


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    store = UnitStore(tmp_path)
    assert not store.has("generation", KEY)
    assert store.write("generation", KEY, pa.table({"x": [1, 2]}))
    assert store.has("generation", KEY)
    assert store.read("generation", KEY).to_pydict() == {"x": [1, 2]}
    assert store.read("generation", KEY, ["x"]).column_names == ["x"]


def test_first_of_many_writers_wins(tmp_path: Path) -> None:
    store = UnitStore(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        tables = [pa.table({"writer": [i]}) for i in range(32)]
        won = list(pool.map(lambda table: store.write("score", KEY, table), tables))
    assert sum(won) == 1
    assert store.read("score", KEY)["writer"].to_pylist() == [won.index(True)]
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [f"{KEY}.parquet"]


def test_a_file_system_without_hard_links_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(store_module.os, "link", refuse)
    store = UnitStore(tmp_path)
    assert store.write("generation", KEY, pa.table({"x": [1]}))
    assert store.read("generation", KEY).num_rows == 1


def test_full_disk_is_named_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(table: pa.Table, path: Path, **_: object) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store_module.pq, "write_table", full)
    store = UnitStore(tmp_path)
    with pytest.raises(StoreError, match=r"No space left.*free some space and run the same"):
        store.write("generation", KEY, pa.table({"x": [1]}))
    assert not store.has("generation", KEY)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_damaged_unit_names_its_file(tmp_path: Path) -> None:
    store = UnitStore(tmp_path)
    path = store.path("generation", KEY)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not parquet")
    with pytest.raises(StoreError, match=f"{KEY}.parquet: cannot be read .* delete it"):
        store.read("generation", KEY)


def test_a_killed_writer_leaves_no_unit(tmp_path: Path) -> None:
    """SIGKILL between writing and linking: the unit does not exist, its leftover is removed."""
    script = textwrap.dedent("""
        import os, signal, sys
        from pathlib import Path
        import pyarrow as pa
        import ptharness.store as store
        store._link_if_absent = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        store.UnitStore(Path(sys.argv[1])).write("generation", sys.argv[2], pa.table({"x": [1]}))
    """)
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path), KEY], check=False)
    assert ended.returncode == -9
    store = UnitStore(tmp_path)
    assert not store.has("generation", KEY)
    assert len(list(tmp_path.rglob("*.tmp"))) == 1
    remove_leftovers(tmp_path)
    assert len(list(tmp_path.rglob("*.tmp"))) == 1, "a young one may be in use"
    remove_leftovers(tmp_path, older_than_s=-1)
    assert not list(tmp_path.rglob("*.tmp"))


def test_replacing_is_whole_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    assert write_parquet(path, pa.table({"x": [1]}), replace=True)
    assert write_parquet(path, pa.table({"x": [2]}), replace=True)
    assert pa.parquet.read_table(path)["x"].to_pylist() == [2]
    assert list(tmp_path.iterdir()) == [path]
