"""The page put together, and written."""

from __future__ import annotations

import base64
import hashlib
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptharness.fingerprint import write_atomically
from ptharness.report.library import chart_library
from ptharness.report.tables import Tables

if TYPE_CHECKING:
    from ptharness.report.figures.base import Figure
    from ptharness.results import Results

REPORT_FILE = "report.html"


def write_report(results: Results) -> Path:
    """Write `report.html` into a results folder and return its path.

    One file that opens without a network, the same for the same tables. What a table would
    fill and is not there is said in its place.

    Raises `ResultsError` where a table cannot be read, `StoreError` where the page cannot be
    written.
    """
    path = results.path / REPORT_FILE
    write_atomically(path, render(results).encode("utf-8"))
    return path


def render(results: Results) -> str:
    """The page as text."""
    with ThreadPoolExecutor(1) as pool:
        # Where it has to be made it takes as long as all the rest, and needs nothing of it.
        library = pool.submit(chart_library)
        content = _content(Tables(results))
        scripts = {"library": library.result(), "own": _file("report.js")}
    style = _file("report.css")
    page: str = (
        _environment()
        .get_template("page.html.j2")
        .render(
            **content,
            style=_raw(style),
            scripts={name: _raw(text) for name, text in scripts.items()},
            policy=_policy(list(scripts.values()), style),
        )
    )
    # A half of a surrogate pair is shown as its escape; nothing else can be unencodable.
    return page


def _content(tables: Tables) -> dict[str, Any]:
    from ptharness.report.appendix import appendix
    from ptharness.report.certified import certified
    from ptharness.report.choices import (
        CHOICE_COLUMNS,
        UNITS,
        WHY,
        choice_tasks,
        has_choices_only,
    )
    from ptharness.report.figures.base import DASHES, SERIES, first_shown, series_order
    from ptharness.report.figures.cost import cost
    from ptharness.report.figures.decomposition import decomposition
    from ptharness.report.figures.distances import distances
    from ptharness.report.figures.pass_at_k import pass_at_k
    from ptharness.report.figures.provenance import provenance
    from ptharness.report.figures.retention import retention
    from ptharness.report.figures.sensitivity import sensitivity
    from ptharness.report.figures.turnover import turnover
    from ptharness.report.figures.waterfall import waterfall
    from ptharness.report.graph import draw
    from ptharness.report.groups import groups
    from ptharness.report.lineage import read_lineage
    from ptharness.report.stages import COLUMNS, stages
    from ptharness.report.strips import strips
    from ptharness.report.verdicts import Verdicts

    lineage = read_lineage(tables)
    verdicts = Verdicts(tables, lineage)
    stacked, cells = decomposition(tables, lineage)
    fall = waterfall(tables, lineage, verdicts)
    matrices, pairs, turnover_note = turnover(tables, lineage)
    small, small_note = sensitivity(tables, lineage)
    curves, curves_note = pass_at_k(tables, lineage)
    histograms, origins = provenance(tables, lineage)
    far = distances(tables, lineage)
    parted, parted_left_out = strips(tables, lineage)
    kept, spent = retention(tables, lineage), cost(tables, lineage)
    scoped = [stacked, cells, fall, *small, *matrices, *far.figures, kept, spent]
    order = series_order(lineage)
    return {
        "run": tables.run,
        "lineage": lineage,
        "graph": draw(lineage, verdicts),
        "verdicts_note": tables.missing("verdicts"),
        "edges_note": tables.missing("edges"),
        "stages": stages(tables, lineage, verdicts),
        "columns": COLUMNS,
        "choices": {
            "any": bool(choice_tasks(tables.run)),
            "only": has_choices_only(tables.run),
            "why": WHY,
            "units": UNITS,
            "columns": CHOICE_COLUMNS,
        },
        "histograms": histograms,
        "origins": origins,
        "origins_note": tables.unusable("provenance"),
        "decomposition": (stacked, cells),
        "waterfall": fall,
        "sensitivity": small,
        "sensitivity_note": small_note,
        "curves": curves,
        "curves_note": curves_note,
        "matrices": matrices,
        "pairs": pairs,
        "turnover_note": turnover_note,
        "distances": far,
        "strips": parted,
        "strips_left_out": parted_left_out,
        "strips_note": tables.unusable("token_likelihoods"),
        "retention": kept,
        "cost": spent,
        "certified": certified(tables, lineage),
        "appendix": appendix(tables),
        "groups": groups(tables),
        "series": [
            {
                "checkpoint": lineage.checkpoints[index],
                "colour": f"var(--series-{place % SERIES})",
                "dash": " ".join(map(str, DASHES[place // SERIES % len(DASHES)])),
                "shown": index in first_shown(lineage),
            }
            for place, index in enumerate(order)
        ],
        "scope": _first_scope(scoped),
    }


def _first_scope(figures: list[Figure]) -> int:
    """The scope to begin with: the first that any figure has something for."""
    return min((min(figure.scopes) for figure in figures if figure.scopes), default=0)


def _environment() -> Any:
    import jinja2

    from ptharness.report.escaping import as_json, block, known, shown

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ptharness.report"),
        autoescape=True,
        finalize=shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(data=as_json, block=block, known=known)
    return environment


def _file(name: str) -> str:
    return resources.files("ptharness.report").joinpath("templates", name).read_text("utf-8")


def _raw(text: str) -> Any:
    """A text of our own or of a library, not escaped."""
    from markupsafe import Markup

    return Markup(text)


def _policy(scripts: list[str], style: str) -> str:
    """Nothing may be loaded, and nothing runs but these very texts."""
    ours = " ".join(map(_source, scripts))
    return (
        f"default-src 'none'; script-src {ours}; style-src {_source(style)}; "
        "base-uri 'none'; form-action 'none'"
    )


def _source(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
    return f"'sha256-{digest}'"
