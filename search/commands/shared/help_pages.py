"""Write help in plain text: options and commands in sections, examples at the end.

Readable at 80 columns and in a pipe. Typer draws sections only in boxes of rich, which leave 40 of 80 columns for
the texts and pollute a pipe.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup

from search.commands.shared.plain_values import without_pydantic

if TYPE_CHECKING:
    from typer._click import Context, HelpFormatter

#: Former spellings of options, which still work: former -> current.
FORMER_OPTIONS = {
    "--max-batched-tokens": "--max-num-batched-tokens",
    "--max-seqs": "--max-num-seqs",
    "--rate-rps": "--request-rate-rps",
    "--sp": "--cp",
}
#: Short spellings of other tools -> options; "-dp" leads to the message about "--dp".
SHORT_OPTIONS = {"-h": "--help", "-tp": "--tp", "-pp": "--pp", "-ep": "--ep", "-cp": "--cp", "-dp": "--dp"}
#: Widest column of option names, characters; the text of a longer name begins on the next line (chosen: all but one of
#: our options are shorter).
NAME_WIDTH = 25
Rows = list[tuple[str, str]]


def current_spelling(argument: str) -> str:
    """Return a command-line argument with a former or short option name replaced by the current one.

    >>> current_spelling("--max-seqs=8"), current_spelling("--tp"), current_spelling("-tp")
    ('--max-num-seqs=8', '--tp', '--tp')
    """
    name, equals, value = argument.partition("=")
    return FORMER_OPTIONS.get(name, SHORT_OPTIONS.get(name, name)) + equals + value


class SectionedCommand(TyperCommand):
    """A command with its options in sections (`rich_help_panel`) and its examples (`epilog`) below."""

    def get_params(self, ctx: Context) -> list[Any]:
        """Return the options, which convert plain values without pydantic."""
        return without_pydantic(super().get_params(ctx))

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Parse the arguments; former and short spellings of options count as the current ones.

        An unknown option that is the word of other tools is refused with its name here.
        """
        try:
            return super().parse_args(ctx, [current_spelling(a) for a in args])
        except typer.TyperException as error:
            if unknown := getattr(error, "option_name", "") if hasattr(error, "possibilities") else "":
                from search.commands.shared.other_flags import meant_by

                here = meant_by(unknown, {name for p in self.get_params(ctx) for name in p.opts})
                if here:
                    error.message, error.possibilities = f"{error.message}. Here it is {here}", None  # type: ignore[attr-defined]
            raise

    def format_options(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write arguments and options, one section per group."""
        _write_sections(_parameter_sections(self.get_params(ctx)), formatter)

    def format_epilog(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write the examples, one per line."""
        _write_examples(ctx.command.epilog, formatter)


class SectionedGroup(TyperGroup):
    """A group of commands with its commands in sections (`rich_help_panel`) and its examples (`epilog`) below."""

    def get_params(self, ctx: Context) -> list[Any]:
        """Return the options, which convert plain values without pydantic."""
        return without_pydantic(super().get_params(ctx))

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Parse the arguments in front of a command; "-h" asks for help there too."""
        first = [current_spelling(args[0])] if args and args[0] == "-h" else args[:1]
        return super().parse_args(ctx, [*first, *args[1:]])

    def format_options(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write the commands, one section per kind, then the options of the group."""
        commands: dict[str, Rows] = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                first_sentence = (command.help or "").split("\n\n")[0].replace("\n", " ")
                section = getattr(command, "rich_help_panel", None)
                commands.setdefault(section if isinstance(section, str) else "Commands", []).append(
                    (name, first_sentence)
                )
        _write_sections({**commands, **_parameter_sections(self.get_params(ctx))}, formatter)

    def format_epilog(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write the examples, one per line."""
        _write_examples(ctx.command.epilog, formatter)


def _parameter_sections(parameters: Iterable[Any]) -> dict[str, Rows]:
    """Return (name, help) of each parameter by section.

    Arguments come first, then sections of options, then options without a section.
    """
    sections: dict[str, Rows] = {"Arguments": []}
    rest: Rows = []
    for parameter in parameters:
        section = getattr(parameter, "rich_help_panel", None)
        if parameter.param_type_name == "argument":
            sections["Arguments"].append((parameter.metavar, parameter.help))
        elif isinstance(section, str):
            sections.setdefault(section, []).append(_option_row(parameter))
        else:
            rest.append(_option_row(parameter))
    return {name: rows for name, rows in {**sections, "Options": rest}.items() if rows}


def _option_row(option: Any) -> tuple[str, str]:
    """Return names and help text of an option, with its default where the text does not state one."""
    name = ", ".join(option.opts) + ("" if option.is_flag else f" {option.metavar}")
    text = option.help or ""
    known = option.default not in (None, "") and option.default == option.default  # NaN: none is known
    stated = option.required or (not option.is_flag and known)
    if not stated or "(default" in text:
        return name, text
    default = "required" if option.required else f"default: {_short(option.default)}"
    return name, f"{text.removesuffix('.')} ({default})."


def _short(value: Any) -> str:
    """Write the default of an option in short form."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _write_sections(sections: Mapping[str, Rows], formatter: HelpFormatter) -> None:
    """Write each section as a two-column list; the columns of all sections are aligned."""
    names = [name for rows in sections.values() for name, _ in rows]
    width = max((len(n) for n in names if len(n) <= NAME_WIDTH), default=NAME_WIDTH)
    for title, rows in sections.items():
        with formatter.section(title):
            formatter.write_dl([(name.ljust(width), text) for name, text in rows], col_max=width)


def _write_examples(examples: str | None, formatter: HelpFormatter) -> None:
    """Write the examples, one per line, below everything else."""
    if examples:
        with formatter.section("Examples"):
            for line in examples.splitlines():
                formatter.write(f"{'':>{formatter.current_indent}}{line}\n")
