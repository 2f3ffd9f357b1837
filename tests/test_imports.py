"""Every module of ours can be imported alone, in a process that has imported nothing else."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

import ptharness_methods

import ptharness

FORK = """
import importlib, os, sys, traceback
# Other people's libraries, once for all children: what is tested is the order of our own.
import click, jinja2, numpy, pandas, pluggy, pyarrow.dataset, pyarrow.parquet, pydantic, rich.table
import scipy.special, scipy.stats, yaml
failed = []
for name in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        try:
            importlib.import_module(name)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        heavy = [m for m in ("torch", "vllm", "lm_eval", "transformers", "datasets", "ray")
                 if m in sys.modules]
        if heavy:
            print(name, "imports", heavy, file=sys.stderr)
        os._exit(bool(heavy))
    if os.waitpid(child, 0)[1] != 0:
        failed.append(name)
print(failed)
"""


def test_every_module_imports_alone_and_lightly() -> None:
    names = [
        module.name
        for package in (ptharness, ptharness_methods)
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + ".")
    ]
    assert len(names) > 30
    assert not any(name.startswith("tests") for name in names)
    ran = subprocess.run(
        [sys.executable, "-c", FORK, *(n for n in names if not n.endswith("__main__"))],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent.parent,
    )
    assert ran.stdout == "[]\n", ran.stderr
