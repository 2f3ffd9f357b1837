"""Reading a stage's options, with errors that name the legal values."""

from __future__ import annotations

from ptharness.errors import ManifestError, near_misses
from ptharness.methods import StageSettings

SURVEY = "arXiv:2604.07941 (the survey whose vocabulary this is)"


def choose(stage: StageSettings, option: str, legal: tuple[str, ...]) -> str:
    """The value of an option that is one of a few words; the first is the default.

    Raises `ManifestError` naming the legal values.
    """
    value = stage.options.get(option, legal[0])
    if value not in legal:
        raise ManifestError(
            f"option {option!r} of method {stage.method!r} is {value!r}"
            f"{near_misses(str(value), legal)}; legal: {', '.join(legal)}"
        )
    return str(value)
