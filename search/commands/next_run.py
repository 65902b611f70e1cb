"""The command `perfmodel next`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from search.commands.shared.option_groups import grouped
from search.commands.shared.options import DataOutputOptions, Scenario

if TYPE_CHECKING:
    from search.planning import NextRuns, RunWorth

EXAMPLES = """\
perfmodel next examples/chat-70b-h100.toml
perfmodel next examples/chat-70b-h100.toml --draws 24 --minutes 20"""


@dataclass(frozen=True)
class RunOptions:
    """How long a run takes, and how many worlds are planned."""

    section: ClassVar[str] = "Runs"

    draws: Annotated[
        int, typer.Option(min=2, max=1000, metavar="N", help="Plans made, each with other factors of the systems.")
    ] = 12
    minutes: Annotated[
        float, typer.Option(min=0.1, max=1e5, metavar="MINUTES", help="Minutes that a benchmark run takes.")
    ] = 10.0
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Seed of the random numbers.")] = 0


@grouped
def next_command(scenario: Scenario, run: RunOptions, output: DataOutputOptions) -> None:
    """Say which benchmark run is worth taking before the hardware of a plan is chosen.

    Prints the best run on each device (configuration, load), what it costs, tells and saves, how sure the choice is
    today, and the command of the run. Its result goes to `calibrate`. --csv and --json list all runs. Where nothing
    qualifies, the exit code is 1.
    """
    from search.output import Layout, print_rows, print_text, progress_bar
    from search.planning import next_runs
    from search.scenario import load_scenario

    form = output.form
    asked = load_scenario(scenario, output.folders)
    with progress_bar("planning") as update:
        found = next_runs(asked, draws=run.draws, minutes=run.minutes, seed=run.seed, progress=update)
    rows = [run_row(one, found) for one in found.runs]
    if form != "table":
        print_rows(rows, form)
        return
    rows, left = worth_showing(rows)
    print_text(verdict(found, run.draws))
    notes = [NOTE, f"{left} more devices are never the cheapest and gain nothing; --csv has them."][: 1 + (left > 0)]
    layout = Layout(title="What a run is worth", columns=SHOWN, notes=notes, wide=output.wide)
    print_rows(rows, layout=layout)
    if found.runs and found.runs[0].pays:
        print_text(f"Run: {command_of(found.runs[0], found)}")
        print_text(f"then: {learn_command_of(found.runs[0])} --scenario {scenario}")


def worth_showing(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    """Return the first row of each device as far as a terminal shows them, and how many devices are left out.

    rows: in their order of worth. Left out are, beyond `MOST_SHOWN`, devices that no draw finds cheapest and whose run
    gains nothing.
    """
    best = [row for n, row in enumerate(rows) if row["device"] not in {one["device"] for one in rows[:n]}]
    idle = [not row["gain_usd_per_month"] > 0 and not row["cheapest_percent"] > 0 for row in best]
    room = max(MOST_SHOWN - idle.count(False), 0)
    shown = [row for n, row in enumerate(best) if not idle[n] or sum(idle[:n]) < room]
    return shown, len(best) - len(shown)


#: Devices that a terminal shows where most are never the cheapest. Chosen: they fit a screen.
MOST_SHOWN = 10
#: Requests of the benchmark: those of so many seconds, but at least so many. Chosen: means within a few per cent.
SECONDS, LEAST_REQUESTS, MOST_REQUESTS = 300.0, 20.0, 20_000.0
MS_PER_S = 1e3
#: Columns of the table that the terminal prints.
SHOWN = ("run", "load", "cheapest_percent", "run_usd", "told_percent", "gain_usd_per_month", "pays")
NOTE = "told: share of what is open about the cost of the device that the run settles. gain: what it saves, on average."


def run_row(one: RunWorth, found: NextRuns) -> dict[str, Any]:
    """Return what a run is worth as a flat row."""
    return {
        "device": one.device,
        "engine": one.engine,
        "run": configuration(one),
        "load": one.run.load,
        "concurrency_per_replica": one.run.concurrency,
        "request_rate_rps_per_replica": one.run.rate,
        "cheapest_percent": 100.0 * one.chance,
        "run_usd": one.usd,
        "told_percent": 100.0 * one.told,
        "gain_usd_per_month": one.gain_usd_per_month,
        "most_usd_per_month": one.most_usd_per_month,
        "pays": one.pays,
        "command": command_of(one, found),
    }


def configuration(one: RunWorth) -> str:
    """Return one replica of the run's configuration, as candidates are written."""
    return str(one.run.row["candidate"]).partition(" x ")[2] or str(one.run.row["candidate"])


def learn_command_of(one: RunWorth) -> str:
    """Return the command that learns from the result of a run."""
    row, engine = one.run.row, one.engine.split("@")[0]
    result = "result.jsonl" if engine.startswith("sglang") else "RESULT.json"
    asked = f"--device {one.device} --engine {engine} --tp {float(row['tp']):.0f} --weights {row['weight']}"
    degrees = {"pp": "pp", "dp_attention": "dp", "ep": "ep"}
    more = [f"--column {name}={float(row[key]):.0f}" for name, key in degrees.items() if float(row[key]) > 1]
    count = f"--n-devices {float(row['devices_per_replica']):.0f}"
    return " ".join(["perfmodel calibrate", result, asked, count, *more, "-o mine.toml"])


def verdict(found: NextRuns, draws: int) -> str:
    """Say how sure the choice is today, and which run pays."""
    devices, engine = found.choice
    best = (
        f"{' + '.join(devices)} under {engine} costs least on average, and is the cheapest in "
        f"{found.chance * draws:.0f} of {draws} draws "
        f"(with the likeliest factors a plan picks {found.planned['device']})"
    )
    lost = f"choosing today loses ${found.regret_usd_per_month:,.0f} per month on average against knowing"
    paying = [one for one in found.runs if one.pays]
    if not paying:
        return f"{best}; {lost}. No run is worth its price."
    first = paying[0]
    return (
        f"{best}; {lost}. Measure {configuration(first)} under {first.engine} first, at {first.run.load}: this saves "
        f"${first.gain_usd_per_month:,.0f} per month and costs ${first.usd:,.2f}."
    )


def command_of(one: RunWorth, found: NextRuns) -> str:
    """Return the benchmark of one replica; vLLM's client speaks to any OpenAI server, SGLang has its own."""
    run, sglang = one.run, one.engine.startswith("sglang")
    lengths = f"--random-input-len {found.input_tokens:.0f} --random-output-len {found.output_tokens:.0f}"
    seconds = float(run.row["e2e_ms"]) / MS_PER_S
    closed = run.concurrency == run.concurrency
    rate = run.concurrency / seconds if closed else run.rate
    load = f"--max-concurrency {run.concurrency:.0f}" if closed else f"--request-rate {run.rate:.3g}"
    count = f"--num-prompts {min(max(LEAST_REQUESTS, rate * SECONDS), MOST_REQUESTS):.0f}"
    if sglang:
        return (
            f"python -m sglang.bench_serving --dataset-name random {lengths} {load} {count} --output-file result.jsonl"
        )
    return f"vllm bench serve --model {found.model} --dataset-name random {lengths} {load} {count} --save-result"
