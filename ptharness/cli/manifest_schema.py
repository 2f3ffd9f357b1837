"""`ptharness manifest-schema`: the JSON Schema by which editors complete a manifest."""

from __future__ import annotations

import click

from ptharness.cli.output import print_json


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Does nothing: the schema is JSON anyway.")
def manifest_schema(as_json: bool) -> int:
    """Print the JSON Schema of a manifest.

    \b
    Example:
        ptharness manifest-schema > lineage.schema.json
    and as the first line of lineage.yaml, for editors that use yaml-language-server:
        # yaml-language-server: $schema=lineage.schema.json
    """
    del as_json
    from ptharness.manifest import manifest_schema as schema

    print_json(schema())
    return 0
