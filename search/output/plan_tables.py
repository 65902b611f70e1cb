"""Print a plan in small tables: its candidates, the near misses, the best of each mode, where time and memory go."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import expm1, isfinite
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from search.output.plan_sentences import (
    account_note,
    engine_title,
    headline,
    odds_note,
    power_note,
    price_note,
    question,
    ranking_note,
)
from search.output.row_printer import print_rows
from search.output.table_fit import Layout
from search.output.terminal import print_text, progress_bar
from search.planning import short_name
from search.scenario import COMMAND_LINE

if TYPE_CHECKING:
    from search.planning import OperatorRow, Plan

#: How a key of a scenario is stated where no file holds the scenario.
SET_HERE = (
    'Keys of a [table] are options here: [search] weight = "auto" is --set search.weight=auto, and a price is '
    "--set hardware.usd_per_hour.DEVICE=USD."
)
#: Heading under which the time of each operator family is summed; other families are communication.
OPERATOR_GROUPS = {
    "gemm": "GEMM",
    "grouped_gemm": "experts",
    "attention_prefill": "attention",
    "attention_decode": "attention",
    "mla_prefill": "attention",
    "mla_decode": "attention",
    "recurrent_prefill": "recurrence",
    "recurrent_decode": "recurrence",
    "elementwise": "elementwise",
    "host": "host",
    "host_link": "host_memory",
}
#: Candidates whose throughputs decide whether a table shows throughput at all: the best so many.
COMPARED_CANDIDATES = 20
#: Throughput is shown where the highest exceeds the lowest by more than this factor (chosen: visible in 3 digits).
SHOWN_RATE_RATIO = 1.01
#: Title of the table of steps: colocated, and of a pair of pools.
STEP_TIMES_TITLE = "Where the time goes (all steps of a prompt, mean over the prompts; then one decode step)"
POOL_STEP_TIMES_TITLE = (
    "Where the time goes (a prefill worker: all steps of the prompts that it computes together; a decode worker: one "
    "step)"
)
#: Columns of candidates that a narrow table leaves out, the least important first.
LESS_IMPORTANT = (
    "rated_power_kw",
    "usd_per_million_tokens",
    "headroom",
    "output_tok_s",
    "basis",
    "power_kw",
    "concurrency_per_replica",
    "utilisation",
)
#: Those of them that a limit on power makes the most important.
LIMITED_POWER = ("rated_power_kw", "power_kw")
#: Columns of the time per operator, and those of them that go first.
OPERATOR_COLUMNS = (
    "phase",
    "operator",
    "family",
    "calls",
    "steps",
    "time_us",
    "share_percent",
    "bound",
    "peak_share_percent",
    "basis",
    "spread_percent",
)
LESS_IMPORTANT_OF_OPERATORS = ("family", "spread_percent", "calls", "basis", "peak_share_percent", "bound")
SURE = "the chance that the forecast holds and every SLO is kept, not a share of requests."
#: What signs of a short name mean, by the sign.
SHORT_NAMES = {
    " + ": "a + joins the prefill pool and the decode pool",
    " seqs": "seqs is max_num_seqs",
    " tok": "tok is max_num_batched_tokens",
    " ckpt": "ckpt is a checkpoint of the model in that format, which must exist",
}


def candidate_columns(plan: Plan) -> list[str]:
    """Return the columns of a table of candidates.

    The bounded metrics are shown (mean TTFT and TPOT without SLOs), the throughput only where it differs between
    candidates, and the reason only where a candidate does not qualify.
    """
    bounded = [o.key for o in plan.scenario.slo.objectives] or ["ttft_ms", "tpot_ms"]
    rates = plan.columns["output_tok_s"][plan.order[:COMPARED_CANDIDATES]]
    rate = ["output_tok_s"] if rates.max() > SHOWN_RATE_RATIO * rates.min() else []
    reason = ["reason"] if not plan.qualifies.all() else []
    chance = ["slo_chance"] if plan.scenario.slo.objectives else []
    load = ["utilisation", "headroom", "concurrency_per_replica"]
    ranked_by = [c for c in [plan.scenario.minimise] if c not in ("power_w", "usd_per_hour")]
    racks = ["racks"] if np.isfinite(plan.scenario.limits.rack) else []
    cost = ["power_kw", "rated_power_kw", *racks, "usd_per_million_tokens"]
    shown = ["rank", "candidate", *ranked_by, "usd_per_hour", *bounded, *chance, *load, *rate, *cost, "basis", *reason]
    return list(dict.fromkeys(shown))


def with_kilowatts(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows with `power_kw`, `power_kw_lo` and `power_kw_hi` added to the same columns in watts."""
    ends = ("", "_lo", "_hi")
    return [{**row, **{f"power_kw{e}": row[f"power_w{e}"] / 1e3 for e in ends if f"power_w{e}" in row}} for row in rows]


def operator_group(family: str) -> str:
    """Return the heading under which the times of an operator family are summed."""
    return OPERATOR_GROUPS.get(family, "communication")


def step_time_rows(terms: Sequence[OperatorRow]) -> list[dict[str, Any]]:
    """Return one row per phase (prefill, decode): time of the step, and percent of it per group of operators."""
    rows = []
    for phase in dict.fromkeys(t["phase"] for t in terms):
        operators = [t for t in terms if t["phase"] == phase]
        shares: dict[str, float] = {}
        for t in operators:
            group = operator_group(t["family"])
            shares[group] = shares.get(group, 0.0) + t["share_percent"]
        total = sum(t["time_us"] for t in operators) / 1e3
        largest_first = dict(sorted(shares.items(), key=lambda item: -item[1]))
        rows.append({"step": phase, "step_ms": total, **{f"{k}_percent": v for k, v in largest_first.items()}})
    return rows


def print_plan(
    plan: Plan,
    rows: Sequence[dict[str, Any]],
    *,
    listed: int | None = None,
    misses: int = 3,
    wide: bool = False,
    narrower: Plan | None = None,
) -> None:
    """Print a plan: the question, the recommendation, the candidates, and where time and memory go.

    rows: of the plan (`Plan.rows`), best candidate first. listed: how many of them were asked for by rank, before those
    that are the best of a mode or a device (None: all). misses: near misses to print. wide: every column, whatever the
    width of the terminal. narrower: the plan with fp8 weights, where it was made together with this one. Where nothing
    qualifies, only the question, that nothing does, and the near misses.
    """
    print_text(question(plan))
    print_text(headline(plan), bold=True)
    print_text("")
    if plan.feasible:
        _print_ranking(plan, [row for row in rows if row["rank"]], wide, narrower, listed)
        _print_modes(plan, wide)
        _print_engines(plan, wide)
    print_misses(plan, rows, misses, wide=wide)
    if plan.feasible:
        _print_time_and_memory(plan, wide)


def _layout(plan: Plan, rows: Sequence[dict[str, Any]], columns: Sequence[str], **more: Any) -> Layout:
    """Return the layout of a table of candidates with these columns. more: further fields of the layout."""
    bounded = [o.key for o in plan.scenario.slo.objectives] or ["ttft_ms", "tpot_ms"]
    limited = isfinite(plan.scenario.limits.power)
    short = {row["candidate"]: short_name(row["candidate"]) for row in rows}
    signs = [meaning for sign, meaning in SHORT_NAMES.items() if any(sign in text for text in short.values())]
    return Layout(
        columns=columns,
        label="candidate",
        keep=["usd_per_hour", plan.scenario.minimise, *bounded, "slo_chance", "mode"],
        drop=[*(c for c in LESS_IMPORTANT if c not in LIMITED_POWER), *LIMITED_POWER] if limited else LESS_IMPORTANT,
        short=short,
        short_note=f"Candidates: {'; '.join(signs)}." if signs else "",
        **more,
    )


def _print_ranking(
    plan: Plan, rows: Sequence[dict[str, Any]], wide: bool, narrower: Plan | None, listed: int | None
) -> None:
    """Print the candidates that qualify, best first, and below what they share. narrower, listed: see `print_plan`."""
    columns = [c for c in candidate_columns(plan) if c != "reason"]
    remarks = dict.fromkeys(row["remark"] for row in rows if row.get("remark"))
    bases = list(dict.fromkeys(row["basis"] for row in rows))
    if len(bases) == 1 and not wide:
        columns.remove("basis")
    notes = [
        f"{ranking_note(plan)}.",
        *([_shared_basis(bases[0])] if len(bases) == 1 else []),
        *odds_note(rows),
        *price_note(rows),
        *account_note(rows),
        power_note(plan, rows),
        *remarks,
        *getattr(plan, "notes", ()),
        *_offers(plan, narrower),
        *_rented_alike(rows[:listed]),
        *_beyond_the_list([] if listed is None else rows[listed:]),
        *_same_figures(rows),
        *([f"Sure %: {SURE}"] if plan.scenario.slo.objectives else []),
    ]
    if plan.scenario.path == COMMAND_LINE and any("[" in note for note in notes):
        notes.append(SET_HERE)
    layout = _layout(
        plan, rows, columns, number="rank", notes=notes, without_range=["usd_per_million_tokens"], wide=wide
    )
    print_rows(with_kilowatts(rows), layout=layout)


def _rented_alike(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Say in one line which ranks are not listed because they rent what a better one rents; nothing where none is.

    rows: those that are listed by rank.
    """
    gaps = [(a["rank"] + 1, b["rank"] - 1) for a, b in pairwise(rows) if b["rank"] > a["rank"] + 1]
    if not gaps:
        return []
    texts = [f"{first}" if first == last else f"{first} to {last}" for first, last in gaps]
    who = f"Ranks {_listed(texts)} rent" if len(gaps) > 1 or gaps[0][0] != gaps[0][1] else f"Rank {texts[0]} rents"
    way = f"--csv or --json with --top {gaps[-1][1]} lists them"
    return [f"{who} as many devices for each pool as a listed rank, in other layouts; {way}."]


def _beyond_the_list(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Say in one line why rows below the list are shown; nothing where there are none. rows: those below the list."""
    texts = [f"rank {row['rank']} is the best of {row['best_of'].replace('; ', ' and of ')}" for row in rows]
    return [f"Among these, {'; '.join(texts)}."] if texts else []


def _shared_basis(basis: str) -> str:
    """Say what the times of all candidates rest on, and what that means, where it is the same for all.

    >>> _shared_basis("roofline")
    'Basis of all candidates: roofline. Peak arithmetic rate and bandwidth, at the efficiency of this kind of device.'
    """
    from perfmodel import glossary

    meaning = next(entry.meaning for entry in glossary.explain(basis) if entry.kind == "basis")
    return f"Basis of all candidates: {basis}. {meaning}"


def _same_figures(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Say in one line which ranks have the same figures with other settings; nothing where none has."""
    alike: dict[str, list[str]] = {}
    for row in rows:
        if row.get("stands_for"):
            alike.setdefault(row["stands_for"], []).append(f"{row['rank']}")
    texts = [f"rank{'s' * (len(ranks) > 1)} {_listed(ranks)} with {settings}" for settings, ranks in alike.items()]
    return [f"The same figures follow from other settings: {'; '.join(texts)}."] if texts else []


def _listed(words: Sequence[str]) -> str:
    """Join words as an enumeration.

    >>> _listed(["1", "3", "4"])
    '1, 3 and 4'
    """
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _offers(plan: Plan, narrower: Plan | None) -> list[str]:
    """Say which number formats were not tried and might be; nothing where there are none. narrower: see `print_plan`"""
    from search.planning import checkpoint_offer, format_offer

    with progress_bar("trying fp8 weights") as update:
        told = format_offer(plan, update, narrower)
    return [text for text in (told, checkpoint_offer(plan)) if text]


def _print_modes(plan: Plan, wide: bool) -> None:
    """Print the best candidate of each mode side by side, where colocated and disaggregated ones were tried."""
    found = getattr(plan, "best_by_mode", None)
    rows = found() if found else []
    if len(rows) > 1:
        columns = ["mode", *(c for c in candidate_columns(plan) if c not in ("rank", "reason", "basis"))]
        layout = _layout(plan, rows, columns, title="The best of each mode", number="mode", brief=True, wide=wide)
        print_rows(with_kilowatts(rows), layout=layout)


def _print_engines(plan: Plan, wide: bool) -> None:
    """Print the best candidate of each engine side by side, where the scenario names several."""
    rows = plan.best_by_engine() if plan.rivals else []
    if rows:
        columns = ["engine", *(c for c in candidate_columns(plan) if c not in ("rank", "reason", "basis"))]
        without = [engine_title(p) for p in plan.rivals if not p.feasible]
        notes = [f"Nothing qualifies with {' or '.join(without)}."] if without else []
        title = "The best of each engine"
        layout = _layout(plan, rows, columns, title=title, number="engine", notes=notes, brief=True, wide=wide)
        print_rows(with_kilowatts(rows), layout=layout)


def print_misses(
    plan: Plan, rows: Sequence[dict[str, Any]], most: int, *, wide: bool = False, stream: TextIO | None = None
) -> None:
    """Print the near misses of a plan in a table of their own, each with its reason below.

    rows: of the plan (`Plan.rows`). most: how many. wide: every column. stream: stdout by default.
    """
    found = getattr(plan, "misses", None)
    near = found(most) if found else [row for row in rows if not row["rank"]][:most]
    if near:
        columns = [c for c in candidate_columns(plan) if c not in ("rank", "basis", "headroom")]
        layout = _layout(plan, near, columns, title="Near misses", below=["reason"], brief=True, wide=wide)
        print_rows(with_kilowatts(near), layout=layout, stream=stream)


def _print_time_and_memory(plan: Plan, wide: bool) -> None:
    """Print where the time of a step and the memory of a device of the best candidate go."""
    from search.planning import memory_of, memory_place, terms_of

    title = POOL_STEP_TIMES_TITLE if plan.disaggregated(plan.best) else STEP_TIMES_TITLE
    print_rows(step_time_rows(terms_of(plan)), layout=Layout(title=title, wide=wide))
    memory = {"memory": memory_place(plan), **memory_of(plan)}
    print_rows([memory], layout=Layout(title="Where the memory of a device goes", wide=wide))


def operator_layout(title: str, wide: bool, notes: Sequence[str] = ()) -> Layout:
    """Return the layout of a table of times per operator.

    wide: every column, whatever the width of the terminal. notes: printed below.
    """
    return Layout(
        title=title,
        columns=OPERATOR_COLUMNS,
        label="operator",
        keep=["phase", "time_us", "share_percent"],
        drop=LESS_IMPORTANT_OF_OPERATORS,
        notes=notes,
        wide=wide,
    )


def print_operators(plan: Plan, terms: Sequence[OperatorRow], *, wide: bool = False) -> None:
    """Print the time of the best candidate of a plan by operator. terms: flat rows (`terms_of`)."""
    rows = [{**t, "spread_percent": 100.0 * expm1(t["spread"])} for t in terms]
    print_rows(rows, layout=operator_layout(f"Where the time goes: {plan.name(plan.best)}", wide))
