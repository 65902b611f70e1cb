"""What is asked of a deployment: classes of requests and how they arrive."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, get_args

import numpy as np
from numpy.typing import ArrayLike

from hwdb import InputError
from perfmodel.arrays import NAN, Array, Mask
from perfmodel.workload.length_spread import spread_kind

if TYPE_CHECKING:
    from perfmodel.workload.histograms import Histogram
    from perfmodel.workload.traces import Trace

#: How requests arrive; `Workload` says what each means.
Arrival = Literal["static", "closed", "open", "offline", "single"]
ARRIVALS: tuple[str, ...] = get_args(Arrival)
CLASS_COLUMNS = ("input_tokens", "output_tokens", "share", "prefix_hit")
#: Coefficient of variation of the gaps between Poisson arrivals.
POISSON_CV = 1.0
#: How far shares may sum from 1: rounding of sums of floats.
SHARE_TOLERANCE = 1e-6


#: Fields that say how lengths spread within a class.
_OF_LENGTHS = ("isl_dist", "output_max", "output_cv", "prompt_tail")


class Arrivals(TypedDict, total=False):
    """How requests arrive and how lengths spread, as keywords of the constructors of `Workload`, whose docstring says
    what each means."""

    arrival: Arrival | None
    concurrency: float
    rate: float
    n_requests: float
    cv: float
    isl_dist: str
    output_max: float
    output_cv: float
    prompt_tail: float


@dataclass(frozen=True)
class Workload:
    """C classes of requests and how they arrive.

    input_tokens, output_tokens: (C,) mean prompt and output tokens per request.
    share: (C,) share of requests of each class, sums to 1; a single value means equal shares.
    prefix_hit: (C,) share of prompt tokens found in the prefix cache; a single value holds for every class.
    arrival: `static` (a batch of `concurrency` sequences starts together), `closed` (`concurrency` requests in flight),
    `open` (requests arrive at `rate`), `offline` (`n_requests` at once), `single` (one stream).
    concurrency, rate (requests/s), n_requests: the load; NaN where not given, because a search may choose it.
    cv: coefficient of variation of the gaps between arrivals (1: Poisson arrivals).
    isl_dist: how lengths spread within a class: blank (only means are known), `fixed`, `uniform:LOW-HIGH` or `trace`.
    output_max: tokens at which outputs are cut, infinite where nothing cuts them.
    output_cv, prompt_tail: coefficient of variation of outputs, and 90th percentile of prompts over their mean, of a
    class whose lengths spread as in recorded traffic; NaN where unknown.
    name, source: what reports call the workload, and where its lengths came from.

    Scalars and lists are accepted for arrays. Raises `InputError` for impossible values: negative or infinite numbers,
    shares that do not sum to 1.
    """

    input_tokens: Array
    output_tokens: Array
    share: Array = field(default_factory=lambda: np.ones(1))
    prefix_hit: Array = field(default_factory=lambda: np.zeros(1))
    arrival: Arrival = "closed"
    concurrency: float = NAN
    rate: float = NAN
    n_requests: float = NAN
    cv: float = POISSON_CV
    isl_dist: str = ""
    output_max: float = math.inf
    output_cv: float = NAN
    prompt_tail: float = NAN
    name: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        """Turn the per-class columns into arrays of equal length (C,), and raise `InputError` for impossible values."""
        columns = {c: _floats(c, getattr(self, c)) for c in CLASS_COLUMNS}
        classes = max(len(columns["input_tokens"]), len(columns["output_tokens"]))
        if len(columns["share"]) == 1 and classes > 1:
            columns["share"] = np.full(classes, 1.0 / classes)
        for name, given in columns.items():
            if given.ndim != 1 or len(given) not in (1, classes):
                raise InputError(f"workload {name} has {len(given)} values for {classes} classes; give one each")
            object.__setattr__(self, name, np.broadcast_to(given, (classes,)).copy())
        self._check_classes()
        self._check_spread()
        self._check_arrival()

    def _check_classes(self) -> None:
        """Raise `InputError` for lengths below 1 token, and for shares outside 0 to 1 or that do not sum to 1."""
        for name in ("input_tokens", "output_tokens"):
            tokens = getattr(self, name)
            _refuse(tokens, ~(np.isfinite(tokens) & (tokens >= 1)), f"workload {name}", "1 token or more")
        share, hit = self.share, self.prefix_hit
        _refuse(share, ~(np.isfinite(share) & (share >= 0)), "workload share", "0 or more")
        if abs(float(share.sum()) - 1) > SHARE_TOLERANCE:
            raise InputError(f"workload shares sum to {float(share.sum()):g}; make them sum to 1")
        _refuse(hit, ~((hit >= 0) & (hit <= 1)), "workload prefix_hit", "between 0 and 1")

    def _check_spread(self) -> None:
        """Raise `InputError` for an unknown spread of lengths, and for a longest output that is below 1 token."""
        spread_kind(self.isl_dist)
        longest = _one_number("output_max", self.output_max)
        object.__setattr__(self, "output_max", math.inf if longest != longest else longest)
        if not self.output_max >= 1.0:
            raise InputError(f"workload output_max {longest:g} is impossible; give 1 token or more")

    def _check_arrival(self) -> None:
        """Raise `InputError` for an unknown kind of arrival and for impossible loads."""
        if self.arrival not in ARRIVALS:
            raise InputError(f"workload arrival {self.arrival!r} is unknown; choose one of {', '.join(ARRIVALS)}")
        for name, least in (("concurrency", 1.0), ("rate", 0.0), ("n_requests", 1.0), ("cv", 0.0)):
            value = _one_number(name, getattr(self, name))
            object.__setattr__(self, name, value)
            if value == value and not (np.isfinite(value) and value >= least and (least or value > 0 or name == "cv")):
                raise InputError(f"workload {name} {value:g} is impossible; give {'more than 0' if not least else 1}")

    # -- constructors ---------------------------------------------------------------------------------------------

    @classmethod
    def from_lengths(
        cls,
        input_tokens: ArrayLike,
        output_tokens: ArrayLike,
        *,
        share: ArrayLike | None = None,
        prefix_hit: ArrayLike = 0.0,
        name: str = "",
        source: str = "",
        **arrivals: Unpack[Arrivals],
    ) -> Workload:
        """Make a workload of request classes with the given mean lengths.

        >>> Workload.from_lengths(1000, 200, rate=3.0).arrival
        'open'

        Args:
            input_tokens, output_tokens: mean prompt and output tokens per request, scalars or (C,).
            share: share of requests of each class; equal shares by default.
            prefix_hit: share of prompt tokens found in the prefix cache, a scalar or (C,).
            name, source: what reports call the workload, and where its lengths came from.
            arrivals: how requests arrive, see `Arrivals`. Without `arrival` the given number decides: rate means open,
                n_requests offline, anything else closed.
        """
        rate, n_requests = (_one_number(name, arrivals.get(name)) for name in ("rate", "n_requests"))
        implied: Arrival = "open" if rate == rate else "offline" if n_requests == n_requests else "closed"
        return cls(
            input_tokens=_floats("input_tokens", input_tokens),
            output_tokens=_floats("output_tokens", output_tokens),
            share=np.ones(1) if share is None else _floats("share", share),
            prefix_hit=_floats("prefix_hit", prefix_hit),
            arrival=arrivals.get("arrival") or implied,
            concurrency=arrivals.get("concurrency", NAN),
            rate=rate,
            n_requests=n_requests,
            cv=arrivals.get("cv", POISSON_CV),
            name=name,
            source=source,
            **_spread(arrivals),
        )

    @classmethod
    def from_histogram(
        cls, histogram: Histogram, *, prefix_cache: bool = True, **arrivals: Unpack[Arrivals]
    ) -> Workload:
        """Make a workload with one request class per class of `histogram`.

        prefix_cache: whether the histogram's prefix hits count. arrivals: as in `from_lengths`.
        """
        return cls.from_lengths(
            histogram.input_tokens,
            histogram.output_tokens,
            share=histogram.share,
            prefix_hit=histogram.prefix_hit if prefix_cache else 0.0,
            name=histogram.name,
            source=histogram.source,
            **_with_spread(histogram, arrivals),
        )

    @classmethod
    def from_trace(
        cls, trace: Trace, *, rate: float = NAN, prefix_cache: bool = True, classes: tuple[int, int] = (8, 4)
    ) -> Workload:
        """Make a workload from the length classes of `trace`, with the variation of its gaps between arrivals.

        rate: requests/s; the trace's mean rate by default. prefix_cache: whether the trace's prefix hits count.
        classes: most classes by prompt length, and by output length within each.
        """
        from perfmodel.workload.histograms import Histogram

        timed = bool(np.isfinite(trace.rate))
        return cls.from_histogram(
            Histogram.from_trace(trace, classes=classes),
            prefix_cache=prefix_cache,
            arrival="open" if timed or rate == rate else "closed",
            rate=rate if rate == rate else trace.rate,
            cv=trace.cv if timed else POISSON_CV,
        )

    # -- views ----------------------------------------------------------------------------------------------------

    @property
    def classes(self) -> int:
        """Return C, the number of request classes."""
        return len(self.share)

    @property
    def mean_input(self) -> float:
        """Return the mean prompt tokens per request over all classes."""
        return float(self.share @ self.input_tokens)

    @property
    def mean_output(self) -> float:
        """Return the mean output tokens per request over all classes."""
        return float(self.share @ self.output_tokens)

    @property
    def mean_new_input(self) -> float:
        """Return the mean prompt tokens per request that the prefix cache does not hold."""
        return float(self.share @ (self.input_tokens * (1 - self.prefix_hit)))

    @property
    def longest(self) -> float:
        """Return the mean tokens per sequence, prompt and output together, of the class with the longest sequences."""
        return float((self.input_tokens + self.output_tokens)[self.share > 0].max())

    def at(self, **changes: object) -> Workload:
        """Return the same requests under another load, for example `at(arrival="open", rate=12.0)`."""
        return replace(self, **changes)  # type: ignore[arg-type]


def _spread(arrivals: Arrivals) -> dict[str, Any]:
    """Return what `arrivals` states of the spread of lengths, as arguments of `Workload`."""
    return {name: value for name, value in arrivals.items() if name in _OF_LENGTHS}


def _with_spread(histogram: Histogram, arrivals: Arrivals) -> Arrivals:
    """Return `arrivals` with the spread of lengths of `histogram`, unless they state another."""
    own: Arrivals = {
        "isl_dist": histogram.isl_dist,
        "output_max": histogram.output_max,
        "output_cv": histogram.output_cv,
        "prompt_tail": histogram.prompt_tail,
    }
    return {**own, **arrivals}


def _floats(name: str, given: object) -> Array:
    """Return a number, or a list of numbers, as an array of at least one dimension; `InputError` for anything else.

    name: of the quantity, for the message.
    """
    try:
        return np.atleast_1d(np.asarray(given, dtype=float))
    except (TypeError, ValueError):
        raise InputError(f"workload {name} {given!r} is no number; give a number, or one per request class") from None


def _one_number(name: str, given: object) -> float:
    """Return a quantity that a workload has one of as a float, NaN for None; `InputError` for lists and for words.

    name: of the quantity, for the message.
    """
    if given is None:
        return NAN
    try:
        values = np.asarray(given, dtype=float)
    except (TypeError, ValueError):
        raise InputError(f"workload {name} {given!r} is no number; give one number") from None
    if values.size != 1:
        raise InputError(
            f"workload {name} has {values.size} values, but a workload is one load; estimate each load by itself: "
            f"[estimate(model, workload.at({name}=x), deployments) for x in values]"
        )
    return float(values.reshape(()))


def _refuse(values: Array, wrong: Mask, what: str, need: str) -> None:
    """Raise `InputError` for the first of the (C,) `values` where `wrong` is True.

    what: name of the quantity in the message. need: what the value must be.
    """
    bad = np.flatnonzero(wrong)
    if len(bad):
        raise InputError(f"{what} of class {int(bad[0]) + 1} is {values[bad[0]]:g}; it must be {need}")
