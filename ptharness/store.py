"""Units on disk: one immutable Parquet file each, named by its content key.

The file exists if and only if the unit is done. It is written to a temporary name, synced and
linked into place, so the first of several writers wins and a crash leaves nothing half-written.
There is no database and no lock.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from ptharness.errors import StoreError

Kind = Literal["prompts", "generation", "score", "metrics"]


class UnitStore:
    """The units under one folder, `<root>/<kind>/<two digits>/<key>.parquet`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, kind: Kind, key: str) -> Path:
        """Where a unit is, or would be."""
        return self.root / kind / key[:2] / f"{key}.parquet"

    def has(self, kind: Kind, key: str) -> bool:
        """Whether the unit is done."""
        return self.path(kind, key).exists()

    def read(self, kind: Kind, key: str, columns: list[str] | None = None) -> pa.Table:
        """A unit's table. Raises `StoreError` where it is missing or damaged."""
        path = self.path(kind, key)
        try:
            # Not `read_table`, which imports pandas.
            return pq.ParquetFile(path).read(columns=columns)
        except (OSError, pa.ArrowException) as error:
            raise StoreError(
                f"{path}: cannot be read ({error}); delete it and run again to make it anew"
            ) from error

    def write(self, kind: Kind, key: str, table: pa.Table) -> bool:
        """Store a unit; True if this call did it, False if another writer was first."""
        path = self.path(kind, key)
        if path.exists():
            return False
        return write_parquet(path, table, replace=False)


def write_parquet(path: Path, table: pa.Table, *, replace: bool) -> bool:
    """Write a Parquet file so that readers see all of it or none; False if it was there.

    With `replace`, the new file takes the old one's place. Raises `StoreError` if the disk is
    full or the folder cannot be written to; nothing is left behind then.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            pq.write_table(table, temporary, compression="zstd")
            _sync(temporary)
            if replace:
                temporary.replace(path)
                return True
            return _link_if_absent(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
            _sync(path.parent)
    except OSError as error:
        remedy = (
            "free some space and run the same command again: what is finished is kept"
            if error.errno in (errno.ENOSPC, errno.EDQUOT)
            else "check the folder's permissions"
        )
        raise StoreError(
            f"{path}: cannot be written ({error.strerror or error}); {remedy}"
        ) from error


def _link_if_absent(temporary: Path, path: Path) -> bool:
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EXDEV, errno.EMLINK):
            raise
        # A file system without hard links: the rename is atomic too, the last writer wins.
        temporary.replace(path)
    return True


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_leftovers(root: Path, *, older_than_s: float = 3600) -> None:
    """Delete temporary files that killed writers left, but none that may be in use."""
    import time

    limit = time.time() - older_than_s
    for path in root.glob("*/*/.*.tmp"):
        try:
            if path.stat().st_mtime < limit:
                path.unlink()
        except OSError:
            continue
