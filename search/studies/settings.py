"""The settings that a study varies, and the values that each may take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hwdb import InputError, UnknownName

if TYPE_CHECKING:
    from search.planning import Plan

#: Value of a setting.
Value = float | int | bool | str
#: Settings of the layout: the rank of the candidate in the plan, and workers beyond those of the plan.
CANDIDATE, WORKERS = "candidate_rank", ("more_replicas", "more_prefill_workers")
#: Settings of the engine that count something, switch something, or are shares.
COUNTS = ("max_num_batched_tokens", "max_num_seqs")
SWITCHES = ("chunked_prefill", "prefill_first")
SHARES = ("admission_watermark", "admission_headroom")
#: Settings of the prefix-aware router.
ROUTER, AFFINITY = "router", ("min_match_share", "uneven_requests", "uneven_ratio")
#: Every setting that a study may vary.
SETTINGS = (CANDIDATE, *WORKERS, ROUTER, *AFFINITY, *COUNTS, *SWITCHES, *SHARES)
#: Values that are tried unless others are given. Chosen: powers of two around the defaults of vLLM and SGLang, which
#: are 2,048 to 16,384 tokens and 128 to 1,024 sequences (see `perfmodel/engines/catalogue`).
TOKENS = (512, 1024, 2048, 4096, 8192, 16384)
SEQUENCES = (16, 32, 64, 128, 256, 512)
#: Shares around SGLang's default of 0.098 (`admission_headroom` of its file in the catalogue).
HEADROOM = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8)
#: Workers more or fewer than the plan has. Chosen: the closed form is seldom off by more where it is right at all.
MORE = (-1, 0, 1)
#: Routers that are tried; `random` is none that anybody would choose over `power_of_two`.
BALANCERS = ("round_robin", "least_loaded", "join_shortest_queue", "power_of_two")
#: Router where a study does not vary it: that of `perfmodel simulate`.
USUAL_ROUTER = "join_shortest_queue"
#: Thresholds of the prefix-aware router around SGLang's defaults of 0.3, 64 and 1.5.
THRESHOLDS = {
    "min_match_share": (0.1, 0.3, 0.5, 0.7, 0.9),
    "uneven_requests": (2, 8, 32, 64, 128),
    "uneven_ratio": (1.1, 1.5, 2.0, 4.0),
}
#: Most values of one setting. Chosen: more cannot be told apart by simulation.
MOST_VALUES = 1000


@dataclass(frozen=True)
class Axis:
    """One setting and its values, in order; numbers rise."""

    name: str
    values: tuple[Value, ...]

    @property
    def ordered(self) -> bool:
        """Return whether neighbouring values are alike: numbers, not names or switches."""
        return not any(isinstance(v, bool | str) for v in self.values)

    def nearest(self, value: Value) -> int:
        """Return the position of the value that is `value`, or of the number nearest to it; 0 where none is."""
        if value in self.values:
            return self.values.index(value)
        if not self.ordered or isinstance(value, str):
            return 0
        return min(range(len(self.values)), key=lambda i: abs(float(self.values[i]) - float(value)))


def read_axis(text: str) -> Axis:
    """Read `KEY=A,B,C`, or `KEY=LOW:HIGH:COUNT` with `:log` for equal factors, as `whatif --grid` takes them.

    >>> read_axis("max_num_seqs=16:256:3:log").values
    (16, 64, 256)
    """
    from search.whatif import read_grid

    found = read_grid(text)
    return axis_of(found.key, found.levels)


def axis_of(name: str, values: Sequence[Any]) -> Axis:
    """Return the axis of a setting with these values; raise `InputError` for values that it cannot take."""
    if name not in SETTINGS:
        raise UnknownName("setting", name, SETTINGS, hint=f"(a study varies {', '.join(SETTINGS)})")
    if not values or len(values) > MOST_VALUES:
        raise InputError(f"{name}: {len(values)} values; give 1 to {MOST_VALUES}")
    bad = next((v for v in values if not _takes(name, v)), None)
    if bad is not None:
        raise InputError(f"{name} {bad!r} is no value of it; give {_told(name)}")
    kept = dict.fromkeys(values)
    return Axis(name, tuple(kept if name in (ROUTER, *SWITCHES) else sorted(kept)))


def _takes(name: str, value: Any) -> bool:
    """Return whether a setting can have this value."""
    from perfmodel.simulator import ROUTERS

    if name == ROUTER:
        return value in ROUTERS
    if name in SWITCHES:
        return isinstance(value, bool)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if name in (*SHARES, "min_match_share"):
        return 0 <= value <= 1
    if name == "uneven_ratio":
        return value >= 1
    least = {CANDIDATE: 1, "uneven_requests": 0, **dict.fromkeys(WORKERS, -MOST_VALUES)}.get(name, 1)
    return value == int(value) and value >= least


def _told(name: str) -> str:
    """Say which values a setting takes."""
    from perfmodel.simulator import ROUTERS

    if name == ROUTER:
        return " or ".join(ROUTERS)
    if name in SWITCHES:
        return "true or false"
    if name in (*SHARES, "min_match_share"):
        return "a share from 0 to 1"
    return "1 or more" if name == "uneven_ratio" else "whole numbers"


def axes_of(plan: Plan, numbers: Sequence[int], given: Sequence[Axis], *, prefixes: bool) -> tuple[Axis, ...]:
    """Return the axes of a study: the given ones, and the usual values of those that are not given.

    Those of the plan are among the usual values. numbers: the candidates, by rank from 1. prefixes: whether prompts of
    the load share beginnings. An axis that means nothing for the candidates (a router before one replica) is left out
    unless it is given.
    """
    from search.studies.starts import planned

    own = [planned(plan, n) for n in numbers]
    usual: dict[str, tuple[Value, ...]] = {CANDIDATE: tuple(range(1, len(numbers) + 1)), **_layout_axes(plan, numbers)}
    for name, values in zip(COUNTS, (TOKENS, SEQUENCES), strict=True):
        usual[name] = tuple(sorted({*values, *(int(one[name]) for one in own if name in one)}))
    routed = "more_replicas" in usual or any(pool.replicas[0] > 1 for n in numbers for pool in plan.pools(n))
    if routed:
        usual[ROUTER] = (*BALANCERS, "prefix_aware") if prefixes else BALANCERS
        usual |= THRESHOLDS if prefixes else {}
    if plan.scorer.target.engine.admission_headroom > 0:
        usual["admission_headroom"] = tuple(sorted({*HEADROOM, *(float(one["admission_headroom"]) for one in own)}))
    chosen = {name: Axis(name, values) for name, values in usual.items()} | {a.name: a for a in given}
    _check_ranks(chosen[CANDIDATE], len(numbers))
    return tuple(chosen[name] for name in SETTINGS if name in chosen)


def _layout_axes(plan: Plan, numbers: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Return the usual numbers of workers more or fewer than the plan has, where its load sizes them."""
    if not plan.scorer.sized:
        return {}
    pools = any(plan.disaggregated(n) for n in numbers)
    return dict.fromkeys(WORKERS if pools else WORKERS[:1], MORE)


def _check_ranks(axis: Axis, most: int) -> None:
    """Raise `InputError` where a rank is beyond the candidates of the study."""
    high = max(int(v) for v in axis.values)
    if high > most:
        raise InputError(f"{CANDIDATE} {high} is beyond the {most} candidates of the study; give --candidates {high}")


def settings_at(axes: Sequence[Axis], places: Mapping[str, int]) -> dict[str, Value]:
    """Return name -> value of a trial. places: name -> position among the values of its axis."""
    return {axis.name: axis.values[places.get(axis.name, 0)] for axis in axes}
