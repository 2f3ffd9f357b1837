"""Reading a stage's options, with errors that name the legal values; citing the survey."""

from __future__ import annotations

from collections.abc import Mapping

from ptharness.errors import ManifestError, near_misses
from ptharness.methods import StageSettings


def choose(stage: StageSettings, option: str, legal: tuple[str, ...], default: str = "") -> str:
    """The value of an option that is one of a few words; unset, `default` or the first.

    Raises `ManifestError` naming the legal values.
    """
    value = stage.options.get(option, default or legal[0])
    if value not in legal:
        raise ManifestError(
            f"option {option!r} of method {stage.method!r} is {value!r}"
            f"{near_misses(str(value), legal)}; legal: {', '.join(legal)}"
        )
    return str(value)


def survey(place: str) -> str:
    """A place in the survey whose vocabulary this is: `survey("section 4.1, table 3")`."""
    return f"arXiv:2604.07941 ({place})"


def papers_of(stage: StageSettings, papers: Mapping[str, str]) -> tuple[str, ...]:
    """The paper of the name that the manifest used; all of the family's for its own name."""
    if stage.method in papers:
        return (papers[stage.method],)
    return tuple(dict.fromkeys(papers.values()))
