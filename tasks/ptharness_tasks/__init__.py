"""Evaluation tasks that come with ptharness, in lm-eval's YAML format, with their data."""

from __future__ import annotations

from pathlib import Path

__all__ = ["TASKS"]

TASKS = Path(__file__).parent
