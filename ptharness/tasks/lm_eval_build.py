"""Builds lm-eval's own task object from a configuration: the only door to its task code."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import random
from collections.abc import Iterator, Mapping
from typing import Any

from ptharness.errors import TaskError, near_misses
from ptharness.tasks.hub import cached_if_unreachable, data_set_of
from ptharness.tasks.yaml_sources import FunctionReference

OUTPUT_TYPES = ("generate_until", "multiple_choice", "loglikelihood", "loglikelihood_rolling")
_RANDOM_SEED, _NUMPY_SEED = 0, 1234
"""What `lm_eval.simple_evaluate` seeds before it builds tasks: some shuffle as they load."""


def check_supported(name: str, config: Mapping[str, Any]) -> None:
    """Raise `TaskError` for a task that cannot be run here. Light: reads settings only."""
    output_type = config.get("output_type", "generate_until")
    if "class" not in config and output_type not in OUTPUT_TYPES:
        raise TaskError(
            f"task {name!r}: output_type {output_type!r} is not supported "
            f"(supported: {', '.join(OUTPUT_TYPES)})"
        )
    if config.get("unsafe_code"):
        raise _unsafe(name)
    for metric in config.get("metric_list") or ():
        if _is_hub_code(metric) and _calls_metrics(config):
            raise TaskError(
                f"task {name!r}: metric {metric.get('metric')!r} has hf_evaluate set, which "
                "downloads code from the hub and runs it; use one of lm-eval's own metrics"
            )
    for key in ("doc_to_image", "doc_to_audio"):
        if config.get(key):
            raise TaskError(f"task {name!r}: {key} is set, and only text tasks are supported")


def _is_hub_code(metric: Any) -> bool:
    return isinstance(metric, Mapping) and bool(metric.get("hf_evaluate"))


def _calls_metrics(config: Mapping[str, Any]) -> bool:
    """Whether the functions of the metrics are called: for choices, lm-eval only aggregates."""
    if config.get("process_results") is not None:
        return False
    return "class" in config or config.get("output_type", "generate_until") == "generate_until"


def _without_hub_code(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with lm-eval's own metric of the name where the hub's is never called."""
    metrics = config.get("metric_list")
    if not metrics:
        return dict(config)
    own = [
        {key: value for key, value in metric.items() if key != "hf_evaluate"}
        if _is_hub_code(metric)
        else metric
        for metric in metrics
    ]
    return {**config, "metric_list": own}


def build(name: str, config: Mapping[str, Any]) -> Any:
    """lm-eval's task for a merged configuration. Runs the code that the configuration names.

    Raises `TaskError` where lm-eval is not installed, the data set cannot be had, or the
    task cannot be built or run here.
    """
    check_supported(name, config)
    resolved = _without_hub_code(config)
    try:
        with quiet(), _seeded(), cached_if_unreachable(config):
            from lm_eval.tasks import TaskManager

            _check_metrics(name, config)
            resolved = _resolve_functions(resolved)
            for key in ("group", "tag", "task_list"):
                resolved.pop(key, None)
            loaded = TaskManager(include_defaults=False).load(resolved)
    except TaskError:
        raise
    except ImportError as error:
        raise TaskError(
            f"task {name!r}: a library is missing ({one_line(error)}); `pip install "
            "'ptharness[tasks]'` installs what most tasks need"
        ) from error
    except Exception as error:
        raise _build_error(name, resolved, error) from error
    task = next(iter(loaded["tasks"].values()))
    _check_built(name, task)
    return task


def _check_built(name: str, task: Any) -> None:
    if getattr(task, "UNSAFE_CODE", False):
        raise _unsafe(name)
    if getattr(task, "MULTIMODAL", False):
        raise TaskError(f"task {name!r}: takes images or audio; only text tasks are supported")
    if task.OUTPUT_TYPE not in OUTPUT_TYPES:
        raise TaskError(
            f"task {name!r}: output_type {task.OUTPUT_TYPE!r} is not supported "
            f"(supported: {', '.join(OUTPUT_TYPES)})"
        )


def _unsafe(name: str) -> TaskError:
    return TaskError(
        f"task {name!r}: runs code that the model wrote (unsafe_code), and there is no sandbox "
        "for it yet; leave it out"
    )


def _check_metrics(name: str, config: Mapping[str, Any]) -> None:
    """A misspelt metric would make lm-eval look for code of that name on the hub."""
    from lm_eval.api import metrics  # noqa: F401  (fills the registry)
    from lm_eval.api.registry import metric_registry

    if config.get("process_results") is not None or config.get("class") is not None:
        return
    for entry in config.get("metric_list") or ():
        metric = entry.get("metric") if isinstance(entry, Mapping) else entry
        if not isinstance(metric, str):
            continue
        if metric not in metric_registry:
            known = [str(key) for key in metric_registry]
            raise TaskError(
                f"task {name!r}: metric_list: unknown metric {metric!r}{near_misses(metric, known)}"
            )


def _build_error(name: str, config: Mapping[str, Any], error: Exception) -> TaskError:
    reason = one_line(error)
    if _about_data(error):
        if "OfflineModeIsEnabled" in reason:
            reason = "the hub is not asked or does not answer, and the cache does not have it"
        return TaskError(
            f"task {name!r}: its data set {data_set_of(config)} cannot be had here ({reason}); "
            "download it where there is a network and carry its cache over (HF_HOME), or give the "
            "task local data_files"
        )
    return TaskError(f"task {name!r}: cannot be built: {reason}")


def _about_data(error: Exception) -> bool:
    modules = ("datasets.", "huggingface_hub.", "requests.", "httpx.")
    kinds = (ConnectionError, FileNotFoundError, TimeoutError)
    return isinstance(error, kinds) or type(error).__module__.startswith(modules)


def one_line(error: BaseException) -> str:
    """Type and message of an exception in one bounded line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def _resolve_functions(value: Any) -> Any:
    """Replace each `!function` by the function it names, importing its module."""
    if isinstance(value, FunctionReference):
        from lm_eval.tasks._yaml_loader import _import_func_in_yml

        return _import_func_in_yml(value.target, value.folder)
    if isinstance(value, Mapping):
        return {key: _resolve_functions(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolve_functions(item) for item in value]
    return value


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep lm-eval's progress bars and notices off the terminal."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    bars = os.environ.get("HF_DATASETS_DISABLE_PROGRESS_BARS")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    logger.setLevel(logging.ERROR)
    swallowed = io.StringIO()
    try:
        with contextlib.redirect_stderr(swallowed), contextlib.redirect_stdout(swallowed):
            yield
    finally:
        logger.setLevel(level)
        if bars is None:
            os.environ.pop("HF_DATASETS_DISABLE_PROGRESS_BARS", None)


@contextlib.contextmanager
def _seeded() -> Iterator[None]:
    import numpy as np

    python, numpy = random.getstate(), np.random.get_state()
    random.seed(_RANDOM_SEED)
    np.random.seed(_NUMPY_SEED)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
