"""Compute how likely the best candidate of a plan beats another one, and which uncertainty this depends on most.

Candidates are compared draw by draw under common errors of the model (`perfmodel.estimates.drawn`). In a draw, a
candidate beats another if it keeps every SLO and the other does not, or if both or neither do and the plan's ranking
prefers it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from perfmodel.arrays import Array, Index, Mask
from perfmodel.estimates import Drawn, Estimates, Place, drawn, overall
from search.scenario import RANKINGS

if TYPE_CHECKING:
    from search.planning.ranking.candidates import Candidates

#: Ranking -> (metric whose error it has, sign of that error); the others are counted, not estimated.
_ERROR_OF = {
    "usd_per_million_tokens": ("throughput", -1.0),
    "usd_per_million_total_tokens": ("throughput", -1.0),
    "power_w": ("power", 1.0),
    "site_energy_j_per_output_token": ("energy", 1.0),
    "gco2_per_million_tokens": ("energy", 1.0),
    "output_tok_s_per_device": ("throughput", 1.0),
    "output_tok_s": ("throughput", 1.0),
    "request_rate_rps": ("throughput", 1.0),
    "request_rate_rps_per_replica": ("throughput", 1.0),
    **{f"{metric}_ms": (metric, 1.0) for metric in ("ttft", "tpot", "e2e")},
}
#: Values of a ranking that differ by less, relative, are a tie. Chosen: rounding.
_TIE = 1e-6
#: Classes of a cause's draws whose outcomes are compared. Chosen: their scatter adds 0.5 % of the variance.
_CLASSES = 12
#: Least share of the variance of a comparison that a doubt is named with, and most doubts. Chosen: shows beside noise.
_LEAST_NAMED, _MOST_NAMED = 0.03, 2
#: How a rest ends that all candidates share which serve the model on a device.
_ON_MODEL = "of the model on"
#: Causes in words; the rest of a figure is named by itself.
_WORDS = {
    "compute": "speed of arithmetic",
    "memory": "speed of memory",
    "link": "speed of links",
    "launch": "time of kernel launches",
    "host": "time of the host",
    "front_end": "time of the front end",
    "power": "watts",
    "arrivals": "how requests arrive",
}


def odds_columns(candidates: Candidates, numbers: Sequence[int], found: Estimates) -> dict[str, list[float | str]]:
    """Return, by name, how often the best candidate beats each of `numbers`, and what that hangs on, M values each.

    `best_beats_chance`: share of common draws, ties half; NaN for the best itself and where nothing qualifies.
    `odds_hang_on`: words. found: estimates of the candidates `numbers`.
    """
    chance: list[float | str] = [np.nan] * len(numbers)
    words: list[float | str] = [""] * len(numbers)
    if candidates.feasible:
        best = int(candidates.order[0])
        whole = found if best in numbers else Estimates.concatenate([candidates.estimates(best), found])
        everyone = list(numbers) if best in numbers else [best, *numbers]
        wins, draws = _wins(candidates, everyone, whole)
        order = np.argsort(draws.deviates, axis=1)
        for at, number in enumerate(numbers):
            if number != best:
                outcome = wins[everyone.index(number)]
                chance[at], words[at] = float(outcome.mean()), _hangs_on(outcome, draws, order)
    return {"best_beats_chance": chance, "odds_hang_on": words}


def _wins(candidates: Candidates, numbers: Sequence[int], found: Estimates) -> tuple[Array, Drawn]:
    """Return (whether the best candidate beats each of `numbers` in each draw: 1, 0, or 1/2 for a tie, (M, D); draws).

    found: estimates of the candidates `numbers`, among which is the best.
    """
    target = candidates.scorer.target
    error_of, sign = _ERROR_OF.get(candidates.scorer.rank_by, ("", 0.0))
    figures = [(o.metric, o.statistic) for o in target.slo.objectives]
    figures += [(error_of, "mean")] if error_of else []
    places = [
        Place(" and ".join(candidates.device_names(number)), target.engine.name, candidates.name(number))
        for number in numbers
    ]
    draws = drawn(found, list(dict.fromkeys(figures)) or [("tpot", "mean")], places)
    keeps: Mask = np.broadcast_to(~found.saturated[:, None], (len(numbers), draws.deviates.shape[1]))
    for o in target.slo.objectives:
        value = overall(found, o.metric, o.statistic)
        keeps = keeps & (np.log(value)[:, None] + draws.errors[o.metric, o.statistic] <= np.log(o.limit))
    value = np.asarray(candidates.columns[candidates.scorer.rank_by], float)[np.asarray(numbers, np.intp)]
    value = value if RANKINGS[candidates.scorer.rank_by] else 1.0 / value
    direction = sign if RANKINGS[candidates.scorer.rank_by] else -sign
    with np.errstate(divide="ignore", invalid="ignore"):
        ranked = np.log(value)[:, None] + (direction * draws.errors[error_of, "mean"] if error_of else 0.0)
    first = list(numbers).index(int(candidates.order[0]))
    ahead = ranked - ranked[first]
    by_rank = np.where(np.abs(ahead) <= _TIE, 0.5, ahead > 0)
    by_rank = np.broadcast_to(np.where(np.isfinite(ahead), by_rank, 0.5), keeps.shape)
    return np.where(keeps[first] == keeps, by_rank, keeps[first] * 1.0), draws


def _hangs_on(outcome: Array, draws: Drawn, order: Index) -> str:
    """Name the doubts that carry most of the variance of an outcome by draw (D,), with their shares; "" if none does.

    The share of a cause is that of the variance of the mean outcome given the cause (its first-order Sobol index).
    order: draws by the deviate of each cause, (F, D).
    """
    variance = float(outcome.var())
    if variance == 0.0:
        return ""
    means = [part.mean(axis=1) for part in np.array_split(outcome[order], _CLASSES, axis=1)]
    shares = np.var(means, axis=0) / variance - _CLASSES / len(outcome)
    most = np.argsort(-shares)[:_MOST_NAMED]
    named = [(draws.factors[int(n)], float(shares[n])) for n in most if shares[n] >= _LEAST_NAMED]
    return "; ".join(
        f"{_in_words(factor)} ({100 * share:.0f} %{'' if n else ' of the doubt'})"
        for n, (factor, share) in enumerate(named)
    )


def _in_words(factor: tuple[str, str]) -> str:
    """Name a factor: `speed of memory of h100-sxm under vllm`, or `TPOT of 1 x 4 l4 alone`, which errs in no other."""
    cause, owner = factor
    if cause in _WORDS:
        return f"{_WORDS[cause]} of {owner}" if owner else _WORDS[cause]
    named = cause.replace("ttft", "TTFT").replace("tpot", "TPOT").replace("e2e", "E2E")
    return f"{named} {owner}" if cause.endswith(_ON_MODEL) else f"{named} {owner} alone"
