"""The command `perfmodel tune`."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from hwdb import Infeasible
from search.commands.shared.option_groups import grouped
from search.commands.shared.options import DataOutputOptions, Scenario
from search.commands.shared.searching import plan_of

if TYPE_CHECKING:
    from search.studies import Budget, Executor, Storage, Tuned

EXAMPLES = """\
perfmodel tune examples/chat-70b-h100.toml --trials 40 --jobs 2
perfmodel tune examples/small-4090.toml --storage studies.db --resume"""
#: Columns that stay in a narrow terminal; settings that all rows share are left out of the table.
KEPT = ("trial",)
NOTE = "Each line is a trial that no other beats and that keeps the SLO; --csv and --json list every trial."


@dataclass(frozen=True)
class StudyOptions:
    """What is tuned, towards what, and for how long."""

    section: ClassVar[str] = "Study"

    objective: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Figure to reach for; repeatable. Without it usd_per_hour and ttft_ms_p99 together."
        ),
    ] = None
    vary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUES",
            help="Values of a setting, A,B,C or LO:HI:N (LO:HI:N:log); one value fixes it. Repeatable.",
        ),
    ] = None
    trials: Annotated[
        int, typer.Option(min=1, max=100_000, metavar="N", help="Trials of the whole study, those before a stop too.")
    ] = 64
    requests: Annotated[
        int, typer.Option(min=0, metavar="N", help="Requests to replay. 0: the whole trace, or some thousands.")
    ] = 0
    candidates: Annotated[
        int, typer.Option(min=1, max=100, metavar="N", help="Candidates of the plan to tune, best first.")
    ] = 1
    sampler: Annotated[
        str, typer.Option(metavar="NAME", help="What proposes trials: tpe, random or exhaustive (all combinations).")
    ] = "tpe"
    batch_trials: Annotated[
        int,
        typer.Option(min=1, max=10_000, metavar="N", help="Trials proposed at once; it changes which are proposed."),
    ] = 8
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Seed of the random numbers.")] = 0
    full_only: Annotated[
        bool, typer.Option("--full-only", help="Replay every trial in full, and drop none after a short replay.")
    ] = False
    cold: Annotated[bool, typer.Option("--cold", help="Do not begin with the settings of the closed form's front.")] = (
        False
    )
    nearest: Annotated[
        bool, typer.Option("--nearest", help="Where nothing qualifies, take the nearest miss and not fail.")
    ] = False

    def budget(self) -> Budget:
        """Return what the study may spend."""
        from search.studies import Budget

        return Budget(
            trials=self.trials,
            requests=self.requests,
            batch=self.batch_trials,
            candidates=self.candidates,
            sampler=self.sampler,
            seed=self.seed,
            short_first=not self.full_only,
            from_plan=not self.cold,
            nearest=self.nearest,
        )


@dataclass(frozen=True)
class StorageOptions:
    """Where trials are kept."""

    section: ClassVar[str] = "Storage"

    storage: Annotated[
        str, typer.Option(metavar="URL", help="Keep trials here: a file (SQLite), or postgresql://USER@HOST/DATABASE.")
    ] = ""
    study: Annotated[str, typer.Option(metavar="NAME", help="Name of the study in the storage.")] = "tune"
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the study where it exists.")] = False

    def place(self) -> Storage:
        """Return where the study is kept."""
        from search.studies import Storage

        return Storage(self.storage, self.study, self.resume)


@dataclass(frozen=True)
class ExecutorOptions:
    """What runs the simulations."""

    section: ClassVar[str] = "Workers"

    executor: Annotated[
        str, typer.Option(metavar="NAME", help="serial, processes or ray; processes where --jobs is above 1.")
    ] = "serial"
    jobs: Annotated[int, typer.Option(min=1, max=1024, metavar="N", help="Processes on this machine.")] = 1
    address: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Head of the Ray cluster; auto for the one on this machine.")
    ] = ""

    def chosen(self) -> Executor:
        """Return the executor."""
        from search.studies import executor_of

        return executor_of(self.executor, jobs=self.jobs, address=self.address)


@grouped
def tune_command(
    scenario: Scenario,
    study: StudyOptions,
    storage: StorageOptions,
    workers: ExecutorOptions,
    output: DataOutputOptions,
) -> int:
    """Tune routers, schedulers and replicas by simulation, within the SLOs of a scenario.

    Optuna proposes settings of the plan's best candidates and the simulator replays the load on them. The SLOs are
    constraints. The worst of each batch are dropped after a short replay. With --storage a stopped study goes on where
    it was. Where no trial keeps the SLOs, the exit code is 1.
    """
    from search.output import print_rows, progress_bar
    from search.studies import read_axis, tune

    form = output.form
    vary, executor = [read_axis(text) for text in study.vary or ()], workers.chosen()
    found = plan_of(scenario, output.folders)
    # Ray prints what befalls its workers to stdout, where a table for programs would end up with it
    with progress_bar("tuning") as update, redirect_stdout(sys.stderr):
        tuned = tune(
            found,
            objectives=study.objective or (),
            vary=vary,
            budget=study.budget(),
            storage=storage.place(),
            executor=executor,
            progress=update,
        )
    if form != "table":
        print_rows(tuned.rows, form)
    else:
        _print_front(tuned, found.scenario.title, wide=output.wide)
    return 0 if tuned.front else Infeasible.exit_code


def _print_front(tuned: Tuned, title: str, *, wide: bool) -> None:
    """Print the front, how it compares with the plan, and what the study took."""
    from search.output import Layout, print_rows, print_text

    if tuned.front:
        rows: list[dict[str, Any]] = [{k: v for k, v in row.items() if k != "front"} for row in tuned.front]
        settings = [a.name for a in tuned.axes if len({str(row[a.name]) for row in rows}) > 1 or len(rows) == 1]
        figures = [c for c in tuned.aims.wanted if c != "request_rate_rps"]
        columns = ["trial", *settings, *figures]
        drop = [c for c in ("output_tok_s", *settings) if c not in tuned.aims.objectives]
        print_rows(rows, layout=Layout(title=title, columns=columns, keep=KEPT, drop=drop, notes=[NOTE], wide=wide))
        for line in tuned.sentences:
            print_text(line)
    print_text(counted(tuned))


def counted(tuned: Tuned) -> str:
    """Say what a study took."""
    c = tuned.counts
    lost = f", {c['lost_workers']} lost workers" if c["lost_workers"] else ""
    kept = f"{c['meets_slo']} keep the SLO" if tuned.front else "none keeps the SLO; relax it, or vary other settings"
    return (
        f"{c['trials']} trials: {c['complete']} replayed in full, {c['pruned']} dropped after a short replay, "
        f"{c['repeated']} of settings tried before; {kept}. {c['replays']} replays in this run{lost}."
    )
