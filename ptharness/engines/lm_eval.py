"""Every model class of lm-eval as an engine: `lm_eval:NAME`.

`hf` has an engine of its own. A class of any other name is made here when it is asked for, as an
attribute of this module under lm-eval's name; so it can be registered as `module:attribute` and
pickled to a worker process like any other.
"""

from __future__ import annotations

from functools import cache

from ptharness.engines.lm_eval_api import ApiEngine
from ptharness.engines.lm_eval_class import ModelClassEngine
from ptharness.engines.lm_eval_names import APIS, other_classes
from ptharness.engines.lm_eval_text import TextEngine


@cache
def engine_class(name: str) -> type[ModelClassEngine]:
    """The engine of a model class. Raises `KeyError` for a name that lm-eval has not."""
    known = {model_class.name: model_class for model_class in other_classes()}[name]
    base = ApiEngine if name in APIS else TextEngine
    content = {"name": known.engine, "model_class": known, "__module__": __name__}
    return type(name, (base,), {**content, "__doc__": known.summary})


def __getattr__(name: str) -> type[ModelClassEngine]:
    try:
        return engine_class(name)
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
