"""Group candidates that differ only in settings without an effect, such as a limit that is not reached.

A table shows one row for each group.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from perfmodel import Deployments
from perfmodel.arrays import Array, Index

if TYPE_CHECKING:
    from search.planning.ranking.candidates import Candidates

#: Settings that may not bind. Candidates that differ in anything else are never folded.
SETTINGS = ("max_num_batched_tokens", "max_num_seqs")
#: Columns of a layout that tell candidates apart in any case.
LAYOUT = (
    *("device", "tp", "pp", "ep", "dp", "cp", "kvp", "cp_method", "weight", "act", "kv"),
    *("host_weights", "host_experts", "host_kv", "drafts"),
)
#: Figures that have to agree, besides those that the SLO bounds.
FIGURES = ("replicas", "prefill_workers", "usd_per_hour", "power_w", "output_tok_s", "ttft_ms", "tpot_ms", "e2e_ms")
#: Largest relative difference of figures that agree. Chosen: well below the error of any estimate.
TOLERANCE = 0.01
#: Written for a setting that is the engine's own.
DEFAULT = "default"
#: Most candidates that are compared, in the order of the ranking. Chosen: takes a few tenths of a second.
MOST_COMPARED = 20_000


def group_equivalent(candidates: Candidates, numbers: Sequence[int]) -> dict[int, list[int]]:
    """Group the candidates `numbers`, best first; return the first candidate of each group -> all members of the group.

    Members have the same layout, and all their figures agree within `TOLERANCE`. Only the first `MOST_COMPARED`
    candidates are grouped; the others are left out.
    """
    compared = np.asarray(numbers[:MOST_COMPARED], dtype=np.intp)
    layouts, figures = _layouts(candidates, compared), _figures(candidates, compared)
    heads: dict[int, list[int]] = {}
    out: dict[int, list[int]] = {}
    for at, number in enumerate(compared.tolist()):
        same_layout = heads.setdefault(int(layouts[at]), [])
        alike = next((h for h in same_layout if _agree(figures[:, h], figures[:, at])), None)
        if alike is None:
            same_layout.append(at)
            out[number] = [number]
        else:
            out[int(compared[alike])].append(number)
    return out


def first_of_each(candidates: Candidates, numbers: Sequence[int], most: int | None) -> list[int]:
    """Return the first `most` of the candidates `numbers`, best first, without pairs of pools that rent the same.

    Pairs rent the same where both pools have as many devices of the same types, in the same formats: they differ in how
    layers and experts are split. Every colocated candidate is kept.
    """
    kept: dict[Hashable, int] = {}
    for number in numbers:
        if len(kept) == most:
            break
        kept.setdefault(_rented(candidates, number), number)
    return list(kept.values())


def _rented(candidates: Candidates, number: int) -> Hashable:
    """Return what a pair of pools rents, its formats included; of a colocated candidate its number."""
    place = number - len(candidates.layouts)
    if place < 0:
        return number
    pair, columns = candidates.pairs, candidates.columns
    pools = ((pair.prefill, columns["prefill_workers"]), (pair.decode, columns["decode_workers"]))
    return tuple(
        (pool.device[place], pool.weight[place], pool.kv[place], pool.devices_per_replica[place] * workers[number])
        for pool, workers in pools
    )


def stands_for(candidates: Candidates, numbers: Sequence[int]) -> str:
    """Say which values of the settings the alike candidates `numbers` have: `max_num_seqs 128 or 256`.

    "" where there is one candidate only. The settings of a prefill pool have `prefill_` before their names.
    """
    settings = _settings(candidates, np.asarray(numbers, dtype=np.intp))
    varying = {name: values for name, values in settings.items() if len(set(values)) > 1}
    if not varying:
        return ""
    each = {name: sorted(set(values), key=_in_order) for name, values in varying.items()}
    rows = set(zip(*varying.values(), strict=True))
    if len(rows) == np.prod([len(v) for v in each.values()]):  # every combination
        return " and ".join(f"{name} {_either(values)}" for name, values in each.items())
    return "; ".join(", ".join(f"{n} {v}" for n, v in zip(varying, row, strict=True)) for row in sorted(rows))


def _in_order(value: str) -> tuple[bool, float]:
    """Return what settings are sorted by: numbers by their value, `default` last."""
    return (True, 0.0) if value == DEFAULT else (False, float(value))


def _either(values: Sequence[str]) -> str:
    """Join values as alternatives.

    >>> _either(["64", "128", "256"])
    '64, 128 or 256'
    """
    return f"{', '.join(values[:-1])} or {values[-1]}" if len(values) > 1 else values[0]


def _parts(candidates: Candidates, numbers: Index) -> list[tuple[str, Deployments, Index]]:
    """Return (prefix of the names of settings, deployments, positions among `numbers`) of every pool."""
    apart = numbers >= len(candidates.layouts)
    pairs = candidates.pairs.take(numbers[apart] - len(candidates.layouts))
    where = np.nonzero(apart)[0]
    return [
        ("", candidates.layouts.take(numbers[~apart]), np.nonzero(~apart)[0]),
        ("", pairs.decode, where),
        ("prefill_", pairs.prefill, where),
    ]


def _layouts(candidates: Candidates, numbers: Index) -> Index:
    """Return the number of the layout of each candidate, (N,): equal where all but the settings are equal."""
    table = np.full((2 * len(LAYOUT), len(numbers)), -np.inf)
    for prefix, deployments, where in _parts(candidates, numbers):
        start = len(LAYOUT) if prefix else 0
        for row, column in enumerate(LAYOUT, start):
            table[row, where] = getattr(deployments, column)
    return np.unique(table, axis=1, return_inverse=True)[1].ravel()


def _settings(candidates: Candidates, numbers: Index) -> Mapping[str, list[str]]:
    """Return setting -> its value of each candidate as a text, `default` where it is the engine's own."""
    found: dict[str, list[str]] = {}
    for prefix, deployments, where in _parts(candidates, numbers):
        for setting in SETTINGS:
            texts = found.setdefault(f"{prefix}{setting}", [DEFAULT] * len(numbers))
            for at, value in zip(where.tolist(), getattr(deployments, setting).tolist(), strict=True):
                texts[at] = f"{value:.10g}" if value == value else DEFAULT
    return found


def _figures(candidates: Candidates, numbers: Index) -> Array:
    """Return the figures that have to agree, (K, N)."""
    bounded = [o.key for o in candidates.scorer.target.slo.objectives]
    names = [name for name in dict.fromkeys([*FIGURES, *bounded]) if name in candidates.columns]
    return np.stack([candidates.columns[name][numbers] for name in names])


def _agree(one: Array, other: Array) -> bool:
    """Return True where all figures of two candidates agree; what is unknown agrees with what is unknown."""
    return bool(np.allclose(one, other, rtol=TOLERANCE, atol=0.0, equal_nan=True))
