"""The command `perfmodel export`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from search.commands.shared.option_groups import grouped
from search.commands.shared.options import DataFormOptions

if TYPE_CHECKING:
    from search.deploy import Launch

EXAMPLES = """\
perfmodel export examples/chat-70b-h100.toml
perfmodel export examples/chat-70b-h100.toml --to kubernetes -o chat.yaml"""

PlanFile = Annotated[
    Path, typer.Argument(metavar="SCENARIO.toml|PLAN.json", help="Scenario to plan, or the output of `plan --json`.")
]


@dataclass(frozen=True)
class ExportOptions:
    """What is written, and for what."""

    section: ClassVar[str] = "Export"

    to: Annotated[
        str,
        typer.Option(
            metavar="TARGET",
            help="vllm, sglang, trtllm, llamacpp, mindie, ray-serve, dynamo, llm-d, kserve, kubernetes or compose "
            "(default: commands of the plan's engine).",
        ),
    ] = ""
    rank: Annotated[int, typer.Option(min=1, metavar="N", help="Which candidate of the plan, 1 for the best.")] = 1
    engine_version: Annotated[
        str,
        typer.Option(metavar="VERSION", help="Release of the engine whose flags are written (default: the latest)."),
    ] = ""


File = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="File to write (default: print it).", rich_help_panel="Output"),
]


@grouped
def export_command(plan: PlanFile, options: ExportOptions, form: DataFormOptions, output: File = None) -> int:
    """Write the launch commands or manifests of a plan, and the benchmark of its SLO.

    Every flag that is written is one that the named release of the engine takes. What is written can be read back with
    `perfmodel estimate --from FILE`.
    """
    from hwdb import outfile
    from search.deploy import export, target_called
    from search.output import print_rows, print_text, write_text

    if options.to:
        options = replace(options, to=target_called(options.to))  # before the plan, which takes seconds
    if output is not None:
        outfile.check(output, plan)
    launch = _launch(plan, options, form)
    found = export(launch, options.to or launch.engine)
    if form.form != "table":
        row = {"target": found.target, **found.launch.rows()[-1], "launch": found.text, "benchmark": found.benchmark}
        print_rows([row], form.form)
    elif output is not None:
        write_text(output, found.text)
        text = f"{output}: {found.launch.words} for {found.target}, {found.launch.engine} {found.launch.version}"
        print_text(text, stream=outfile.beside(output))
    else:
        typer.echo(found.text, nl=False)
    return 0


def _launch(plan: Path, options: ExportOptions, form: DataFormOptions) -> Launch:
    """Return the launch of a plan that was printed as JSON, or of the scenario in a TOML file."""
    from search.commands.shared.searching import plan_of
    from search.deploy import launch_of, read_plan

    if plan.suffix == ".json":
        return read_plan(plan, options.rank, options.engine_version)
    changes, note = _engine_for(plan, options.to, form) if options.to else ({}, "")
    found = launch_of(plan_of(plan, form.folders, changes=changes), options.rank, options.engine_version)
    return replace(found, notes=(*found.notes, note)) if note else found


def _engine_for(path: Path, target: str, form: DataFormOptions) -> tuple[dict[str, dict[str, str]], str]:
    """Return what of a scenario changes so that the target can run it, and a sentence on it; ({}, "") for nothing.

    A target runs some engines only; where the scenario names another one, it is planned for the first of those.
    """
    from hwdb import InputError
    from hwdb.tomlfile import read_toml
    from search.deploy import engines_of
    from search.scenario import load_scenario

    scenario, able = load_scenario(path, form.folders), engines_of(target)
    named = [one.family for one in scenario.engines]
    if all(name in able for name in named):
        return {}, ""
    chosen = next((name for name in named if name in able), able[0])
    why = (
        f"Planned for {chosen}, which {target} runs" if chosen != target else f"Planned for {chosen}, which --to names"
    )
    table = read_toml(path, "scenario").values.get("engine", {})
    if isinstance(table, dict) and "version" in table and chosen not in named:
        raise InputError(
            f"--to {target}: [engine] has version {table['version']} of {named[0]}; leave it out, or name {chosen}"
        )
    return {"engine": {"name": chosen}}, f"{why}, in place of {', '.join(named)}."
