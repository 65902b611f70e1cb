"""Tables of docs/odds.md: coverage of ranges, reliability of chances, odds of pairs."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import ndtr

from benchmarks.accuracy_tables import markdown
from perfmodel.estimates import CAUSES, DEVIATE_80, uncertainty
from perfmodel.fitting import spreads_of

#: Fewest values of a cell that is listed.
LEAST = 30
#: Share of values inside that counts as held, and draws of groups that tell how often exact ranges would be there.
HELD, DRAWS = (0.75, 0.86), 200
#: Limits that a chance is asked for, over the estimate.
LIMITS = (0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0)
#: Ends of the classes of chances and of loads.
CHANCES, LOADS = (0.0, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0), (0.0, 0.5, 0.8, 1.0, np.inf)
#: Classes of odds of the preferred one.
ODDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.97, 1.0)
#: Most pairs of one model, data set and load, drawn at random.
MOST_PAIRS = 40
#: Causes that systems share: all of them, those of one engine, and those of one device under it.
OF_ALL, OF_ENGINE = ("arrivals",), ("host", "front_end")
MONEY = "usd_per_million_tokens"


def deviations(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(log standard deviation by cause, (V, K); of the rest, (V,); of all, (V,))."""
    causes, rest = spreads_of(rows, uncertainty())
    return causes, rest, np.sqrt(np.square(causes).sum(axis=1) + np.square(rest))


def with_money(rows: pd.DataFrame, prices: dict[str, float]) -> pd.DataFrame:
    """The rows, and those of money: output tokens/s of devices with a price."""
    money = rows[rows.metric.isin(("output_tok_s", "total_tok_s")) & rows.device.isin(prices)]
    return pd.concat([rows, money.assign(metric=MONEY)], ignore_index=True)


def in_range(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with `width`, the log half-width of their 80 % range, and `inside`, whether the measurement is in it."""
    width = DEVIATE_80 * deviations(rows)[2]
    return rows.assign(inside=np.abs(rows.ratio) <= width, width=width)


def _held(part: pd.DataFrame) -> dict[str, object]:
    """How often rows of `in_range` are inside, and the median width as a factor."""
    return {"inside": part.inside.mean(), "range, times": f"{np.exp(part.width.median()):.2f}"}


def coverage(rows: pd.DataFrame, prices: dict[str, float]) -> str:
    """Share of values inside their range by metric, mode and basis."""
    table = in_range(with_money(rows, prices))
    lines: dict[str, dict[str, object]] = {}
    exact = 0.0
    for (metric, mode, basis), part in table.groupby(["metric", "mode", "basis"]):
        if len(part) >= LEAST:
            lines[f"{metric}, {mode}, {basis}"] = {"values": len(part), "groups": part.group.nunique(), **_held(part)}
            exact += exactly_held(part)
    share = [float(line["inside"]) for line in lines.values()]
    within = sum(HELD[0] <= value <= HELD[1] for value in share)
    said = (
        f"{within} of {len(share)} cells between 75 and 86 %; all values: {100 * table.inside.mean():.0f} %. "
        f"Ranges that hold exactly in every cell would have about {exact:.0f} there, since runs of a group err alike: "
        "in each cell, ranges are scaled until 80 % are inside, then its groups are drawn anew.\n\n"
    )
    return said + markdown("metric, load, basis", lines)


def exactly_held(part: pd.DataFrame) -> float:
    """How often a cell of `in_range` would be within `HELD` if its ranges held 80 % exactly: groups drawn anew."""
    random = np.random.default_rng(0)
    wide = np.abs(part.ratio) / part.width
    inside = (wide <= wide.quantile(0.8)).groupby(part.group).agg(["sum", "size"]).to_numpy(float)
    drawn = inside[random.integers(0, len(inside), (DRAWS, len(inside)))].sum(axis=1)
    share = drawn[:, 0] / drawn[:, 1]
    return float(np.mean((share >= HELD[0]) & (share <= HELD[1])))


def by_load(rows: pd.DataFrame) -> str:
    """Coverage and width of open loops by share of capacity and kind of figure."""
    table = in_range(rows)[rows["mode"] == "open"]
    table = table.assign(tail=np.where(table.metric.str.contains("p9"), " tail", ""))
    lines: dict[str, dict[str, object]] = {}
    for (kind, tail), part in table.groupby(["kind", "tail"]):
        for load, mine in part.groupby(pd.cut(part.load, LOADS), observed=True):
            lines[f"{kind}{tail}, {100 * load.left:.0f} to {100 * load.right:.0f} %".replace("inf %", "more")] = {
                "values": len(mine),
                **_held(mine),
            }
    return markdown("figure, load", lines)


def reliability(rows: pd.DataFrame) -> str:
    """Chance said against frequency, of single limits and of two together."""
    mine = rows[rows.kind.isin(("ttft", "tpot"))].reset_index(drop=True)
    causes, _, whole = deviations(mine)
    logs = np.log(np.array(LIMITS))
    said = ndtr(logs[None, :] / whole[:, None])
    kept = mine.ratio.to_numpy()[:, None] <= logs[None, :]
    lines: dict[str, dict[str, object]] = {
        f"one limit, {name}": line for name, line in _by_chance(said.ravel(), kept.ravel()).items()
    }
    first, second = _same_run(mine)
    together = np.einsum("vk,vk->v", causes[first], causes[second]) / (whole[first] * whole[second])
    for limit in (0.85, 1.0, 1.2, 1.5) if len(first) else ():
        at = np.log(limit)
        alone = ndtr(at / whole[first]), ndtr(at / whole[second])
        joint = _both(at / whole[first], at / whole[second], together)
        both = (mine.ratio.to_numpy()[first] <= at) & (mine.ratio.to_numpy()[second] <= at)
        lines[f"TTFT and TPOT within {limit:g} x"] = {
            "values": len(first),
            "said": joint.mean(),
            "was": both.mean(),
            "product of both": (alone[0] * alone[1]).mean(),
        }
    return markdown("chance said", lines)


def _by_chance(said: np.ndarray, kept: np.ndarray) -> dict[str, dict[str, object]]:
    """Mean chance and frequency by class of chance."""
    table = pd.DataFrame({"said": said, "kept": kept})
    parts = table.groupby(pd.cut(table.said, CHANCES, include_lowest=True), observed=True)
    return {
        f"{100 * max(at.left, 0):.0f} to {100 * at.right:.0f} %": {
            "values": len(part),
            "said": part.said.mean(),
            "was": part.kept.mean(),
        }
        for at, part in parts
    }


def _same_run(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the mean or median TTFT and of that TPOT of the same run."""
    means = rows[~rows.metric.str.contains("p9|itl|e2e")]
    first = means[means.metric.str.startswith("ttft")].drop_duplicates("case_id")
    second = means[means.metric.str.startswith("tpot")].drop_duplicates("case_id")
    both = first.reset_index().merge(second.reset_index(), on="case_id", suffixes=("", "_2"))
    return both["index"].to_numpy(), both["index_2"].to_numpy()


def _both(first: np.ndarray, second: np.ndarray, together: np.ndarray) -> np.ndarray:
    """Chance that two normals of this correlation stay below `first` and `second`, by quadrature over their cause."""
    common = np.sqrt(np.clip(together, 0.0, 0.999))
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    rest = np.sqrt(1.0 - np.square(common))
    below = [ndtr((limit[:, None] - common[:, None] * nodes) / rest[:, None]) for limit in (first, second)]
    return below[0] * below[1] @ weights / weights.sum()


def pairs(rows: pd.DataFrame, prices: dict[str, float]) -> str:
    """Odds of pairs against what was measured, with common causes and as strangers."""
    lines: dict[str, dict[str, object]] = {}
    scores: dict[str, dict[str, object]] = {}
    for name, mine in _compared(rows, prices).items():
        table = _paired(mine.reset_index(drop=True))
        if not len(table):
            continue
        for kind, part in table.groupby("kind"):
            for at, some in part.groupby(pd.cut(part.said, ODDS, include_lowest=True), observed=True):
                label = f"{name}, {kind}, {100 * max(at.left, 0.5):.0f} to {100 * at.right:.0f} %"
                lines[label] = {
                    "pairs": len(some),
                    "said": some.said.mean(),
                    "was": some.was.mean(),
                    "as strangers": some.strangers.mean(),
                }
            scores[f"{name}, {kind}"] = {
                "pairs": len(part),
                "preferred one was better": part.was.mean(),
                "Brier score": f"{np.square(part.said - part.was).mean():.3f}",
                "as strangers": f"{np.square(part.strangers - part.was).mean():.3f}",
            }
    return markdown("figure, pairs, odds", lines) + "\n" + markdown("figure, pairs", scores)


def _compared(rows: pd.DataFrame, prices: dict[str, float]) -> dict[str, pd.DataFrame]:
    """The figures that pairs are compared by: name -> rows with `score`, the estimate of which less is better, and sign
    of the error in it."""
    rates = rows[rows.metric.isin(("output_tok_s", "total_tok_s")) & (rows["mode"] != "open")]
    devices = pd.to_numeric(rates.n_devices, errors="coerce")
    per_device = rates.assign(score=np.log(devices / rates.predicted), sign=-1.0)
    usd = per_device.assign(score=per_device.score + np.log(rates.device.map(prices).astype(float)))
    joules = rows[rows.metric == "energy_j_per_output_token"]
    times = rows[rows.metric.isin(("tpot_ms", "tpot_ms_p50"))]
    return {
        "tokens/s per device": per_device,
        "$ per token": usd[np.isfinite(usd.score)],
        "J per token": joules.assign(score=np.log(joules.predicted), sign=1.0),
        "TPOT": times.assign(score=np.log(times.predicted), sign=1.0),
    }


def _paired(rows: pd.DataFrame) -> pd.DataFrame:
    """Pairs of rows: odds of the preferred one (`said`, `strangers`), whether it measured better (`was`), `kind`."""
    random = np.random.default_rng(0)
    causes, rest, _ = deviations(rows)
    causes = causes * rows.sign.to_numpy()[:, None]
    load = ["dataset", "model", "metric", "mode", "isl", "osl", "concurrency", "batch", "rate_rps", "n_requests"]
    system = (rows.device + "|" + rows.engine).to_numpy()
    found = []
    for at in rows.groupby(load, dropna=False).indices.values():
        one, two = np.triu_indices(len(at), 1)
        keep = random.permutation(len(one))[:MOST_PAIRS]
        found.append(np.stack([at[one[keep]], at[two[keep]]]))
    if not found:
        return pd.DataFrame()
    one, two = np.concatenate(found, axis=1)
    ahead = rows.score.to_numpy()[two] - rows.score.to_numpy()[one]  # above 0: the first is preferred
    one, two = np.where(ahead >= 0, one, two), np.where(ahead >= 0, two, one)
    true = rows.score.to_numpy() + rows.sign.to_numpy() * rows.ratio.to_numpy()
    same, engines = system[one] == system[two], rows.engine.to_numpy()
    shared = np.stack(
        [
            np.ones(len(one), bool) if c in OF_ALL else engines[one] == engines[two] if c in OF_ENGINE else same
            for c in CAUSES
        ],
        axis=1,
    )
    apart = np.square(causes[one]) + np.square(causes[two])
    common = np.where(shared, 2.0 * causes[one] * causes[two], 0.0)
    rests = np.square(rest[one]) + np.square(rest[two])
    kinds = rows.kind.map(uncertainty().shared).to_numpy()[one]
    rests_common = np.where(same, 2.0 * kinds * rest[one] * rest[two], 0.0)
    gap = np.abs(ahead)
    both = np.sqrt(np.maximum((apart - common).sum(axis=1) + rests - rests_common, 1e-6))
    table = pd.DataFrame(
        {
            "kind": np.where(same, "same device", "other device"),
            "said": ndtr(gap / both),
            "strangers": ndtr(gap / np.sqrt(apart.sum(axis=1) + rests)),
            "was": (true[one] < true[two]) * 1.0,
        }
    )
    return table[gap > 0]
