"""The results folder of one lineage, brought up to the units in the store.

Every file says in its metadata which state it is of: a digest of the unit keys and tags in it.
A file of the right state is left alone; another is replaced in one step. run.json comes last
and names the state that all the tables belong to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ptharness.errors import StoreError
from ptharness.fingerprint import digest, write_atomically
from ptharness.planner import CheckpointPrint, Work
from ptharness.publish.columns import tag_values
from ptharness.publish.files import remove_others, samples_file, state_of, write_table
from ptharness.publish.lineage_tables import checkpoint_rows, documents_of, documents_table
from ptharness.publish.run_json import RunReport, write_run
from ptharness.publish.samples import samples_table
from ptharness.resolve import Evaluation
from ptharness.schema import CHECKPOINTS, ITEMS, METRICS, SCHEMA_VERSION
from ptharness.store import UnitStore, remove_leftovers
from ptharness.units import Failure

PUBLISH_VERSION = 3
"""Raised when the same units would give other tables."""


@dataclass(frozen=True)
class Published:
    """What a call of `publish` did: names of files, relative to the folder, and the state.

    `incomplete` are the checkpoint x task pairs with a unit missing; `failures` those whose
    units are there and cannot be read.
    """

    state: str
    written: tuple[str, ...]
    removed: tuple[str, ...]
    incomplete: tuple[tuple[str, str], ...]
    failures: tuple[Failure, ...]


def publish(
    folder: Path,
    evaluation: Evaluation,
    work: Sequence[Work],
    prints: Mapping[str, CheckpointPrint],
    store: UnitStore,
    *,
    failures: Sequence[Failure] = (),
    engine_loads: Sequence[Mapping[str, Any]] = (),
    timings: Mapping[str, float] | None = None,
    started: datetime | None = None,
    command: Sequence[str] = (),
    evidence: Mapping[str, str] | None = None,
) -> Published:
    """Bring `folder` (`<out>/<lineage>`) up to the complete checkpoint x task pairs of `work`.

    Samples files of other pairs are deleted: the folder shows one evaluation, while all units
    stay in the store. `evidence` says per checkpoint what in its folder speaks for its method;
    the other options go into run.json. Raises `StoreError` where the folder cannot be written.
    """
    begun = time.monotonic()
    remove_leftovers(folder)
    publication = _Publication(folder, evaluation, prints, store)
    complete = [is_complete(w, store) for w in work]
    pairs = publication.write_pairs(
        [publication.pair(w) for w, whole in zip(work, complete, strict=True) if whole]
    )
    publication.write_lineage_tables(pairs, evidence or {})
    removed = remove_others(folder, [pair.file for pair in pairs])
    publication.write_manifest()
    report = RunReport(
        [*failures, *publication.failures],
        engine_loads,
        {**(timings or {}), "publish_s": time.monotonic() - begun},
        started,
        command,
    )
    state = _state(publication.states)
    published = [pair.work for pair in pairs]
    if write_run(folder / "run.json", evaluation, published, prints, state, report):
        publication.written.append("run.json")
    return Published(
        state,
        tuple(publication.written),
        tuple(removed),
        tuple(
            (w.checkpoint.name, _task(w))
            for w, whole in zip(work, complete, strict=True)
            if not whole
        ),
        tuple(publication.failures),
    )


def _state(*values: object) -> str:
    return digest(PUBLISH_VERSION, SCHEMA_VERSION, values)


def _task(work: Work) -> str:
    return work.planned.prompts.header.task


def is_complete(work: Work, store: UnitStore) -> bool:
    """Whether all units of a checkpoint x task are in the store."""
    return (
        store.has("metrics", work.metrics.key)
        and all(store.has("score", unit.key) for unit in work.scores)
        and all(store.has("generation", unit.key) for unit in work.generation)
    )


@dataclass(frozen=True)
class _Pair:
    """One complete checkpoint x task and its samples file, named relative to the folder."""

    work: Work
    tags: Mapping[str, Any]
    file: str

    @cached_property
    def state(self) -> str:
        """Digest of all that the samples file depends on."""
        planned = self.work.planned
        return _state(
            self.tags,
            _task(self.work),
            planned.protocol,
            planned.prompt_set,
            [unit.key for unit in self.work.generation],
            [unit.key for unit in self.work.scores],
        )

    @property
    def derived_state(self) -> tuple[object, ...]:
        """What its rows in items and metrics depend on."""
        header = self.work.planned.prompts.header
        return self.state, self.work.metrics.key, header.primary, header.binary


@dataclass
class _Publication:
    """One call of `publish` under way: what it wrote, and the state of each file."""

    folder: Path
    evaluation: Evaluation
    prints: Mapping[str, CheckpointPrint]
    store: UnitStore
    states: dict[str, str] = field(default_factory=dict)
    written: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def pair(self, work: Work) -> _Pair:
        """A checkpoint x task with its tags and its place."""
        tags = tag_values(self.evaluation.lineage, work.checkpoint)
        return _Pair(work, tags, samples_file(work.checkpoint.name, _task(work)))

    def write_pairs(self, pairs: Sequence[_Pair]) -> list[_Pair]:
        """Write samples, items and metrics; the pairs whose units could be read."""
        if self._are_current(pairs):
            return list(pairs)
        readable: list[_Pair] = []
        item_tables, metric_tables = [ITEMS.empty_table()], list[pa.Table]()
        for pair in pairs:
            try:
                rows, own = self._write_pair(pair)
            except _UnreadableError as error:
                failure = Failure(
                    pair.work.checkpoint.name, _task(pair.work), "publishing", *error.args
                )
                self.failures.append(failure)
                continue
            readable.append(pair)
            item_tables.append(rows)
            metric_tables.append(own)
        items, metrics = self._derived_states(readable)
        self._write("items.parquet", items, lambda: pa.concat_tables(item_tables))
        self._write("metrics.parquet", metrics, lambda: self._with_groups(readable, metric_tables))
        return readable

    def _derived_states(self, pairs: Sequence[_Pair]) -> tuple[str, str]:
        """The states of items and metrics."""
        items = _state([pair.derived_state for pair in pairs])
        return items, _state(items, self.evaluation.groups, METRICS.names)

    def _with_groups(self, pairs: Sequence[_Pair], tables: Sequence[pa.Table]) -> pa.Table:
        """The metrics of all pairs; after those of a checkpoint's tasks, those of its groups."""
        from ptharness.publish.groups import group_table

        of_checkpoint: dict[str, dict[str, pa.Table]] = {}
        tags = {pair.work.checkpoint.name: pair.tags for pair in pairs}
        for pair, table in zip(pairs, tables, strict=True):
            of_checkpoint.setdefault(pair.work.checkpoint.name, {})[_task(pair.work)] = table
        whole = [METRICS.empty_table()]
        for checkpoint, tasks in of_checkpoint.items():
            groups = group_table(self.evaluation.groups, tasks, tags[checkpoint])
            whole += [*tasks.values(), groups]
        return pa.concat_tables(whole)

    def _are_current(self, pairs: Sequence[_Pair]) -> bool:
        items, metrics = self._derived_states(pairs)
        wanted = {pair.file: pair.state for pair in pairs}
        wanted |= {"items.parquet": items, "metrics.parquet": metrics}
        current = not any(self._is_stale(file, state) for file, state in wanted.items())
        if current:
            self.states |= wanted
        return current

    def _write_pair(self, pair: _Pair) -> tuple[pa.Table, pa.Table]:
        """Write a pair's samples if need be; its items and metrics."""
        # Not at the top: estimators import scipy, which a run with nothing to do is spared.
        from ptharness.publish import items, metrics

        header = pair.work.planned.prompts.header
        constants = {**pair.tags, "task": header.task}
        samples = self._published_samples(pair)
        try:
            if samples is None:
                samples = samples_table(pair.work, pair.tags, self.store)
            aggregates = self.store.read("metrics", pair.work.metrics.key)
        except StoreError as error:
            raise _UnreadableError(str(error)) from error
        rows = items.items_table(samples, constants)
        own = metrics.metrics_table(pair.work.planned, samples, rows, aggregates, constants)
        self._write(pair.file, pair.state, lambda: samples)
        return rows, own

    def _published_samples(self, pair: _Pair) -> pa.Table | None:
        """What items and metrics need of a samples file, if it is of the right state."""
        from ptharness.publish import items

        if self._is_stale(pair.file, pair.state):
            return None
        try:
            return pq.read_table(self.folder / pair.file, columns=items.COLUMNS, partitioning=None)
        except (OSError, pa.ArrowException):
            (self.folder / pair.file).unlink(missing_ok=True)
            return None

    def write_lineage_tables(self, pairs: Sequence[_Pair], evidence: Mapping[str, str]) -> None:
        """Write the checkpoints and documents tables."""
        lineage = self.evaluation.lineage
        rows = checkpoint_rows(lineage, self.prints, evidence)
        self._write(
            "checkpoints.parquet",
            _state(rows),
            lambda: pa.Table.from_pylist(rows, schema=CHECKPOINTS),
        )
        work = [pair.work for pair in pairs]
        state = _state(lineage.name, [(w.planned.prompt_set, documents_of(w)) for w in work])
        self._write("documents.parquet", state, lambda: documents_table(lineage, work))

    def write_manifest(self) -> None:
        """Copy the manifest as it was read, if it has changed."""
        path = self.folder / "manifest.yaml"
        text = self.evaluation.manifest_text.encode("utf-8", "replace")
        if not path.is_file() or path.read_bytes() != text:
            write_atomically(path, text)
            self.written.append("manifest.yaml")

    def _is_stale(self, file: str, state: str) -> bool:
        return state_of(self.folder / file) != state

    def _write(self, file: str, state: str, make: Callable[[], pa.Table]) -> None:
        """Make and write a table if the file is of another state.

        Making an Arrow array imports pandas, for seconds, which a run with nothing to do is
        spared.
        """
        self.states[file] = state
        if self._is_stale(file, state):
            write_table(self.folder / file, make(), state)
            self.written.append(file)


class _UnreadableError(Exception):
    """A unit that is in the store and cannot be read."""
