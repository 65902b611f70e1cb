"""The answer to a scenario: candidates ranked, the front, the winner, and why the rest did not qualify."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hwdb import Infeasible
from perfmodel import Deployments, Estimates
from perfmodel.arrays import Array
from perfmodel.costs import remarks_of
from perfmodel.dtypes import FORMAT_NAMES
from perfmodel.estimates import chances, overall
from perfmodel.vocabulary import BASES
from perfmodel.workload import load_of
from search.manifest import Manifest
from search.planning import disaggregated as pools
from search.planning.scoring import MS, VERDICTS, Scorer
from search.searchers import pareto, ranked

if TYPE_CHECKING:
    from search.scenario import Scenario

Index = NDArray[np.intp]
#: Columns of the front: less is better, except of the last.
FRONT = ("usd_per_hour", "ttft_ms", "tpot_ms", "output_tok_s")
#: Columns of scores that are codes or workings, not for rows.
_INTERNAL = {"objective", "verdict", "worst_objective", "slo_ratio", "basis", "fits", "host_w", "over_stock"}
_COUNTS = ("replicas", "devices_per_replica", "devices", "nodes", "devices_billed", "prefill_workers", "decode_workers")


@dataclass(frozen=True)
class Plan:
    """A scenario answered. Everything is in `rows()`; the arrays are for charts and for those who want all of it.

    layouts: (L,) colocated deployments that were tried, one replica each. pairs: (P,) disaggregated ones. columns:
    (L + P,) arrays, colocated first. removed: what each legality rule took away, as flat rows.
    """

    scenario: Scenario
    scorer: Scorer
    layouts: Deployments
    pairs: pools.Pairs
    columns: Mapping[str, Array]
    removed: tuple[Mapping[str, Any], ...]
    complete: bool
    manifest: Manifest

    def __len__(self) -> int:
        return len(self.columns["objective"])

    @property
    def qualifies(self) -> NDArray[np.bool_]:
        """(N,) True for candidates that keep every objective and limit."""
        return self.columns["verdict"] == 0

    @property
    def feasible(self) -> bool:
        """Whether anything qualifies."""
        return bool(self.qualifies.any())

    @cached_property
    def order(self) -> Index:
        """(N,) candidates from the best on: those that qualify by the scenario's ranking, then the nearest misses."""
        by_rank = ranked(self.columns, self.scenario.minimise, self.qualifies)
        count = int(self.qualifies.sum())
        missed = by_rank[count:]
        near = np.lexsort(
            (
                self.columns["usd_per_hour"][missed],
                self.columns["slo_ratio"][missed],
                _SEVERITY[self.columns["verdict"][missed].astype(int)],
            )
        )
        return np.concatenate([by_rank[:count], missed[near]])

    @cached_property
    def front(self) -> NDArray[np.bool_]:
        """(N,) True for qualifying candidates that no other one beats in cost, TTFT, TPOT and throughput at once."""
        keep = np.nonzero(self.qualifies)[0]
        out = np.zeros(len(self), dtype=bool)
        table = [self.columns[c][keep] for c in FRONT]
        out[keep] = pareto([table[3], *table[:3]], largest=[True])
        return out

    @property
    def best(self) -> int:
        """The winner's number; raises `Infeasible` with `message` when nothing qualifies."""
        if not self.feasible:
            raise Infeasible(self.message)
        return int(self.order[0])

    @property
    def message(self) -> str:
        """Why nothing qualifies, what comes nearest, and what to relax; empty when something does."""
        if self.feasible:
            return ""
        told: dict[int, str] = {}
        for number in self.order.tolist():
            code = int(self.columns["verdict"][number])
            if code not in told:
                told[code] = f"{self.name(number)}: {self.reason(number)}"
        return f"{self.scenario.title}: nothing meets the request. Nearest is " + "; or ".join(list(told.values())[:3])

    def disaggregated(self, number: int) -> bool:
        """Whether a candidate is a pair of pools."""
        return number >= len(self.layouts)

    def deployment(self, number: int) -> Deployments:
        """A colocated candidate as a deployment with its replicas (a batch of one)."""
        return replace(self.layouts.take(np.array([number])), replicas=self.columns["replicas"][[number]])

    def pair(self, number: int) -> pools.Pairs:
        """A disaggregated candidate (a batch of one)."""
        return self.pairs.take(np.array([number - len(self.layouts)]))

    def estimates(self, number: int) -> Estimates:
        """Estimates of one candidate at its operating point (a batch of one)."""
        return self.estimates_of([number])

    def estimates_of(self, numbers: Sequence[int]) -> Estimates:
        """Estimates of candidates at their operating points, in the order given."""
        wanted = np.asarray(numbers, dtype=np.intp)
        apart = wanted >= len(self.layouts)
        parts = [self._colocated(wanted[~apart])] if not apart.all() else []
        if apart.any():
            sizes = tuple(self.columns[c][wanted[apart]] for c in ("prefill_workers", "decode_workers"))
            chosen = self.pairs.take(wanted[apart] - len(self.layouts))
            parts.append(pools.estimates(self.scorer, chosen, (sizes[0], sizes[1])))
        whole = parts[0] if len(parts) == 1 else Estimates.concatenate(parts)
        return whole.take(np.argsort(np.argsort(apart, kind="stable"), kind="stable"))

    def _colocated(self, numbers: Index) -> Estimates:
        tried = replace(self.layouts.take(numbers), replicas=self.columns["replicas"][numbers])
        asked = self.scorer.asked
        if self.scorer.sized:
            return asked.estimates(tried)
        base = load_of(asked.workload.at(concurrency=1.0), len(numbers))
        return asked.estimates_of(replace(base, concurrency=self.columns["concurrency_per_replica"][numbers]), tried)

    def name(self, number: int) -> str:
        """A candidate in words: `3 x 4 h100-sxm, TP4, fp8`."""
        c = self.columns
        if not self.disaggregated(number):
            one = self.layouts.take(np.array([number]))
            return f"{c['replicas'][number]:g} x {deployment_words(one)}"
        pair = self.pair(number)
        front, back = (deployment_words(d) for d in (pair.prefill, pair.decode))
        return f"prefill {c['prefill_workers'][number]:g} x {front} + decode {c['decode_workers'][number]:g} x {back}"

    def reason(self, number: int) -> str:
        """Why a candidate does not qualify, by how much, and what to relax; empty when it does."""
        c, verdict = self.columns, VERDICTS[int(self.columns["verdict"][number])]
        limits = self.scenario.limits
        if verdict == "memory":
            return f"does not fit: {self.estimates(number).reason(0)}"
        if verdict == "objectives":
            return self._missed(number)
        if verdict == "stock":
            short = c["over_stock"][number]
            return f"needs {c['devices'][number]:g} devices, {short:g} more than on hand; raise the stock by {short:g}"
        over = {
            "devices": ("devices", limits.devices, "", 1.0),
            "nodes": ("nodes", limits.nodes, "", 1.0),
            "power": ("power_w", limits.power, " kW", 1e-3),
            "budget": ("usd_per_hour", limits.usd_per_hour, " USD/h", 1.0),
        }
        if verdict in over:
            column, limit, unit, scale = over[verdict]
            value = c[column][number] * scale
            return (
                f"takes {value:,.4g}{unit} {verdict}, allowed are {limit * scale:,.4g}; raise the limit to {value:,.4g}"
            )
        return "its price or power is not known, and a limit on it is set" if verdict == "unknown" else ""

    def _missed(self, number: int) -> str:
        """The objective missed most, with its value, and what would have to be allowed."""
        slo, c = self.scorer.asked.slo, self.columns
        if not slo.objectives or not np.isfinite(c["slo_ratio"][number]):
            return "demand exceeds what it serves, however many replicas are on hand"
        worst = slo.objectives[int(c["worst_objective"][number])]
        value, limit, sure = c[worst.key][number], worst.limit * 1e3, self.scorer.asked.confidence
        allow = limit * c["slo_ratio"][number]
        told = f"{worst.key} is {value:,.4g} ms against {limit:,.4g} ms"
        if sure != 0.5:
            told += f" to be kept with {sure:.0%} probability"
        return f"{told}; relax it to {allow:,.4g} ms"

    def row(self, number: int) -> dict[str, Any]:
        """A candidate as one flat record; names carry units, `_lo` and `_hi` bound the 80 % interval."""
        return self._rows([number])[0]

    def _rows(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        if not len(numbers):
            return []
        found, slo = self.estimates_of(numbers), self.scorer.asked.slo
        tails = {
            f"{metric}_ms_{s}": overall(found, metric, s) * MS
            for metric in ("ttft", "tpot")
            for s in ("p50", "p90", "p99")
        }
        tails |= {f"{o.key}_chance": p for o, p in zip(slo.objectives, chances(found, slo), strict=True)}
        return [
            self._row(number, {name: float(column[i]) for name, column in tails.items()})
            for i, number in enumerate(numbers)
        ]

    def _row(self, number: int, tails: Mapping[str, float]) -> dict[str, Any]:
        c = {k: float(v[number]) for k, v in self.columns.items()}
        out: dict[str, Any] = {
            "candidate": self.name(number),
            "mode": "disaggregated" if self.disaggregated(number) else "colocated",
            **self._layout(number),
            **{k: c[k] for k in c if k not in _INTERNAL and not k.startswith("spread_")},
            **_ranges(c, demanded=self.scorer.asked.workload.arrival == "open"),
            **tails,
            "slo_strain": c["slo_ratio"],
            "basis": BASES[int(c["basis"])],
            "qualifies": c["verdict"] == 0,
            "reason": self.reason(number),
            "price": self._price(number),
        }
        told = remarks_of(self.scorer.tariff.devices[d] for d in self._used(number))
        out |= {"remark": "; ".join(told)} if told else {}
        return {k: int(v) if k in _COUNTS and v == v else v for k, v in out.items()}

    def rows(self, most: int | None = 20, misses: int = 5) -> list[dict[str, Any]]:
        """The best `most` that qualify (None: all), then the nearest `misses` that do not; `rank` counts from 1."""
        count = int(self.qualifies.sum())
        best = self._distinct(self.order[:count], count if most is None else most)
        near = self._distinct(self.order[count:], misses)
        told = self._rows([*best, *near])
        return [
            {"rank": i + 1 if i < len(best) else 0, "front": bool(self.front[n]), **row}
            for i, (n, row) in enumerate(zip([*best, *near], told, strict=True))
        ]

    def _distinct(self, numbers: Index, most: int) -> list[int]:
        """The first `most` of `numbers`, without those that differ from one before in a setting of no effect only."""
        out: dict[tuple[Any, ...], int] = {}
        for number in numbers.tolist():
            if len(out) == most:
                break
            told = tuple(f"{self.columns[c][number]:.4g}" for c in ("usd_per_hour", "ttft_ms", "tpot_ms", "slo_ratio"))
            out.setdefault((self.name(number), *told), number)
        return list(out.values())

    def _layout(self, number: int) -> dict[str, Any]:
        if not self.disaggregated(number):
            return _layout(self.layouts, number)
        pair, at = self.pairs, number - len(self.layouts)
        front, back = _layout(pair.prefill, at), _layout(pair.decode, at)
        return {**back, **{f"prefill_{k}": v for k, v in front.items()}}

    def _used(self, number: int) -> list[int]:
        """Which of the tariff's devices a candidate is made of."""
        at = number - len(self.layouts)
        used = (
            [self.pairs.prefill.device[at], self.pairs.decode.device[at]] if at >= 0 else [self.layouts.device[number]]
        )
        return [int(d) for d in used]

    def _price(self, number: int) -> str:
        prices = self.scorer.tariff.price
        return "; ".join(dict.fromkeys(prices[d] for d in self._used(number)))


#: Near misses first: what stock, limits or a relaxed objective would mend, before what does not fit.
_SEVERITY = np.array([{"memory": 3, "unknown": 2, "objectives": 1}.get(v, 0) for v in VERDICTS])


def deployment_words(d: Deployments) -> str:
    """One deployment in words: `4 h100-sxm, TP4, fp8`."""
    parts = [f"{d.devices_per_replica[0]:g} {d.devices[int(d.device[0])].name}"]
    parts += [f"{k.upper()}{getattr(d, k)[0]:g}" for k in ("tp", "pp", "ep", "dp", "cp") if getattr(d, k)[0] > 1]
    weight = int(d.weight[0])
    parts += [FORMAT_NAMES[weight]] if weight >= 0 else []
    beside = {w: float(getattr(d, f"host_{w}")[0]) for w in ("weights", "experts", "kv")}
    away = [f"{share:.0%} of {what}" for what, share in beside.items() if share]
    return ", ".join([*parts, *([f"{' and '.join(away)} in host memory"] if away else [])])


def _layout(d: Deployments, row: int) -> dict[str, Any]:
    def code(value: int) -> str:
        return FORMAT_NAMES[value] if value >= 0 else "own"

    return {
        "device": d.devices[int(d.device[row])].name,
        **{k: int(getattr(d, k)[row]) for k in ("tp", "pp", "ep", "dp", "cp")},
        "max_num_batched_tokens": float(d.max_num_batched_tokens[row]),
        "max_num_seqs": float(d.max_num_seqs[row]),
        "weight": code(int(d.weight[row])),
        "kv": code(int(d.kv[row])),
        **{k: float(getattr(d, k)[row]) for k in ("host_weights", "host_experts", "host_kv")},
    }


def _ranges(c: Mapping[str, float], demanded: bool) -> dict[str, float]:
    """The 80 % interval of what the estimate gives, as columns beside it.

    The cost of a token moves with what a device carries, because the number of devices does; throughput itself is no
    guess where it is `demanded`.
    """
    which = {"ttft_ms": "ttft", "tpot_ms": "tpot", "power_w": "power", "usd_per_million_tokens": "throughput"}
    which |= {} if demanded else {"output_tok_s": "throughput"}
    out = {}
    for column, spread in which.items():
        half = np.exp(c[f"spread_{spread}"])
        out[f"{column}_lo"], out[f"{column}_hi"] = float(c[column] / half), float(c[column] * half)
    return out
