"""Write the content of a report page as Markdown, as JSON, or as the rows of its tables."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hwdb import InputError
from search.output import Row, heading, json_value, print_rows, with_range, without_nan
from search.report.page_parts.html_page import Page, Section, Table, render

#: Characters that Markdown reads as marks where they stand in a sentence or in a cell.
_MARKS = re.compile(r"([\\`*_{}\[\]<>#|~])")


def markdown(page: Page) -> str:
    """Return the page as Markdown with tables as GitHub and most tickets read them; charts are left out."""
    lines = [f"# {_plain(page.title)}", "", _plain(page.question), "", f"**{_plain(page.headline)}**", ""]
    lines += [f"- {_plain(chip.text)}" for chip in page.chips]
    lines += [f"- {_plain(words)}" for words in page.odds]
    if page.facts:
        lines += ["", "| Figure | Value | |", "|---|---|---|"]
        lines += [
            f"| {_plain(f.label)} | {_plain(f'{f.value} {f.unit}'.strip())} | {_plain(f.note)} |" for f in page.facts
        ]
    for section in page.sections:
        if section.answers or section.goals or section.tables or section.terms or section.notes or section.command:
            lines += ["", *_section(section)]
    return "\n".join([*lines, "", f"Made by perfmodel {page.version}.", ""])


def _section(section: Section) -> Iterator[str]:
    """Yield the lines of a section."""
    yield from (f"## {_plain(section.title)}", "", _plain(section.lead))
    for answer in section.answers:
        yield from (f"### {_plain(answer.question)}", "", *map(_plain, answer.says), "")
        yield from (f"- {_plain(point)}" for point in answer.points)
        yield from ([""] if answer.points else [])
    yield from ([""] if section.goals else [])
    yield from (f"- {_plain(goal.name)}: {_plain(goal.says)}, {_plain(goal.verdict)}" for goal in section.goals)
    for table in section.tables:
        yield from ("", *([f"### {_plain(table.title)}", ""] if table.title else []), *_table(table))
    if section.command:
        yield from ("", "```", section.command.replace("```", "'''"), "```")
    yield from ([""] if section.terms else [])
    yield from (f"- {_plain(name)}: {_plain(value)}" for name, value in section.terms)
    yield from ([""] if section.notes else [])
    yield from (f"- {_plain(note)}" for note in section.notes)


def _table(table: Table) -> Iterator[str]:
    """Yield the lines of a table; columns without text stand to the right."""
    text = [any(isinstance(row.get(c), str) for row in table.rows) for c in table.columns]
    yield "| " + " | ".join(_plain(heading(c)) for c in table.columns) + " |"
    yield "|" + "|".join("---" if words else "---:" for words in text) + "|"
    for row in table.rows:
        yield "| " + " | ".join(_plain(with_range(row, c)) for c in table.columns) + " |"


def _plain(text: str) -> str:
    """Return a text on one line that Markdown prints as it is."""
    return _MARKS.sub(r"\\\1", " ".join(str(text).split()))


def as_json(page: Page) -> str:
    """Return the content of the page as a JSON object: headline, facts, sections with their tables, charts as data."""
    content = {
        "title": page.title,
        "question": page.question,
        "headline": page.headline,
        "summary": page.summary,
        "feasible": page.feasible,
        "version": page.version,
        "chips": [chip.text for chip in page.chips],
        "odds": list(page.odds),
        "facts": [vars(fact) for fact in page.facts],
        "sections": [_as_object(section) for section in page.sections if not section.live],
        "charts": page.charts,
    }
    return json.dumps(without_nan(content), indent=1, ensure_ascii=False) + "\n"


def _as_object(section: Section) -> dict[str, Any]:
    """Return a section as plain data."""
    return {
        "id": section.id,
        "title": section.title,
        "lead": section.lead,
        "answers": [vars(answer) for answer in section.answers],
        "goals": [vars(goal) for goal in section.goals],
        "tables": [{"id": t.id, "title": t.title, "rows": [dict(row) for row in t.rows]} for t in section.tables],
        "terms": dict(section.terms),
        "notes": list(section.notes),
        "command": section.command,
    }


def csv_text(page: Page) -> str:
    """Return the rows of every table of the page as CSV with a heading line."""
    text = io.StringIO(newline="")
    print_rows(table_rows(page), "csv", stream=text)
    return text.getvalue()


def table_rows(page: Page) -> list[Row]:
    """Return the rows of every table of the page, each with the `section` that it is from."""
    return [
        {"section": section.id, **{c: json_value(v) for c, v in row.items()}}
        for section in page.sections
        for table in section.tables
        for row in table.rows
    ]


#: Forms of a report, by the ending of its file.
FORMS = {"html": render, "md": markdown, "json": as_json, "csv": csv_text}
#: Endings of files -> form of the report.
ENDINGS = {".html": "html", ".htm": "html", ".md": "md", ".markdown": "md", ".json": "json", ".csv": "csv"}


def form_of(file: Path) -> str:
    """Return the form of a report by the ending of its file; a page where it has none.

    Raises `InputError` for an ending of which no form is known.
    """
    inner = file.with_suffix("") if file.suffix.lower() == ".gz" else file  # what is written there is gzipped
    ending = inner.suffix.lower()
    if ending and ending not in ENDINGS:
        paper = "; for paper, write .html and print it from a browser" if ending in (".pdf", ".docx", ".ps") else ""
        raise InputError(
            f"{file}: no report ends in {ending}; end it in {', '.join(ENDINGS)}, or state --format{paper}"
        )
    return ENDINGS.get(ending, "html")
