"""The charts' JavaScript: Vega, Vega-Lite and vega-embed as one script."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from importlib.metadata import version

from ptharness.errors import StoreError
from ptharness.fingerprint import cache_directory, digest, write_atomically

_ENTRY = "window.vegaEmbed = vegaEmbed;"


@cache
def chart_library() -> str:
    """The script, which vl-convert carries in pieces and puts together in two seconds.

    It is remembered between runs under the version that it was made of, with its digest: what was
    damaged there is made again.
    """
    import vl_convert

    name = digest(version("vl-convert-python"), _ENTRY)
    path = cache_directory() / f"charts-{name}.js"
    try:
        found, _, text = path.read_bytes().decode("utf-8").partition("\n")
        if found == digest(text):
            return text
    except (OSError, ValueError):
        pass
    text = vl_convert.javascript_bundle(_ENTRY)
    if "</script" in text.lower() or "<!--" in text:
        raise AssertionError("the script would end its own element")
    # A home that cannot be written costs two seconds per report, and nothing else.
    with suppress(StoreError):
        write_atomically(path, f"{digest(text)}\n{text}".encode())
    return text
