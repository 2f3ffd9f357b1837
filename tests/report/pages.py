"""A report taken apart: its elements, its texts, its data blocks, its tables."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from html.parser import HTMLParser
from typing import Any

VOID = frozenset({"meta", "input", "br", "hr", "img", "link", "base"})


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    children: list[Element | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(c if isinstance(c, str) else c.text for c in self.children)

    @property
    def words(self) -> str:
        """The text with runs of blanks as one; the blank within an interval is one too."""
        return " ".join(self.text.split())

    def every(self, tag: str = "") -> list[Element]:
        """All elements below, in order."""
        found: list[Element] = []
        for child in self.children:
            if isinstance(child, Element):
                if not tag or child.tag == tag:
                    found.append(child)
                found += child.every(tag)
        return found


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Element(tag, {n: v or "" for n, v in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> within <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


class Page:
    """The parsed report. Parsing fails where elements do not nest."""

    def __init__(self, html: str) -> None:
        self.html = html
        reader = _Reader()
        reader.feed(html)
        reader.close()
        assert len(reader.open) == 1
        self.root = reader.root

    def section(self, name: str) -> Element:
        return next(e for e in self.root.every("section") if e.attributes["id"] == name)

    @cached_property
    def scripts(self) -> list[Element]:
        """What would run."""
        return [e for e in self.root.every("script") if "type" not in e.attributes]

    @cached_property
    def data(self) -> dict[str, Any]:
        """Data blocks under their names."""
        return {
            element.attributes["id"].removeprefix("data-"): json.loads(element.text)
            for element in self.root.every("script")
            if element.attributes.get("type") == "application/json"
        }

    def rows(self, figure: str) -> list[dict[str, Any]]:
        """All rows of a chart."""
        datasets = self.data[figure]["spec"]["datasets"]
        return [row for rows in datasets.values() for row in rows]

    def table(self, caption: str) -> list[list[str]]:
        """The body of the table whose caption begins so, cell by cell."""
        found = next(
            table
            for table in self.root.every("table")
            if table.every("caption")[0].words.startswith(caption)
        )
        return [
            [c.words for c in row.children if isinstance(c, Element)]
            for row in found.every("tbody")[0].every("tr")
        ]
