"""The command line. One command is one file; `main` turns errors into a line and a code.

Exit codes: 0 all done; 1 some units failed (named); 2 wrong use or wrong input; 130
interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from ptharness import __version__
from ptharness.cli.group import CommandGroup, session_of
from ptharness.errors import PtharnessError
from ptharness.text import safe

INTERRUPTED = 130
WRONG_USE = 2
NO_ARGUMENTS = getattr(click.exceptions, "NoArgsIsHelpError", ())
"""What click raises where a group gets no arguments; before 8.2 it printed the help itself."""


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--plugin",
    multiple=True,
    is_eager=True,
    metavar="MODULE_OR_FILE",
    help="Load a plugin for this command: a module, or a Python file. Repeatable.",
)
@click.option(
    "--no-plugin",
    multiple=True,
    is_eager=True,
    metavar="NAME",
    help="Leave out a plugin that `ptharness plugins` lists. Repeatable.",
)
@click.version_option(__version__, message="ptharness %(version)s")
@click.pass_context
def application(
    context: click.Context, plugin: tuple[str, ...], no_plugin: tuple[str, ...]
) -> None:
    """Evaluate every checkpoint of a post-training lineage, and measure what each stage did.

    \b
    ptharness check lineage.yaml            is the manifest sound?
    ptharness run lineage.yaml -o results   evaluate, publish tables
    ptharness COMMAND --help                a command's options, with an example
    """
    del plugin, no_plugin  # read from the context, where --help finds them too
    session_of(context)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Handled errors become one line on stderr; any other exception is a bug and shows its
    traceback.
    """
    try:
        result = application.main(arguments, prog_name="ptharness", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except PtharnessError as error:
        return _fail(str(error), error.exit_code)
    except NO_ARGUMENTS as error:
        error.show()
        return WRONG_USE
    except click.UsageError as error:
        return _fail(error.format_message() + _hint(error), WRONG_USE)
    except click.ClickException as error:
        return _fail(error.format_message(), WRONG_USE)
    except (KeyboardInterrupt, click.Abort):
        return _fail("interrupted; the same command goes on where it stopped", INTERRUPTED)
    except BrokenPipeError:
        # The reader (`head`, a pager) has what it wants; Python would complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _hint(error: click.UsageError) -> str:
    if error.ctx is None:
        return ""
    program, _, command = error.ctx.command_path.partition(" ")
    if isinstance(error, click.NoSuchOption) and error.option_name in ("--plugin", "--no-plugin"):
        return f" It stands before the command: `{program} {error.option_name} ... {command}`"
    return f" (`{error.ctx.command_path} --help` explains)"


def _fail(message: str, code: int) -> int:
    click.echo(f"error: {safe(message)}", err=True)
    return code
