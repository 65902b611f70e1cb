"""Writes the reference parts of docs/cli.md, api.md, notation.md and cases.md from the program itself: `make docs`."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

FOLDER = Path(__file__).parent
MARK = "<!-- written by `make docs` from here on -->\n"


def commands(node: Any, name: str = "perfmodel") -> Iterator[tuple[str, Any]]:
    """(full name, command) of every command below `node`, groups left out."""
    below = getattr(node, "commands", {})
    if not below:
        yield name, node
    for word, child in below.items():
        yield from commands(child, f"{name} {word}")


def section(name: str, command: Any) -> str:
    """One command: what it does, how it is called, its arguments and options."""
    shown = [p for p in command.params if p.name != "help"]
    arguments = [p for p in shown if p.param_type_name == "argument"]
    call = " ".join([name, *(p.metavar or p.name.upper() for p in arguments), "[OPTIONS]"])
    lines = [f"### `{name}`", "", command.help or "", "", "```text", call, "```", ""]
    if shown:
        lines += ["| | default | |", "|---|---|---|"]
        heading, groups = None, list(dict.fromkeys(getattr(p, "rich_help_panel", None) for p in shown))
        for parameter in sorted(shown, key=lambda p: groups.index(getattr(p, "rich_help_panel", None))):
            if (group := getattr(parameter, "rich_help_panel", None)) not in (heading, None):
                lines.append(f"| *{group}* | | |")
                heading = group
            lines.append(f"| {_spelling(parameter)} | {_default(parameter)} | {parameter.help or ''} |")
        lines.append("")
    examples = [line for line in (command.epilog or "").splitlines() if line]
    return "\n".join([*lines, *(["Examples:", "", "```text", *examples, "```", ""] if examples else [])])


def _spelling(parameter: Any) -> str:
    names = parameter.opts if parameter.param_type_name == "option" else [parameter.metavar or parameter.name.upper()]
    return ", ".join(f"`{n}`" for n in names)


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    value = parameter.default
    unknown = value is None or value is False or value == "" or value != value
    return "" if unknown else f"`{value}`"


def command_line() -> str:
    """Every command as Markdown."""
    from search.commands import command_tree

    return "\n".join(section(name, command) for name, command in commands(typer.main.get_command(command_tree())))


def public(package: str) -> str:
    """The public names of a package's front door, each with its call and the first sentence of its docstring."""
    module = importlib.import_module(package)
    lines = [f"### `{package}`", "", (module.__doc__ or "").split("\n")[0], "", "| name | |", "|---|---|"]
    for name in sorted(module.__all__, key=str.lower):
        value = getattr(module, name)
        value = inspect.unwrap(value) if callable(value) else value
        called = inspect.isfunction(value) or inspect.isclass(value)
        text = (inspect.getdoc(value) or "").split("\n\n")[0].replace("\n", " ") if called else "a constant"
        lines.append(f"| `{name}{_parameters(value)}` | {text} |")
    return "\n".join([*lines, ""])


def _parameters(value: Any) -> str:
    if not inspect.isfunction(value):
        return ""
    return f"({', '.join(inspect.signature(value).parameters)})"


def library() -> str:
    """Every public name as Markdown."""
    return "\n".join(public(package) for package in ("perfmodel", "search", "hwdb"))


def _place(place: str) -> str:
    """A place of a glossary entry as the notation page writes it."""
    return f"`{place}`" if place.startswith("[") else place


def names() -> str:
    """Every entry of the glossary as Markdown, one table per kind."""
    from perfmodel import glossary

    lines: list[str] = []
    for kind, about in glossary.kinds().items():
        lines += [f"### {kind.capitalize()}", "", about, ""]
        lines += ["| name | unit | meaning | where | in papers |", "|---|---|---|---|---|"]
        for entry in (e for e in glossary.entries() if e.kind == kind):
            name = entry.name if "word" in entry.places else f"`{entry.name}`"
            formerly = f" Formerly {', '.join(f'`{old}`' for old in entry.former)}." if entry.former else ""
            formerly += f" Elsewhere {', '.join(f'`{other}`' for other in entry.others)}." if entry.others else ""
            where = ", ".join(map(_place, entry.places))
            lines.append(f"| {name} | {entry.unit} | {entry.meaning}{formerly} | {where} | {entry.paper} |")
        lines.append("")
    return "\n".join(lines)


def case_columns() -> str:
    """Every input column of `predict` as Markdown."""
    from perfmodel.cases import columns

    lines = ["## Columns", "", "| column | unit | meaning | a blank cell |", "|---|---|---|---|"]
    for name, unit, told in columns():
        meaning, _, blank = told.partition("; blank: ")
        lines.append(f"| `{name}` | {unit} | {meaning} | {blank} |")
    return "\n".join([*lines, ""])


#: page -> what stands below its mark
PAGES = {"cli.md": command_line, "api.md": library, "notation.md": names, "cases.md": case_columns}


def written(page: str) -> str:
    """The page as it should stand: its own words, then the reference."""
    guide = (FOLDER / page).read_text(encoding="utf-8").split(MARK)[0]
    return guide + MARK + "\n" + PAGES[page]()


def main() -> None:
    """Bring the pages up to date."""
    sys.path.insert(0, str(FOLDER.parent))
    for page in PAGES:
        (FOLDER / page).write_text(written(page), encoding="utf-8")


if __name__ == "__main__":
    main()
