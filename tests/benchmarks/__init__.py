"""Benchmarks: each compares two things in one run, on the same work. Not tests.

`make bench` runs all; `python -m tests.benchmarks.NAME` one. Quiet machine, please.
"""
