"""Score decisions: is the configuration that a predictor picks the one that measured best?

A decision has a model, a pair of prompt and output lengths, and a limit on TPOT. Its alternatives are all
configurations that were measured with them (parallelism, precision, engine, concurrency, pools). The predictor picks
the one with the highest predicted throughput per device among those that it predicts to keep the limit. The pick is
judged by its measurement: whether it kept the limit, and how much throughput a better pick would have given.

Limits may also be on TTFT, alone or beside TPOT, where it was measured (`LIMITS`).

`configuration` decisions compare alternatives on one device. `hardware` decisions compare across devices, by throughput
per price. Only closed loops are compared: at an offered rate every configuration that keeps up has the same throughput.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from perfmodel.arrays import Array
from perfmodel.unit_factors import MS_PER_S

if TYPE_CHECKING:
    import pandas as pd

#: Limits, as quantiles of what the alternatives measured: from demanding to lax.
LIMIT_QUANTILES = (0.2, 0.4, 0.6, 0.8)
#: What limits are on, by name. With several, each has its own limit at the same quantile.
LIMITS = {"tpot": ("tpot",), "ttft": ("ttft",), "both": ("tpot", "ttft")}
#: Fewest alternatives of a decision. Chosen: with fewer, a random pick is often the best one.
MIN_ALTERNATIVES = 6
#: A pick keeps a limit when its measured latency is at most this times it. Chosen: runs repeat within a few percent.
LIMIT_TOLERANCE = 1.1
#: Columns whose values all alternatives share.
SAME = {"configuration": ("dataset", "model", "device", "isl", "osl"), "hardware": ("dataset", "model", "isl", "osl")}


@dataclass(frozen=True)
class Decision:
    """One decision and how its pick measured.

    kind: `configuration` or `hardware`. device: "" for hardware decisions. limit_ms, ttft_limit_ms: limits on TPOT and
    on TTFT, NaN without one. alternatives: configurations that were measured; predicted: share of them with a
    prediction. pick, best: case_id of the pick and of the best measured one within the limits; pick is "" where no
    alternative was predicted to keep them. limit_kept: whether the pick kept them. regret: 1 - throughput per device
    (and price) of the pick over that of the best; 1 without a pick, below 0 where the pick gave more by breaking the
    limit. right_device: whether the pick is on the best one's device; always True for a configuration decision with a
    pick.
    """

    kind: str
    dataset: str
    model: str
    device: str
    isl: float
    osl: float
    limit_ms: float
    ttft_limit_ms: float
    alternatives: int
    predicted: float
    pick: str
    best: str
    limit_kept: bool
    regret: float
    right_device: bool


def decisions(
    cases: pd.DataFrame,
    predictions: pd.DataFrame,
    truth: pd.DataFrame,
    prices: Mapping[str, float] | None = None,
    limits: str = "tpot",
) -> pd.DataFrame:
    """Make and judge every decision that the measured cases allow; return a line each with the fields of `Decision`.

    Throughput is `total_tok_s`. Where it was not measured, both sides take it from latencies by Little's law.

    Args:
        cases: a line per run with `case_id, dataset, model, device, n_devices, isl, osl, mode, concurrency`; text or
            numbers. Choose the rows before: a split, runs of known setup.
        predictions: a line per run with `case_id` and predicted metrics, as `predict` writes them.
        truth: a line per measured value with `case_id, metric, value`.
        prices: device -> price per hour; hardware decisions are made among devices that have one.
        limits: what limits are on, a key of `LIMITS`; alternatives are the runs that measured all of it.
    """
    import pandas as pd

    limited = LIMITS[limits]
    runs = _runs(cases, predictions, truth).dropna(subset=list(limited))
    made = list(_decided(runs.assign(price=1.0), "configuration", limited))
    if prices:
        priced = runs.assign(price=runs.device.map(dict(prices)))
        made += _decided(priced[priced.price.notna()], "hardware", limited)
    return pd.DataFrame([asdict(d) for d in made], columns=list(Decision.__dataclass_fields__))


def by_data_set(made: pd.DataFrame) -> pd.DataFrame:
    """Summarise the decisions by kind and data set, a line each: some of what `summary` returns."""
    import pandas as pd

    keys, told = ["kind", "dataset"], ["decisions", "no_pick", "limit_kept", "right_device"]
    rows = [{**dict(zip(keys, key, strict=True)), **summary(part)} for key, part in made.groupby(keys)]
    return pd.DataFrame(rows, columns=[*keys, *told, "regret_median", "regret_mean"])


def summary(made: pd.DataFrame) -> dict[str, float]:
    """Summarise decisions: shares of all of them, and the regret of picks that kept the limit.

    decisions: how many. no_pick: nothing was predicted to keep the limit. limit_kept: picks within the limit, no pick
    counting as broken. within_5, within_10: those of them with at least 95 and 90 % of the best throughput.
    regret_median, regret_mean: of picks that kept the limit, a pick better than the best within the limit counting 0 in
    the mean. right_device: picks on the best device, of the decisions with a pick.
    """
    kept = made[made.limit_kept]
    return {
        "decisions": len(made),
        "no_pick": float((made.pick == "").mean()),
        "limit_kept": float(made.limit_kept.mean()),
        "within_5": float((made.limit_kept & (made.regret <= 0.05)).mean()),
        "within_10": float((made.limit_kept & (made.regret <= 0.1)).mean()),
        "regret_median": float(kept.regret.median()),
        "regret_mean": float(kept.regret.clip(lower=0.0).mean()),
        "right_device": float(made[made.pick != ""].right_device.mean()),
    }


def _runs(cases: pd.DataFrame, predictions: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Return the measured closed-loop runs with their measured and predicted TPOT and throughput.

    Adds `tpot` and `ttft` (ms), `rate` (tokens/s per device), and what was predicted of each (`predicted_tpot`, ...);
    TTFT and predictions are NaN where unknown.
    """
    import pandas as pd

    numbers = {c: pd.to_numeric(cases[c], errors="coerce") for c in ("n_devices", "isl", "osl", "concurrency")}
    runs = cases.assign(**numbers)
    runs = runs[(runs["mode"] == "closed") & runs.concurrency.notna()]
    measured = truth.pivot_table(index="case_id", columns="metric", values="value").reindex(runs.case_id)
    told = predictions.drop_duplicates("case_id").set_index("case_id").reindex(runs.case_id)
    by_latency = _metric(measured, "total_tok_s").isna()
    runs = runs.assign(
        tpot=_latency(measured, "tpot"),
        ttft=_latency(measured, "ttft"),
        rate=_rate(runs, measured, by_latency),
        predicted_tpot=_latency(told, "tpot"),
        predicted_ttft=_latency(told, "ttft"),
        predicted_rate=_rate(runs, told, by_latency),
    )
    return runs[runs.tpot.notna() & runs.rate.notna()]


def _metric(table: pd.DataFrame, name: str) -> pd.Series[float]:
    """Return a metric of each run as numbers; NaN where the table does not have it."""
    import pandas as pd

    if name not in table:
        return pd.Series(np.nan, index=table.index)
    return pd.to_numeric(table[name], errors="coerce")


def _latency(table: pd.DataFrame, name: str) -> Array:
    """Return the TPOT or TTFT (`name`) of each run in ms: its mean, or its median where the mean is missing."""
    mean, median = _metric(table, f"{name}_ms"), _metric(table, f"{name}_ms_p50")
    return np.asarray(mean.fillna(median), dtype=np.float64)


def _rate(runs: pd.DataFrame, table: pd.DataFrame, by_latency: pd.Series[bool]) -> Array:
    """Return the tokens/s per device of each run: from `total_tok_s`, or from latencies where `by_latency` is True.

    Little's law: `concurrency` requests in flight, each of isl + osl tokens, leave after TTFT + (osl - 1) TPOT.
    """
    residence = (
        _metric(table, "ttft_ms").to_numpy() + (runs.osl.to_numpy() - 1.0) * _latency(table, "tpot")
    ) / MS_PER_S
    from_latency = (runs.concurrency * (runs.isl + runs.osl)).to_numpy() / residence
    rate = np.where(by_latency.to_numpy(), from_latency, _metric(table, "total_tok_s").to_numpy())
    per_device: Array = rate / runs.n_devices.to_numpy()
    return per_device


def _decided(runs: pd.DataFrame, kind: str, limited: tuple[str, ...]) -> Iterator[Decision]:
    """Make and judge all decisions of a kind, those left out that no alternative keeps.

    runs: with the column `price`, which throughput is divided by. limited: the latencies that have a limit.
    """
    for _, found in runs.groupby(list(SAME[kind])):
        if len(found) < MIN_ALTERNATIVES or (kind == "hardware" and found.device.nunique() < 2):
            continue
        for quantile in LIMIT_QUANTILES:
            limits = {name: float(found[name].quantile(quantile)) for name in limited}
            if _within(found, limits).any():
                yield _decide(found, kind, limits)


def _within(runs: pd.DataFrame, limits: Mapping[str, float], prefix: str = "") -> pd.Series[bool]:
    """Return which runs keep all limits by their columns `prefix` + name."""
    return (runs[[prefix + name for name in limits]] <= list(limits.values())).all(axis=1)


def _decide(found: pd.DataFrame, kind: str, limits: Mapping[str, float]) -> Decision:
    """Make and judge the decision among the runs `found`, its alternatives. limits: in ms, by name of the latency."""
    best = _highest(found[_within(found, limits)], "rate")
    told = found.dropna(subset=["predicted_rate", *(f"predicted_{name}" for name in limits)])
    allowed = told[_within(told, limits, "predicted_")]
    first = found.iloc[0]
    pick, kept, regret, right = "", False, 1.0, False
    if len(allowed):
        chosen = _highest(allowed, "predicted_rate")
        pick, right = str(chosen.case_id), bool(chosen.device == best.device)
        kept = all(chosen[name] <= LIMIT_TOLERANCE * limit for name, limit in limits.items())
        regret = 1.0 - float((chosen.rate / chosen.price) / (best.rate / best.price))
    return Decision(
        kind=kind,
        dataset=str(first.dataset),
        model=str(first.model),
        device=str(first.device) if kind == "configuration" else "",
        isl=float(first.isl),
        osl=float(first.osl),
        limit_ms=limits.get("tpot", np.nan),
        ttft_limit_ms=limits.get("ttft", np.nan),
        alternatives=len(found),
        predicted=len(told) / len(found),
        pick=pick,
        best=str(best.case_id),
        limit_kept=bool(kept),
        regret=regret,
        right_device=right,
    )


def _highest(runs: pd.DataFrame, rate: str) -> pd.Series[Any]:
    """Return the run with the highest `rate` (name of a column) per price; the first one of equals."""
    return runs.iloc[int(np.argmax((runs[rate] / runs.price).to_numpy()))]
