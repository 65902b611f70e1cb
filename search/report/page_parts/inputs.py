"""Show what the answer was asked with: the scenario as written, and the commands for what the page leaves out."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from search.report.page_parts.html_page import Section

if TYPE_CHECKING:
    from search.planning import Plan

#: Most characters of a scenario that are shown. Chosen: traces and tables of rates would fill pages.
MOST_SHOWN = 6000
#: Questions that the page leaves to the tool, with the command.
COMMANDS = {
    "change any key": "perfmodel whatif {path} --set workload.request_rate_rps=20",
    "replay a day of requests": "perfmodel simulate {path}",
    "find the run that is worth its price": "perfmodel next {path}",
    "own, rent or an API": "perfmodel cost {path}",
    "write what starts it": "perfmodel export {path} --to kubernetes",
}


def text_of(path: str) -> str:
    """Return the text of a scenario as far as it is shown; "" where it is no file."""
    try:
        text = Path(path).read_text(encoding="utf-8").rstrip() if path else ""
    except (OSError, ValueError):
        return ""
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}\n… ({len(text):,} characters in all)"


def inputs_sections(plan: Plan) -> list[Section]:
    """Return the section of the scenario's text and the commands; [] where the scenario is no file."""
    text = text_of(plan.scenario.path)
    if not text:
        return []
    name, path = Path(plan.scenario.path).name, quote(plan.scenario.path)
    return [
        Section(
            id="inputs",
            short="Inputs",
            title="What was asked",
            lead=f"The scenario {name}, as it was written; below it the commands for what this page leaves out.",
            command=text,
            terms=[(words, line.format(path=path)) for words, line in COMMANDS.items()],
        )
    ]
