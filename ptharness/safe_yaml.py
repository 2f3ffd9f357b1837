"""YAML from people we do not trust: plain values only, bounded, no key silently dropped.

PyYAML keeps the last of two equal keys, reads `1e-3` as text and `2024-01-01` as a date, and
hands out the same object for every alias, so that a few lines can describe billions of values.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

MOST_BYTES = 1_000_000
"""A larger file is refused unread."""

MOST_VALUES = 100_000
"""Values after aliases are expanded; more are refused before any is built."""


class YamlError(Exception):
    """What is wrong with a YAML text, in one line; `key` is the dotted key, if it has one."""

    def __init__(self, problem: str, key: str = "") -> None:
        self.problem, self.key = problem, key
        super().__init__(f"{key}: {problem}" if key else problem)


class _Loader(yaml.SafeLoader):
    """Plain values, with the floats of YAML 1.2 and without dates."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, rule) for tag, rule in rules if tag != "tag:yaml.org,2002:timestamp"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+\Z"),
    list("-+0123456789"),
)


def read_text(path: Path, most_bytes: int = MOST_BYTES) -> str:
    """A regular file's UTF-8 text. Raises `YamlError` if missing, too large or no text."""
    try:
        if path.is_dir():
            raise YamlError("is a folder, not a file")
        if not path.is_file():
            raise YamlError("no such file")
        with path.open("rb") as file:
            content = file.read(most_bytes + 1)
    except OSError as error:
        raise YamlError(f"cannot be read: {error.strerror or error}") from None
    if len(content) > most_bytes:
        raise YamlError(f"is larger than {most_bytes:,} bytes, which nobody writes by hand")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise YamlError(f"is not UTF-8 text (byte {error.start}); save it as UTF-8") from None


def parse_yaml(text: str) -> Any:
    """The value of a YAML text, None if it is empty. Raises `YamlError`."""
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check(node, "", set(), {})
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise YamlError(f"{where}not YAML: {_one_line(error.problem or error.context)}") from None
    except RecursionError:
        raise YamlError("is nested too deeply to be read; flatten it") from None
    except (
        yaml.YAMLError,
        ArithmeticError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
    ) as error:
        # PyYAML's own constructors raise all of these on a malformed `!!tag` value.
        raise YamlError(f"not YAML: {_one_line(error)}") from None
    finally:
        if loader is not None:
            loader.dispose()


def _one_line(problem: object) -> str:
    return " ".join(str(problem).split())


def _check(node: yaml.Node, key: str, above: set[int], sizes: dict[int, int]) -> int:
    """Refuse repeated keys, keys that are no text, cycles and bombs; return values within.

    A node is visited once however often it is aliased, so this takes time in proportion to
    the text, not to what the text expands to.
    """
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) in above:
        raise YamlError(f"{_line(node)}: the alias contains itself; write the value out", key)
    if id(node) in sizes:
        return sizes[id(node)]
    inside = above | {id(node)}
    size = 1
    if isinstance(node, yaml.SequenceNode):
        for position, child in enumerate(node.value):
            size += _check(child, f"{key}[{position}]", inside, sizes)
    elif isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for name, child in node.value:
            text = _key_text(name, key)
            child_key = f"{key}.{text}" if key else text
            line = name.start_mark.line + 1
            if text in seen and text != "<<":
                raise YamlError(
                    f"written twice, on line {seen[text]} and line {line}; remove or rename one",
                    child_key,
                )
            seen[text] = line
            size += 1 + _check(child, child_key, inside, sizes)
    if size > MOST_VALUES:
        raise YamlError(
            f"{_line(node)}: aliases expand to more than {MOST_VALUES:,} values; write them out",
            key,
        )
    sizes[id(node)] = size
    return size


def _key_text(name: yaml.Node, key: str) -> str:
    if isinstance(name, yaml.ScalarNode):
        if name.tag in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
            return str(name.value)
        kind = name.tag.rsplit(":", 1)[-1]
        raise YamlError(
            f"{_line(name)}: YAML reads the key {name.value!r} as {kind}, not as text; "
            f"write it in quotes: '{name.value}'",
            key,
        )
    raise YamlError(f"{_line(name)}: a key is a list or mapping; it must be text", key)


def _line(node: yaml.Node) -> str:
    return f"line {node.start_mark.line + 1}"
