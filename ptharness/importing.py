"""Importing a plugin from a file, under a name that every process gives it alike."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from ptharness.errors import PluginError


def file_module_name(path: Path) -> str:
    """The module name of a plugin file; equal in parent and child, so pickles resolve."""
    return f"ptharness_plugin_{path.stem}"


def import_file(path: Path) -> ModuleType:
    """Import a Python file as a plugin module, once. Raises `PluginError` naming the file."""
    name = file_module_name(path)
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise PluginError(f"{path}: not a Python file that can be imported as a plugin")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if not isinstance(error, Exception | SystemExit):
            raise
        raise PluginError(f"{path}: failed to import: {type(error).__name__}: {error}") from error
    return module
