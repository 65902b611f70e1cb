"""Tables of the accuracy page: error of predictions by kind of metric, source, device and mode, beside peers.

`rows` below is a frame with a line per measured value: the columns of its case and `metric, value, predicted, low,
high, error` (see `perfmodel.fitting.joined`). Shares are fractions until `markdown` prints them.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from perfmodel.fitting import joined

METRICS = {
    "latency": ("tpot_ms", "tpot_ms_p50", "itl_ms_p50", "e2e_ms"),
    "first token": ("ttft_ms", "ttft_ms_p50"),
    "throughput": ("output_tok_s", "total_tok_s", "decode_tok_s", "prefill_tok_s"),
    "power": ("power_w_per_device", "energy_j_per_output_token"),
}
COMMODITY = ("cpu", "rtx", "ascend", "mi", "tpu", "trainium", "inferentia", "ryzen", "epyc", "xeon", "m1", "m2", "m3")
SILICON = "aiconfigurator_silicon"
#: Share of groups that the column `without the worst 2 %` leaves out, and from how many groups on it says something.
WORST_SHARE, FEWEST_GROUPS = 0.02, 10
#: What makes two published runs one configuration, where two sources measured it.
SAME = (
    "model",
    "device",
    "engine",
    "n_devices",
    "weight_dtype",
    "isl",
    "osl",
    "mode",
    "concurrency",
    "batch",
    "request_rate_rps",
    "spec_decode",
    "prefill_workers",
    "decode_workers",
    "tp",
    "ep",
    "prefill_tp",
    "decode_tp",
    "decode_ep",
)


def answered(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows whose prediction is a finite number."""
    finite: pd.DataFrame = rows[rows.predicted.notna() & np.isfinite(rows.error)]
    return finite


def group_medians(rows: pd.DataFrame) -> pd.Series:
    """Median |error| of every group, largest first; indexed by group."""
    medians = answered(rows).assign(size=lambda r: r.error.abs()).groupby("group")["size"].median()
    return medians.sort_values(ascending=False)


def without_worst(medians: pd.Series) -> float:
    """Mean of group medians without the worst 2 % of groups (at least one); NaN for few groups."""
    if len(medians) < FEWEST_GROUPS:
        return float("nan")
    return float(medians.iloc[int(np.ceil(WORST_SHARE * len(medians))) :].mean())


def inside(rows: pd.DataFrame) -> float:
    """Share of measurements within the predicted interval; NaN where there is none."""
    band = answered(rows)
    band = band[band.low.notna() & band.high.notna()]
    return float(((band.value >= band.low) & (band.value <= band.high)).mean()) if len(band) else float("nan")


def line(rows: pd.DataFrame) -> dict[str, object]:
    """One line of a table: counts, median, mean and 90th percentile of |error|, bias, groups equal (mean, median and
    trimmed mean of group medians), share inside the interval."""
    hit = answered(rows)
    size, groups = hit.error.abs(), group_medians(rows)
    return {
        "values": len(rows),
        "answered": len(hit) / max(len(rows), 1),
        "median": size.median(),
        "mean": size.mean(),
        "p90": size.quantile(0.9),
        "bias": hit.error.median(),
        "groups": len(groups),
        "median, groups equal": groups.mean(),
        "median group": groups.median(),
        "without the worst 2 %": without_worst(groups),
        "inside 80 %": inside(rows),
    }


def markdown(title: str, lines: dict[str, dict[str, object]]) -> str:
    """A table in Markdown; fractions as per cent, counts and text as they are. Empty without lines."""
    if not lines:
        return ""
    columns = list(next(iter(lines.values())))

    def cell(value: object) -> str:
        if isinstance(value, str | int | np.integer):
            return str(value)
        number = float(value)  # type: ignore[arg-type]
        return "-" if number != number else f"{100 * number:.1f} %"

    head = f"| {title} | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns) + "\n"
    body = [f"| {plain(key)} | " + " | ".join(cell(row[c]) for c in columns) + " |" for key, row in lines.items()]
    return head + "\n".join(body) + "\n"


def plain(text: str) -> str:
    """Text that cannot end a cell: the bars of a group's name become commas."""
    return ", ".join(part for part in text.split("|") if part)


def scopes(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows that the headline figures are of: silicon by metric, all others by kind of metric."""
    silicon, others = rows[rows.dataset == SILICON], rows[rows.dataset != SILICON]
    found = {f"silicon {m}": silicon[silicon.metric == m] for m in ("tpot_ms", "ttft_ms")}
    found |= {f"others, {kind}": others[others.metric.isin(metrics)] for kind, metrics in METRICS.items()}
    return {name: part for name, part in found.items() if len(part)}


def limits(rows: pd.DataFrame) -> dict[str, dict[str, object]]:
    """What the groups-equal figures rest on: how much of each the worst 2 % of groups give, and which they are."""
    found: dict[str, dict[str, object]] = {}
    for name, part in scopes(rows).items():
        groups = group_medians(part)
        worst = int(np.ceil(WORST_SHARE * len(groups))) if len(groups) >= FEWEST_GROUPS else 0
        shown = [
            f"{plain(str(g).partition('|')[2])} ({100 * e:,.0f} %)" for g, e in groups.iloc[: min(worst, 3)].items()
        ]
        found[name] = {
            "groups": len(groups),
            "groups equal": groups.mean(),
            "median group": groups.median(),
            "worst 2 %": worst,
            "they give": float(groups.iloc[:worst].sum() / len(groups)) if worst else np.nan,
            "without them": without_worst(groups),
            "the worst of them": "; ".join(shown) or "-",
        }
    return found


def intervals(rows: pd.DataFrame, by: str) -> dict[str, dict[str, object]]:
    """Share inside the 80 % interval, by a column of the cases and kind of metric; the number of values in brackets."""
    found: dict[str, dict[str, object]] = {}
    for name, part in rows.groupby(by):
        kinds = {kind: part[part.metric.isin(metrics)] for kind, metrics in METRICS.items()} | {"all metrics": part}
        shares = {kind: (inside(r), len(answered(r))) for kind, r in kinds.items()}
        found[str(name)] = {k: f"{100 * s:.0f} % ({n})" if s == s else "-" for k, (s, n) in shares.items()}
    return found


def beside(rows: pd.DataFrame, peers: dict[str, pd.DataFrame]) -> dict[str, dict[str, object]]:
    """Everyone on exactly the same values: those that a peer answers, peer by peer, then those that all answer."""
    own = "perfmodel closed form"
    found: dict[str, dict[str, object]] = {}
    bare = rows.drop(columns=["predicted", "low", "high", "error"])
    tables = {own: rows} | {name: joined(bare, table) for name, table in peers.items()}
    teams = [[own, peer] for peer in peers] + ([list(tables)] if len(peers) > 1 else [])
    parts = scopes(rows)
    for name in [n for n in parts if n.startswith("silicon") and "isl_dist" in rows]:
        equal = parts[name].isl_dist.isin(["", "fixed"])
        parts |= {f"{name}, equal lengths": parts[name][equal], f"{name}, spread lengths": parts[name][~equal]}
    for scope, part in parts.items():
        for team in teams:
            common = set.intersection(*(set(answered(tables[t].loc[part.index]).index) for t in team))
            chosen = [i for i in part.index if i in common]
            for member in team if chosen else []:
                key = f"{scope}; {' and '.join(team[1:])} answer{'s' if len(team) == 2 else ''}; **{member}**"
                whole = line(tables[member].loc[chosen])
                shown = ("values", "median", "mean", "p90", "bias", "median, groups equal", "median group")
                found[key] = {c: whole[c] for c in shown}
    return found


def repeats(cases: pd.DataFrame, truth: pd.DataFrame) -> dict[str, dict[str, object]]:
    """Spread (max - min)/median of the same run repeated, by source and metric, over both splits of known setup.

    truth: with `rel_spread` where runs were repeated, else nothing is found."""
    if "rel_spread" not in truth:
        return {}
    known = cases[cases.trust.isin(["A", "B"]) & (cases.spec_decode == "")]
    again = truth[truth.rel_spread.notna()].merge(known, on="case_id")
    found: dict[str, dict[str, object]] = {}
    for (source, metric), part in again.groupby(["dataset", "metric"]):
        if len(part) >= 4:
            spread = part.rel_spread
            found[f"{source}: {metric}"] = {
                "runs repeated": len(part),
                "median spread": spread.median(),
                "mean": spread.mean(),
                "p90": spread.quantile(0.9),
            }
    return found


def twins(cases: pd.DataFrame, truth: pd.DataFrame) -> dict[str, dict[str, object]]:
    """How well one source's measurement predicts another's of the same configuration: test rows against train rows of
    another data set, the mean of a latency taken for its median where one source gives only that."""
    keys = [c for c in SAME if c in cases.columns]
    values = truth.merge(cases, on="case_id").assign(kind=lambda r: r.metric.str.removesuffix("_p50"))
    test, train = values[(values.split == "test") & (values.twin_in_train == "1")], values[values.split == "train"]
    pairs = test.merge(train, on=[*keys, "kind"], suffixes=("", "_train"))
    pairs = pairs[pairs.dataset != pairs.dataset_train].assign(size=lambda r: (r.value_train / r.value - 1.0).abs())
    found: dict[str, dict[str, object]] = {}
    for (source, other, metric), part in pairs.groupby(["dataset", "dataset_train", "metric"]):
        if len(part) >= 4:
            found[f"{source}: {metric}, told by {other}"] = {
                "pairs": len(part),
                "median": part["size"].median(),
                "mean": part["size"].mean(),
                "p90": part["size"].quantile(0.9),
            }
    return found
