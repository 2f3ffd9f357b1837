"""Citing the survey and the papers of a family."""

from __future__ import annotations

from collections.abc import Mapping

from ptharness.methods import StageSettings


def survey(place: str) -> str:
    """A place in the survey whose vocabulary this is: `survey("section 4.1, table 3")`."""
    return f"arXiv:2604.07941 ({place})"


def papers_of(stage: StageSettings, papers: Mapping[str, str]) -> tuple[str, ...]:
    """The paper of the name that the manifest used; all of the family's for its own name."""
    if stage.method in papers:
        return (papers[stage.method],)
    return tuple(dict.fromkeys(papers.values()))
