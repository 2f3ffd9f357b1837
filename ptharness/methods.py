"""What a method plugin is: it declares what a kind of stage is, and may recognise its output."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ptharness.errors import ManifestError
from ptharness.taxonomy import Interface, Provenance, Role


@dataclass(frozen=True)
class StageSettings:
    """What the manifest says of a stage: all that a declaration may depend on.

    `method` is the name the manifest used (an alias, often); `options` are the further
    keys of `method: {name: ..., ...}`.
    """

    method: str
    teacher: str | None = None
    trajectories: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Declaration:
    """What a method states about a stage, with the reason and the literature."""

    provenance: Provenance
    interface: Interface
    roles: tuple[Role, ...]
    reason: str
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """What in a checkpoint's folder speaks for a method; `strength` from 0 to 1 ranks it."""

    method: str
    strength: float
    found: str


class Method(ABC):
    """Base of every method plugin: one family of stages."""

    name: ClassVar[str]
    title: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]] = ()
    options: ClassVar[tuple[str, ...]] = ()
    """Keys that `method: {name: ..., key: value}` may carry."""

    @abstractmethod
    def declare(self, stage: StageSettings) -> Declaration:
        """Provenance, interface and roles of a stage with these settings."""

    def detect(self, directory: Path) -> Evidence | None:  # noqa: ARG002
        """What in `directory` says that this method made it; None if nothing does."""
        return None


def told_by_detect(method: Method) -> str:
    """The docstring of a method's own `detect`, for those who ask how it recognises a folder.

    Empty where there is none: the base's says nothing of this method.
    """
    told = inspect.getdoc(type(method).detect) or ""
    return "" if told == inspect.getdoc(Method.detect) else told


def choose(stage: StageSettings, option: str, legal: tuple[str, ...], default: str = "") -> str:
    """The value of an option that is one of a few words; unset, `default` or the first.

    Raises `ManifestError` naming the legal values.
    """
    value = stage.options.get(option, default or legal[0])
    if value not in legal:
        raise ManifestError(
            f"option {option!r} of method {stage.method!r} is {value!r}; legal: {', '.join(legal)}"
        )
    return str(value)
