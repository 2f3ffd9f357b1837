"""The page in a real browser: it draws, it asks for nothing, and nothing foreign runs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from playwright.sync_api import Page as Tab

Folders = Callable[[str], Path]

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DESKTOP, PHONE = 1280, 390

UNDRAWN = """() => [...document.querySelectorAll(".chart")]
    .filter((chart) => chart.getClientRects().length)
    .filter((chart) => !chart.querySelector("svg .role-mark :is(path, text, line, rect)"))
    .map((chart) => chart.dataset.figure)"""
TOO_WIDE = """() => [...document.querySelectorAll(".chart")]
    .filter((chart) => chart.getClientRects().length)
    .filter((chart) => chart.querySelector("svg").getBoundingClientRect().right >
        chart.getBoundingClientRect().right + 1)
    .map((chart) => chart.dataset.figure)"""
CUT = """() => [...document.querySelectorAll("#distances svg text, #retention svg text")]
    .filter((text) => text.getClientRects().length && text.closest(".chart").offsetParent)
    .filter((text) => text.getBoundingClientRect().right >
        text.closest(".chart").getBoundingClientRect().right + 2)
    .map((text) => text.textContent)"""
MOST_SCOPES = 5
COLOURS = """() => [...document.querySelectorAll("#figure-decomposition svg .mark-rect path")]
    .map((mark) => getComputedStyle(mark).fill)
    .concat(getComputedStyle(document.body).backgroundColor)"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        remedy = "chromium is not installed: `make browser`, or apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(remedy)
        pytest.skip(remedy)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))
        yield opened
        opened.close()


@pytest.fixture
def visit(browser: Browser, folder: Folders) -> Iterator[Callable[..., tuple[Tab, list[str]]]]:
    """`visit(kind, width)`: the drawn page, and all that it asked for, logged or threw."""
    contexts = []

    def go(kind: str, width: int = DESKTOP, **options: Any) -> tuple[Tab, list[str]]:
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        tab = context.new_page()
        noted: list[str] = []
        own = (folder(kind) / "report.html").as_uri()
        tab.on("request", lambda r: None if r.url == own else noted.append(f"asked {r.url}"))
        tab.on("console", lambda m: noted.append(f"{m.type} {m.text}"))
        tab.on("pageerror", lambda error: noted.append(f"threw {error}"))
        tab.goto(own)
        tab.wait_for_function("document.documentElement.dataset.drawn === 'all'", timeout=60_000)
        return tab, noted

    yield go
    for context in contexts:
        context.close()


@pytest.mark.parametrize(
    ("kind", "width"),
    [
        ("hostile", DESKTOP),
        ("hostile", PHONE),
        ("zoo", DESKTOP),
        ("zoo", PHONE),
        ("names", DESKTOP),
        ("undefined", PHONE),
        ("choices", PHONE),
        ("alone", DESKTOP),
        ("whole", DESKTOP),
        ("one task", DESKTOP),
        ("long", DESKTOP),
        ("long", PHONE),
    ],
)
def test_it_draws_quietly_and_fits(visit: Any, kind: str, width: int) -> None:
    tab, noted = visit(kind, width)
    assert tab.evaluate(UNDRAWN) == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    tab.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    tab.wait_for_function(f"({UNDRAWN})().length === 0")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate(TOO_WIDE) == []
    for scope in range(min(tab.locator("#scope option").count(), MOST_SCOPES)):
        tab.select_option("#scope", index=scope)
        tab.wait_for_function("document.documentElement.dataset.drawn === 'all'")
        assert tab.evaluate(CUT) == []
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate("window.planted") is None
    assert noted == []


def test_choices_are_followed(visit: Any) -> None:
    tab, noted = visit("hostile")
    marks = "#figure-retention svg .mark-text.role-mark text"
    before = tab.eval_on_selector_all(marks, "marks => marks.map((mark) => mark.textContent)")
    tab.select_option("#scope", label="rot")
    tab.wait_for_function(
        "before => JSON.stringify([...document.querySelectorAll"
        f"('{marks}')].map((mark) => mark.textContent)) !== before",
        arg=str(before).replace("'", '"').replace(", ", ","),
    )
    assert tab.inner_text("#retention [data-scope-name]") == "rot"
    # Where a task has nothing to show, its place says so; and all comes back.
    tab.select_option("#scope", label="swp")
    assert tab.inner_text("#figure-retention .nothing") == "needs n >= 2 k samples"
    assert not tab.is_visible("#figure-retention .chart")
    tab.select_option("#scope", index=0)
    assert tab.is_visible("#figure-retention .chart svg")
    lines = "#figure-pass-at-k-1 svg .mark-line path"
    shown = tab.locator(lines).count()
    tab.check("#curves input[value='4']")
    tab.wait_for_function(f"document.querySelectorAll('{lines}').length === {shown + 1}")
    assert tab.is_checked("#cost input[value='4']")
    tab.select_option("#compare-source", label="sft")
    tab.select_option("#compare-target", label="dpo")
    assert tab.inner_text("[data-quantity=kept]").replace("\u00a0", " ") == "50.0 [47.0, 53.0]"
    bar = tab.locator("#figure-decomposition svg .mark-rect.role-mark path").first
    bar.scroll_into_view_if_needed()
    tab.wait_for_timeout(100)  # scrolling hides what hovering showed
    bar.hover()
    tab.wait_for_selector("#tip:not([hidden])")
    assert "95 % interval [" in tab.inner_text("#tip")
    assert noted == []


def test_dark_and_print_have_their_colours(visit: Any) -> None:
    tab, noted = visit("whole")
    light = tab.evaluate(COLOURS)
    tab.emulate_media(color_scheme="dark")
    dark = tab.evaluate(COLOURS)
    assert len(light) == len(dark) > 10
    assert not set(light) & set(dark)
    # On paper it is light whatever the screen is.
    tab.emulate_media(media="print", color_scheme="dark")
    assert tab.evaluate(COLOURS) == light
    assert not tab.is_visible("nav")
    assert tab.pdf(format="A4").startswith(b"%PDF")
    assert noted == []
