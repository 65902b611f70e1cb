"""The settings that a study varies, and the values that each may take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hwdb import InputError, UnknownName

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
#: Router where a study does not vary it: that of `perfmodel simulate`.
USUAL_ROUTER = "join_shortest_queue"
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
    takes, told = _rule(name)
    bad = next((v for v in values if not takes(v)), None)
    if bad is not None:
        raise InputError(f"{name} {bad!r} is no value of it; give {told}")
    kept = dict.fromkeys(values)
    return Axis(name, tuple(kept if name in (ROUTER, *SWITCHES) else sorted(kept)))


def _rule(name: str) -> tuple[Callable[[Any], bool], str]:
    """Return (whether a setting can have a value, which values it takes in words)."""
    from perfmodel.simulator import ROUTERS

    if name == ROUTER:
        return lambda v: v in ROUTERS, " or ".join(ROUTERS)
    if name in SWITCHES:
        return lambda v: isinstance(v, bool), "true or false"
    if name in (*SHARES, "min_match_share"):
        return lambda v: _is_number(v) and 0 <= v <= 1, "a share from 0 to 1"
    if name == "uneven_ratio":
        return lambda v: _is_number(v) and v >= 1, "1 or more"
    least = {"uneven_requests": 0, **dict.fromkeys(WORKERS, -MOST_VALUES)}.get(name, 1)
    return lambda v: _is_number(v) and v == int(v) and v >= least, "whole numbers"


def _is_number(value: Any) -> bool:
    """Return whether a value is a number, and no switch."""
    return isinstance(value, int | float) and not isinstance(value, bool)
