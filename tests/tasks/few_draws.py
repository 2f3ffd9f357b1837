"""A plugin that lets scoring processes bootstrap with few draws, as the reference then does too."""

import sys

from ptharness.hookspecs import hookimpl
from ptharness.registry import Registry
from ptharness.tasks import lm_eval_aggregation

DRAWS = 200

_program = sys.modules["__main__"].__spec__
if _program is not None and _program.name == "ptharness.processes":
    lm_eval_aggregation.BOOTSTRAP_ITERATIONS = DRAWS


@hookimpl
def ptharness_register_analyses(registry: Registry) -> None:
    """Nothing: a plugin has to have a hook."""
