"""The settings that a study varies, and the values that each may take."""

from __future__ import annotations

from collections.abc import Sequence
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
