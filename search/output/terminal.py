"""Write to the terminal: its width, lines, and progress bars."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from search.output.clean_text import printable
from search.output.wrapping import wrapped

if TYPE_CHECKING:
    from rich.console import Console

#: Work that ends sooner draws no progress bar, seconds.
SECONDS_BEFORE_A_BAR = 1.0
#: Characters per line where output goes to a file or a pipe and COLUMNS is not set.
WIDTH_WITHOUT_TERMINAL = 200
#: Lines of a terminal that does not state its size; nothing depends on it.
HEIGHT_WITHOUT_TERMINAL = 50
#: Variables of the environment by which rich takes a file for a terminal (rich docs, "Console API").
AS_TERMINAL = ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
#: Columns from one tab stop to the next.
TAB = 8


def console_on(stream: TextIO) -> Console:
    """Return a rich console that writes to `stream`, without highlighting."""
    from rich.console import Console

    size = (WIDTH_WITHOUT_TERMINAL, HEIGHT_WITHOUT_TERMINAL)
    width = None if stream.isatty() else shutil.get_terminal_size(size).columns
    return Console(file=stream, width=width, highlight=False, soft_wrap=False)


@dataclass(frozen=True)
class Plain:
    """A file or a pipe to write lines to, without colours, for which rich need not be loaded."""

    stream: TextIO
    width: int


def page_on(stream: TextIO) -> Console | Plain:
    """Return what `print_lines` writes to `stream` with: a rich console on a terminal, and wherever rich takes it so.

    That is in a notebook, and where the environment says it.
    """
    if stream.isatty() or "ipykernel" in sys.modules or any(name in os.environ for name in AS_TERMINAL):
        return console_on(stream)
    return Plain(stream, shutil.get_terminal_size((WIDTH_WITHOUT_TERMINAL, HEIGHT_WITHOUT_TERMINAL)).columns)


def print_lines(page: Console | Plain, lines: Iterable[str], style: str = "") -> None:
    """Print lines as they are: no markup, no wrapping, no spaces at their ends."""
    shown = (printable(line).rstrip() for line in lines)
    if isinstance(page, Plain):
        page.stream.writelines(f"{line.expandtabs(TAB)}\n" for line in shown)
        return
    from rich.text import Text

    for line in shown:
        page.print(Text(line, style=style, tab_size=TAB), no_wrap=True, overflow="ignore", crop=False)


def print_text(text: str, *, bold: bool = False, stream: TextIO | None = None) -> None:
    """Print a sentence, wrapped between words at the width of the terminal. stream: stdout by default."""
    page = page_on(sys.stdout if stream is None else stream)
    print_lines(page, wrapped(text, page.width) or [""], "bold" if bold else "")


def error_lines(message: str, stream: TextIO) -> str:
    """Return a message wrapped between words where its reader is a terminal, else on one line."""
    message = printable(message)
    size = shutil.get_terminal_size((0, 0)).columns if stream.isatty() else 0
    return "\n".join(line for part in message.splitlines() for line in wrapped(part, size)) if size > 0 else message


def _draw_nothing(_done: float, _total: float) -> None:
    """Ignore progress: the callback where no bar is drawn."""


@contextmanager
def progress_bar(label: str, stream: TextIO | None = None) -> Iterator[Callable[[float, float], None]]:
    """Yield a callback (done, total) that draws a progress bar on `stream` (stderr by default).

    The bar appears on a terminal only, and only after `SECONDS_BEFORE_A_BAR`, whether or not the callback was called.
    """
    out = sys.stderr if stream is None else stream
    if not out.isatty():
        yield _draw_nothing
        return
    from rich.progress import Progress

    bar = Progress(console=console_on(out), transient=True)
    task = bar.add_task(label, total=None, start=True)
    late = threading.Timer(SECONDS_BEFORE_A_BAR, bar.start)
    late.daemon = True
    late.start()
    try:
        yield lambda done, total: bar.update(task, completed=done, total=total)
    finally:
        late.cancel()
        late.join()  # where it has just begun to draw, it ends before the bar is wiped out
        bar.stop()
