"""The program `perfmodel`: runs the command line and turns errors into one sentence and an exit code.

Exit codes: 0 done, 1 nothing meets the request, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import io
import os
import sys

import typer

from hwdb import PerfmodelError
from search.commands import command_tree

BAD_INPUT, INTERRUPTED = 2, 130


def main(arguments: list[str] | None = None) -> int:
    """Run the command line (default: `sys.argv`) and return its exit code. Errors of users are reported on stderr."""
    _replace_unencodable_characters()
    try:
        words = sys.argv[1:] if arguments is None else arguments
        app = command_tree(words[0] if words else "")
        code = app(args=arguments, prog_name="perfmodel", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except PerfmodelError as error:
        return _fail(str(error), error.exit_code)
    except typer.TyperException as error:
        return _fail(error.format_message(), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", INTERRUPTED)
    except (BrokenPipeError, SystemExit):  # whoever read our output has closed it; typer exits with SystemExit then
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)
        return 0
    except OSError as error:
        return _fail(f"{error.filename or 'file'}: {error.strerror or error}", BAD_INPUT)


def _fail(message: str, code: int) -> int:
    """Print a message on stderr and return the exit code."""
    from search.output import error_lines

    text = message if message.startswith("Usage:") else error_lines(f"error: {message}", sys.stderr)
    print(text, file=sys.stderr)
    return code


def _replace_unencodable_characters() -> None:
    """Let stdout and stderr replace characters that the terminal's encoding lacks (a dash, an arrow), not fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


if __name__ == "__main__":
    sys.exit(main())
