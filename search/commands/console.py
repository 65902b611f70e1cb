"""The terminal that commands write to."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


def forgive_encodings() -> None:
    """Let the standard streams replace what a terminal's encoding lacks (a dash, an arrow) rather than fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
