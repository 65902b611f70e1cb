"""The program `perfmodel`: runs the command line and turns errors into one sentence and an exit code.

Exit codes: 0 done, 1 nothing meets the request, 2 bad input, 70 a defect of perfmodel, 130 interrupted.
"""

from __future__ import annotations

import atexit
import errno
import gc
import io
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import typer

from hwdb import PerfmodelError, infile
from search.commands import command_tree

BAD_INPUT, DEFECT, INTERRUPTED = 2, 70, 130
#: Flag, and variable of the environment, that show where an unforeseen error comes from.
TRACEBACK, TRACEBACK_VARIABLE = "--traceback", "PERFMODEL_TRACEBACK"
#: Characters of an error message; what is beyond (a value of a megabyte) is cut out of its middle.
LONGEST_MESSAGE = 2000
#: Objects after which Python looks for cycles among them. Chosen: more than a plan makes, which has next to none.
COLLECT_AFTER = 200_000
_ROOT = Path(__file__).resolve().parent
#: Folders and files of this program, for the place of an unforeseen error.
_OWN = tuple(str(_ROOT / name) for name in (f"hwdb{os.sep}", f"perfmodel{os.sep}", f"search{os.sep}", "cli.py"))


class Closed(io.TextIOBase):
    """Stand in for a standard output that was closed before the program began: what is written to it is refused."""

    def write(self, _: str, /) -> int:
        """Raise `OSError` that says what to do."""
        raise OSError(errno.EBADF, "closed, so the answer cannot be printed; redirect it to a file", "standard output")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line (default: `sys.argv`) and return its exit code. Errors of users are reported on stderr."""
    _stand_in_for_closed_streams()
    _replace_unencodable_characters()
    gc.set_threshold(COLLECT_AFTER)
    if arguments is None:  # the process ends with this run
        atexit.register(gc.freeze)  # Python would look for cycles among all objects before it ends
    words = sys.argv[1:] if arguments is None else arguments
    shown = TRACEBACK in words or os.environ.get(TRACEBACK_VARIABLE, "") not in ("", "0")
    stdout = sys.stdout
    try:
        with infile.recorded():
            return _run([word for word in words if word != TRACEBACK], stdout)
    except MemoryError:
        return _fail("the memory of this machine does not suffice; give a smaller file or fewer values", BAD_INPUT)
    except Exception as error:  # noqa: BLE001 - the last resort: whatever nobody foresaw ends in a sentence
        if shown:
            traceback.print_exception(error)
        return _fail(_defect(error), DEFECT)
    finally:
        sys.stdout = stdout  # typer wraps it where whoever reads it has closed it


def _run(words: Sequence[str], stdout: TextIO) -> int:
    """Run the command that `words` name and return the exit code; errors that are foreseen are reported."""
    try:
        app = command_tree(words[0] if words else "")
        code = app(args=list(words), prog_name="perfmodel", standalone_mode=False)
        sys.stdout.flush()
        return _fail("interrupted", code) if code == INTERRUPTED else code if isinstance(code, int) else 0
    except PerfmodelError as error:
        return _fail(str(error), error.exit_code)
    except typer.TyperException as error:
        return _fail(_with_way_out(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", INTERRUPTED)
    except (BrokenPipeError, SystemExit):  # whoever read our output has closed it; typer exits with SystemExit then
        _discard(stdout)
        _discard(sys.stderr)
        return 0
    except OSError as error:
        _discard(stdout)
        return _fail(f"{error.filename or 'output'}: {error.strerror or error}", BAD_INPUT)


def _with_way_out(error: typer.TyperException) -> str:
    """Return the message about the use of a command, with the words that show its help where it says no way out."""
    message, context = error.format_message(), getattr(error, "ctx", None)
    bare = message.startswith(("Missing ", "No such command", "Got unexpected", "Option "))
    if not bare or context is None or "Did you mean" in message:
        return message
    return f"{message.rstrip('.')}; {context.command_path} --help shows what is taken"


def _discard(stream: TextIO) -> None:
    """Send to nowhere what is left to be written to `stream`, so that Python does not fail again when it ends."""
    if stream is None or stream not in (sys.__stdout__, sys.__stderr__):  # whoever took their place decides
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, stream.fileno())
    except (OSError, ValueError):
        return
    finally:
        os.close(nowhere)


def _defect(error: Exception) -> str:
    """Return the sentence for an error that nobody foresaw: what it is, where, and what to do about it."""
    place = "an unknown place"
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename.startswith(_OWN):
            place = f"{Path(frame.filename).relative_to(_ROOT).as_posix()}:{frame.lineno}"
    said = str(error).strip().partition("\n")[0]
    return (
        f"{type(error).__name__} at {place}{said and ': ' + said}. This is a defect of perfmodel, not of your input: "
        f"please report this line, the command and its files where you got perfmodel from; {TRACEBACK} shows more"
    )


def _fail(message: str, code: int) -> int:
    """Print a message on stderr and return the exit code."""
    from search.output import error_lines

    if len(message) > LONGEST_MESSAGE:
        half = LONGEST_MESSAGE // 2
        message = f"{message[:half]} [...] {message[-half:]}"
    text = message if message.startswith("Usage:") else error_lines(f"error: {message}", sys.stderr)
    try:
        print(text, file=sys.stderr, flush=True)
    except BrokenPipeError:  # as with `2>&1 | head`
        _discard(sys.stderr)
    return code


def _stand_in_for_closed_streams() -> None:
    """Give streams that were closed before the program began a stand-in; files opened later do not take their place."""
    if sys.stdout is not None and sys.stderr is not None:
        return
    held = [os.open(os.devnull, os.O_RDWR)]
    while held[-1] <= 2:  # 0, 1 and 2 are the standard streams
        held.append(os.open(os.devnull, os.O_RDWR))
    os.close(held[-1])
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - open as long as the program runs
    if sys.stdout is None:
        sys.stdout = Closed()


def _replace_unencodable_characters() -> None:
    """Let stdout and stderr replace characters that the terminal's encoding lacks (a dash, an arrow), not fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


if __name__ == "__main__":
    sys.exit(main())
