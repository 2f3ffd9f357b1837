"""What an lm-eval task YAML is made of, read without running any of it.

A task's YAML may include others, name Python functions (`!function utils.process_docs`) and
name local data files. All of these decide what the task does, so all of them go into its
digest; none of this imports lm_eval or runs a task's code.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ptharness.errors import TaskError
from ptharness.fingerprint import digest, file_digest

FILE_BUILDERS = frozenset(
    {"arrow", "audiofolder", "csv", "imagefolder", "json", "pandas", "parquet", "text", "xml"}
)
"""Values of `dataset_path` that are file formats: their `data_files` are local files."""

MOST_VALUES = 1_000_000
"""Values of one task's configuration after aliases are expanded."""

_SAFE_LOADER: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class FunctionReference:
    """`!function module.name` in a YAML file of `folder`: code that is named, not run."""

    target: str
    folder: Path

    @property
    def file(self) -> Path:
        """The Python file that it means: beside the YAML, else the importable module's.

        A module that is not found gives its bare name, so that it can still be shown.
        """
        module = self.target.rpartition(".")[0]
        local = self.folder / f"{module.replace('.', '/')}.py"
        if local.is_file():
            return local.resolve()
        top = module.partition(".")[0]
        try:
            found = importlib.util.find_spec(top) if top else None
        except (ImportError, ValueError):
            found = None
        if found is None or not found.has_location:
            return Path(f"{module}.py")
        if not found.submodule_search_locations:
            return Path(str(found.origin))
        below = Path(found.submodule_search_locations[0], *module.split(".")[1:])
        package = below / "__init__.py"
        return package if package.is_file() else below.with_suffix(".py")


@dataclass(frozen=True)
class Source:
    """A task's configuration and everything on disk that it is made from.

    `declared` is the configuration as written, `config` the same with absolute names of
    local data. `data` maps a key (`dataset_kwargs.data_files.test`) to the files it names.
    """

    declared: Mapping[str, Any]
    config: Mapping[str, Any]
    yamls: tuple[Path, ...] = ()
    code: tuple[Path, ...] = ()
    data: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)

    def digest(self) -> str:
        """Changes with any setting and the content of any file, wherever the files are."""
        return digest(
            plain(self.declared),
            [[path.name, file_digest(path)] for path in self.yamls],
            code_digests(self.code),
            {key: [file_digest(path) for path in paths] for key, paths in self.data.items()},
            hub_revision(self.declared.get("dataset_path")),
        )


def check_size(config: Mapping[str, Any], path: Path) -> None:
    """Raise `TaskError` where aliases make a configuration endless or enormous."""
    waiting: list[Any] = [config]
    for _ in range(MOST_VALUES):
        if not waiting:
            return
        value = waiting.pop()
        if isinstance(value, Mapping):
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value
    raise TaskError(f"{path}: its aliases expand to more than {MOST_VALUES:,} values")


def plain(value: Any) -> Any:
    """A configuration as JSON would have it; a function as its name, without a folder."""
    if isinstance(value, FunctionReference):
        return ["!function", value.target]
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def code_digests(files: Sequence[Path]) -> list[list[str]]:
    """Name and content digest of Python files; a missing one by its name alone."""
    return [[path.name, file_digest(path) if path.is_file() else ""] for path in files]


def functions(value: Any) -> Iterator[FunctionReference]:
    """Every function that a configuration names, however deep."""
    if isinstance(value, FunctionReference):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from functions(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from functions(item)


def code_files(value: Any) -> tuple[Path, ...]:
    """The Python files that loading a configuration may run: those it names, and those beside
    its own, which they can import.
    """
    references = list(functions(value))
    named = [reference.file for reference in references]
    folders = [r.file.parent for r in references if r.file.parent == r.folder.resolve()]
    beside = [path for folder in folders for path in sorted(folder.glob("*.py"))]
    return tuple(dict.fromkeys([*named, *beside]))


def parse_yaml(path: Path) -> dict[str, Any]:
    """One YAML file as it stands, `!function` unresolved. Raises `TaskError`."""

    class Loader(_SAFE_LOADER):  # type: ignore[misc]
        pass

    def reference(loader: Any, node: Any) -> FunctionReference:
        return FunctionReference(str(loader.construct_scalar(node)), path.parent)

    Loader.add_constructor("!function", reference)
    try:
        with path.open("rb") as file:
            config = yaml.load(file, Loader=Loader)
    except OSError as error:
        raise TaskError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise TaskError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(config, dict):
        raise TaskError(f"{path}: a task file holds keys and values, not {type(config).__name__}")
    return config


def read_config(
    path: Path, including: tuple[Path, ...] = (), remembered: dict[Path, Any] | None = None
) -> tuple[dict[str, Any], tuple[Path, ...]]:
    """A YAML with its includes laid under it, as lm-eval merges them, and the files read.

    `remembered` saves reading shared templates again. Raises `TaskError` for a file that is
    missing, broken or includes itself.
    """
    path = path.resolve()
    if path in including:
        circle = " -> ".join(file.name for file in (*including, path))
        raise TaskError(f"{including[0]}: include: the files include each other: {circle}")
    if remembered is not None and path in remembered:
        config, files = remembered[path]
        return dict(config), files
    own = parse_yaml(path)
    includes = own.pop("include", None) or []
    merged: dict[str, Any] = {}
    files = (path,)
    for name in includes if isinstance(includes, list) else [includes]:
        included = path.parent / str(name)
        if not included.is_file():
            raise TaskError(f"{path}: include: {name}: there is no such file")
        config, more = read_config(included, (*including, path), remembered)
        config.pop("task_list", None)
        merged |= config
        files += more
    merged |= own
    if remembered is not None and including:
        remembered[path] = (dict(merged), files)
    return merged, files


def assemble(config: Mapping[str, Any], yamls: tuple[Path, ...], name: str) -> Source:
    """A source from a merged configuration: its code found, its data files made absolute.

    Relative data files are taken against the folder of the first YAML, then those of the
    included ones, then the working folder. Raises `TaskError` naming file and key.
    """
    folders = [*dict.fromkeys(path.parent for path in yamls), Path.cwd()]
    finder = _DataFinder(yamls[0] if yamls else Path(name), folders)
    localised = finder.localise(config)
    return Source(config, localised, yamls, code_files(config), finder.found)


class _DataFinder:
    def __init__(self, yaml_file: Path, folders: Sequence[Path]) -> None:
        self.yaml_file, self.folders = yaml_file, folders
        self.found: dict[str, tuple[Path, ...]] = {}

    def localise(self, config: Mapping[str, Any]) -> dict[str, Any]:
        changed = dict(config)
        source = config.get("dataset_path")
        kwargs = config.get("dataset_kwargs")
        if not isinstance(source, str):
            return changed
        if source not in FILE_BUILDERS:
            if _looks_local(source) or (self.folders[0] / source).is_dir():
                changed["dataset_path"] = str(self._folder(source, "dataset_path"))
            return changed
        if isinstance(kwargs, Mapping):
            changed["dataset_kwargs"] = kwargs = dict(kwargs)
            if kwargs.get("data_dir"):
                directory = self._folder(kwargs["data_dir"], "dataset_kwargs.data_dir")
                kwargs["data_dir"] = str(directory)
            elif kwargs.get("data_files"):
                kwargs["data_files"] = self._files(
                    kwargs["data_files"], "dataset_kwargs.data_files"
                )
        return changed

    def _files(self, value: Any, key: str) -> Any:
        if isinstance(value, Mapping):
            return {split: self._files(item, f"{key}.{split}") for split, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._files(item, key) for item in value]
        if not isinstance(value, str) or "://" in value:
            return value
        for folder in self.folders:
            matches = _matches(folder, value)
            if matches:
                self.found[key] = self.found.get(key, ()) + matches
                return str((folder / value).resolve()) if len(matches) == 1 else str(folder / value)
        raise self._missing(value, key)

    def _folder(self, value: str, key: str) -> Path:
        for folder in self.folders:
            directory = (folder / Path(value).expanduser()).resolve()
            if directory.is_dir():
                self.found[key] = tuple(sorted(p for p in directory.rglob("*") if p.is_file()))
                return directory
        raise self._missing(value, key)

    def _missing(self, value: str, key: str) -> TaskError:
        where = ", ".join(str(folder) for folder in self.folders)
        return TaskError(
            f"{self.yaml_file}: {key}: {value}: there is no such file; looked in {where}"
        )


def _matches(folder: Path, pattern: str) -> tuple[Path, ...]:
    path = folder / Path(pattern).expanduser()
    if path.is_file():
        return (path.resolve(),)
    if not any(character in pattern for character in "*?["):
        return ()
    anchor = Path(path.anchor)
    return tuple(sorted(p for p in anchor.glob(str(path.relative_to(anchor))) if p.is_file()))


def _looks_local(path: str) -> bool:
    return path.startswith((".", "/", "~"))


def hub_revision(dataset_path: Any) -> str:
    """The commit of a hub data set in the local cache, empty where it is not cached."""
    if not isinstance(dataset_path, str) or dataset_path in FILE_BUILDERS:
        return ""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    hub = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    reference = hub / f"datasets--{dataset_path.replace('/', '--')}" / "refs" / "main"
    try:
        return reference.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
