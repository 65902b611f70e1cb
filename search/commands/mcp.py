"""The command `perfmodel mcp`."""

from __future__ import annotations

from search.commands.shared.option_groups import grouped
from search.commands.shared.service_options import BoundOptions, refuse_without

EXAMPLES = """\
perfmodel mcp
perfmodel mcp --timeout-s 120"""


@grouped
def mcp_command(bounds: BoundOptions) -> None:
    """Offer the same answers as tools of the Model Context Protocol, over stdin and stdout.

    Needs the extra `mcp`. The tools, their inputs and their bounds are those of `perfmodel serve`.
    """
    refuse_without("mcp", "mcp")
    limits = bounds.bounds()
    from search.service import Workers, speak

    speak(Workers(limits))
