"""The tree of commands: which function serves which words, with its section in the help and its examples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from search.commands.shared.help_pages import SectionedCommand, SectionedGroup

EXAMPLES = """\
perfmodel plan examples/chat-70b-h100.toml
perfmodel estimate meta-llama/Llama-3.1-70B --device h100-sxm --tp 4"""
VERSION_EXAMPLES = """\
perfmodel version
perfmodel --version"""
#: Sections of commands in the help.
SCENARIOS, DEPLOYMENTS, FACTS = "Serve a scenario", "Estimate deployments", "Look up and measure"
DOORS = "Answer other programs"


def _group(help_text: str, examples: str) -> typer.Typer:
    """Make a group of commands with its help text and its examples (one per line)."""
    return typer.Typer(
        cls=SectionedGroup,
        help=help_text,
        epilog=examples,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=False,
    )


def _add(
    group: typer.Typer,
    name: str,
    function: Callable[..., Any],
    examples: str,
    section: str | None = None,
    settings: dict[str, Any] | None = None,
) -> None:
    """Add `function` to `group` as the command `name`. section: heading under which the help lists it."""
    group.command(name, cls=SectionedCommand, epilog=examples, rich_help_panel=section, context_settings=settings)(
        function
    )


def _print_version(wanted: bool) -> None:
    """Print the version and exit where `--version` was given."""
    if wanted:
        version_command()
        raise typer.Exit


def version_command() -> None:
    """Print the version."""
    from perfmodel import __version__

    print(__version__)


def root(
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
    _traceback: Annotated[
        bool, typer.Option("--traceback", help="Show where an error of perfmodel itself comes from (any command).")
    ] = False,
) -> None:
    """Plan capacity for LLM serving: which hardware, how much of it, in which configuration, at what cost and power,
    meets your SLOs."""


def _add_plan(app: typer.Typer) -> None:
    from search.commands import plan

    _add(app, "plan", plan.plan_command, plan.EXAMPLES, SCENARIOS)


def _add_simulate(app: typer.Typer) -> None:
    from search.commands import simulate

    _add(app, "simulate", simulate.simulate_command, simulate.EXAMPLES, SCENARIOS)


def _add_tune(app: typer.Typer) -> None:
    from search.commands import tune

    _add(app, "tune", tune.tune_command, tune.EXAMPLES, SCENARIOS)


def _add_power(app: typer.Typer) -> None:
    from search.commands import power

    _add(app, "power", power.power_command, power.EXAMPLES, SCENARIOS)


def _add_fleet(app: typer.Typer) -> None:
    from search.commands import fleet

    _add(app, "fleet", fleet.fleet_command, fleet.EXAMPLES, SCENARIOS)


def _add_cost(app: typer.Typer) -> None:
    from search.commands import cost

    _add(app, "cost", cost.cost_command, cost.EXAMPLES, SCENARIOS)


def _add_report(app: typer.Typer) -> None:
    from search.commands import report

    _add(app, "report", report.report_command, report.EXAMPLES, SCENARIOS)


def _add_whatif(app: typer.Typer) -> None:
    from search.commands import whatif

    _add(app, "whatif", whatif.whatif_command, whatif.EXAMPLES, SCENARIOS)


def _add_compare(app: typer.Typer) -> None:
    from search.commands import compare

    _add(app, "compare", compare.compare_command, compare.EXAMPLES, SCENARIOS)


def _add_next(app: typer.Typer) -> None:
    from search.commands import next_run

    _add(app, "next", next_run.next_command, next_run.EXAMPLES, SCENARIOS)


def _add_export(app: typer.Typer) -> None:
    from search.commands import export

    _add(app, "export", export.export_command, export.EXAMPLES, SCENARIOS)


def _add_estimate(app: typer.Typer) -> None:
    from search.commands import estimate

    _add(app, "estimate", estimate.estimate_command, estimate.EXAMPLES, DEPLOYMENTS)


def _add_predict(app: typer.Typer) -> None:
    from search.commands import predict

    _add(app, "predict", predict.predict_command, predict.EXAMPLES, DEPLOYMENTS)


def _add_calibrate(app: typer.Typer) -> None:
    from search.commands import calibrate

    _add(app, "calibrate", calibrate.calibrate_command, calibrate.EXAMPLES, DEPLOYMENTS)


def _add_op(app: typer.Typer) -> None:
    from search.commands import op

    group = _group(SUMMARIES["op"][1], op.GEMM_EXAMPLES)
    _add(group, "gemm", op.gemm_command, op.GEMM_EXAMPLES)
    _add(group, "attention", op.attention_command, op.ATTENTION_EXAMPLES)
    _add(group, "all-reduce", op.all_reduce_command, op.ALL_REDUCE_EXAMPLES)
    app.add_typer(group, name="op", rich_help_panel=DEPLOYMENTS)


def _add_hw(app: typer.Typer) -> None:
    from search.commands import hw

    group = _group(SUMMARIES["hw"][1], hw.COMPARE_EXAMPLES)
    _add(group, "list", hw.list_command, hw.LIST_EXAMPLES)
    _add(group, "show", hw.show_command, hw.SHOW_EXAMPLES)
    _add(group, "compare", hw.compare_command, hw.COMPARE_EXAMPLES)
    app.add_typer(group, name="hw", rich_help_panel=FACTS)


def _add_models(app: typer.Typer) -> None:
    from search.commands import models

    group = _group(SUMMARIES["models"][1], models.SHOW_EXAMPLES)
    _add(group, "list", models.list_command, models.LIST_EXAMPLES)
    _add(group, "show", models.show_command, models.SHOW_EXAMPLES)
    app.add_typer(group, name="models", rich_help_panel=FACTS)


def _add_profile(app: typer.Typer) -> None:
    from search.commands import profile

    group = _group(SUMMARIES["profile"][1], profile.RUN_EXAMPLES)
    _add(group, "list", profile.list_command, profile.LIST_EXAMPLES)
    _add(group, "show", profile.show_command, profile.SHOW_EXAMPLES)
    _add(group, "run", profile.run_command, profile.RUN_EXAMPLES)
    _add(group, "fit", profile.fit_command, profile.FIT_EXAMPLES)
    _add(group, "import", profile.import_command, profile.IMPORT_EXAMPLES)
    app.add_typer(group, name="profile", rich_help_panel=FACTS)


def _add_serve(app: typer.Typer) -> None:
    from search.commands import serve

    _add(app, "serve", serve.serve_command, serve.EXAMPLES, DOORS)


def _add_mcp(app: typer.Typer) -> None:
    from search.commands import mcp

    _add(app, "mcp", mcp.mcp_command, mcp.EXAMPLES, DOORS)


def _add_explain(app: typer.Typer) -> None:
    from search.commands import explain

    _add(app, "explain", explain.explain_command, explain.EXAMPLES, FACTS, explain.SETTINGS)


def _add_version(app: typer.Typer) -> None:
    _add(app, "version", version_command, VERSION_EXAMPLES, FACTS)


#: First word of a command line -> what adds its command, in the order of the help.
COMMANDS = {
    "plan": _add_plan,
    "simulate": _add_simulate,
    "tune": _add_tune,
    "power": _add_power,
    "fleet": _add_fleet,
    "cost": _add_cost,
    "whatif": _add_whatif,
    "compare": _add_compare,
    "report": _add_report,
    "next": _add_next,
    "export": _add_export,
    "estimate": _add_estimate,
    "predict": _add_predict,
    "calibrate": _add_calibrate,
    "op": _add_op,
    "hw": _add_hw,
    "models": _add_models,
    "profile": _add_profile,
    "serve": _add_serve,
    "mcp": _add_mcp,
    "explain": _add_explain,
    "version": _add_version,
}


#: Word of a command -> its section and its line in the help, which is printed without loading the command.
SUMMARIES = {
    "plan": (SCENARIOS, "Rank the configurations that serve a scenario within its SLOs."),
    "simulate": (SCENARIOS, "Simulate a scenario's load on a candidate of its plan."),
    "tune": (SCENARIOS, "Tune routers, schedulers and replicas by simulation, within the SLOs of a scenario."),
    "power": (SCENARIOS, "Say how many servers of a plan fit a power budget, and what caps cost and gain."),
    "fleet": (SCENARIOS, "Find the least-cost mix of hardware for classes of requests, and what each hour needs."),
    "cost": (SCENARIOS, "Compare own, rent and API for a plan's best candidate, and where they break even."),
    "whatif": (SCENARIOS, "Plan a scenario with something different, and say what that changes."),
    "compare": (SCENARIOS, "Compare the best candidates of two plans that were written as JSON."),
    "report": (
        SCENARIOS,
        "Write the plan or the fleet of a scenario as one offline HTML page, or as Markdown, JSON or CSV.",
    ),
    "next": (SCENARIOS, "Say which benchmark run is worth taking before the hardware of a plan is chosen."),
    "export": (SCENARIOS, "Write the launch commands or manifests of a plan, and the benchmark of its SLO."),
    "estimate": (DEPLOYMENTS, "Estimate latency, throughput, memory, power, cost of a deployment."),
    "predict": (DEPLOYMENTS, "Predict latency, throughput, memory and power per row of a table."),
    "calibrate": (DEPLOYMENTS, "Learn from your own benchmarks what your systems do differently."),
    "op": (DEPLOYMENTS, "Time, watts and joules of single operators: gemm, attention, all-reduce."),
    "serve": (
        DOORS,
        "Serve the same answers over HTTP on this machine, with an OpenAPI schema and the report's pages.",
    ),
    "mcp": (DOORS, "Offer the same answers as tools of the Model Context Protocol, over stdin and stdout."),
    "explain": (FACTS, "Explain a flag, column, heading, scenario key or word."),
    "version": (FACTS, "Print the version."),
    "hw": (FACTS, "Devices, nodes and prices: list, show, compare."),
    "models": (FACTS, "The model catalogue: list, show."),
    "profile": (FACTS, "Measured operator times: list, show, measure, fit, import."),
}
#: Words for which the help of the program is printed.
HELP_WORDS = ("", "--help")


def _listed_only() -> None:
    """Stand in for a command in the help of the program; never called."""


def command_tree(first_word: str | None = None) -> typer.Typer:
    """The application with the command called `first_word`, or with all commands if there is no such command.

    A command line needs one command, and the help of the program only a line of each. The modules of the others stay
    unloaded, which makes the start faster. None builds all commands.
    """
    app = _group("", EXAMPLES)
    app.callback()(root)
    if first_word in HELP_WORDS:
        for name, (section, summary) in SUMMARIES.items():
            app.command(name, help=summary, rich_help_panel=section)(_listed_only)
        return app
    for add in [COMMANDS[first_word]] if first_word in COMMANDS else COMMANDS.values():
        add(app)
    return app
