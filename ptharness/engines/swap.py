"""Can a checkpoint's weights take the place of those in a running engine?"""

from __future__ import annotations

from ptharness.engines.preflight import HEAD, Files, check_shape
from ptharness.errors import CheckpointError


def why_not(running: Files, files: Files) -> str:
    """Why `files` needs an engine of its own, or "" where it can be swapped in.

    A reload does not read the config again, so it must be the same in every key that
    decides what the weights compute.
    """
    if files.quantised or running.quantised:
        return "quantised weights are not swapped: vLLM repacks them when it starts"
    keys = sorted({*running.config, *files.config})
    different = [key for key in keys if running.config.get(key) != files.config.get(key)]
    if different:
        key = different[0]
        return (
            f"another architecture: config.json has {key} = {files.config.get(key)!r} where "
            f"the running engine has {running.config.get(key)!r}"
        )
    return ""


def check_same_tensors(running: Files, files: Files) -> None:
    """Names and shapes equal those of a checkpoint of the same config that did load.

    Raises `CheckpointError` naming the tensor: the engine would keep the old one in place of
    a missing one, and be spoilt by an unknown one.
    """
    expected = _without_tied_head(running)
    found = _without_tied_head(files)
    extra = sorted(set(found) - set(expected))
    for name in sorted(expected):
        if name not in found:
            hint = f"; it holds an unknown tensor {extra[0]!r} instead" if extra else ""
            raise CheckpointError(
                f"{files.directory}: tensor {name!r} is missing{hint}; save the checkpoint again"
            )
        check_shape(files, name, expected[name])
    if extra:
        raise CheckpointError(
            f"{files.file_of[extra[0]]}: tensor {extra[0]!r} has no place in the architecture "
            f"that {running.directory} has under the same config"
        )


def _without_tied_head(files: Files) -> dict[str, tuple[int, ...]]:
    shapes = dict(files.shapes)
    if files.tied:
        shapes.pop(HEAD, None)
    return shapes
