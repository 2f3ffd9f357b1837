"""The method families of arXiv 2604.07941, one file each, each a plugin like any third party's.

A file reads like the survey's entry on the family: names, what the stage learns from, what it
is meant to do and why, the literature, and what its training framework leaves behind.
"""
