"""What is asked of a deployment: classes of requests, how they arrive, and the objectives they must meet."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from hwdb import InputError
from perfmodel.arrays import Array

if TYPE_CHECKING:
    from perfmodel.workload.histograms import Histogram
    from perfmodel.workload.traces import Trace

Arrival = Literal["static", "closed", "open", "offline", "single"]
ARRIVALS: tuple[str, ...] = get_args(Arrival)
NAN = float("nan")


@dataclass(frozen=True)
class Workload:
    """C classes of requests and how they arrive.

    input_tokens, output_tokens, share: (C,) mean lengths and share of requests (sums to 1). prefix_hit: (C,) share of
    the prompt found in the prefix cache. arrival: `static` (a batch of `concurrency` starts together), `closed` (fixed
    concurrency), `open` (arrivals at `rate` requests/s), `offline` (n_requests at once), `single` (one stream). cv:
    coefficient of variation of the gaps between arrivals (1: Poisson). What is not given is NaN: a search may choose
    the concurrency. Scalars and lists are taken as arrays; a single share or prefix hit holds for every class.
    `InputError` names what is impossible (negative, not finite, shares that do not sum to 1).
    """

    input_tokens: Array
    output_tokens: Array
    share: Array = field(default_factory=lambda: np.ones(1))
    prefix_hit: Array = field(default_factory=lambda: np.zeros(1))
    arrival: Arrival = "closed"
    concurrency: float = NAN
    rate: float = NAN
    n_requests: float = NAN
    cv: float = 1.0
    name: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        lengths = [np.atleast_1d(np.asarray(v, dtype=float)) for v in (self.input_tokens, self.output_tokens)]
        classes = max(len(v) for v in lengths)
        share = np.atleast_1d(np.asarray(self.share, dtype=float))
        if len(share) == 1 and classes > 1:
            share = np.full(classes, 1.0 / classes)
        hit = np.atleast_1d(np.asarray(self.prefix_hit, dtype=float))
        for name, given in (
            ("input_tokens", lengths[0]),
            ("output_tokens", lengths[1]),
            ("share", share),
            ("prefix_hit", hit),
        ):
            if given.ndim != 1 or len(given) not in (1, classes):
                raise InputError(f"workload {name} has {len(given)} values for {classes} classes; give one each")
            object.__setattr__(self, name, np.broadcast_to(given, (classes,)).copy())
        self._check_classes()
        self._check_arrival()

    def _check_classes(self) -> None:
        for name in ("input_tokens", "output_tokens"):
            _refuse(getattr(self, name), lambda v: ~(np.isfinite(v) & (v >= 1)), f"workload {name}", "1 token or more")
        _refuse(self.share, lambda v: ~(np.isfinite(v) & (v >= 0)), "workload share", "0 or more")
        if abs(float(self.share.sum()) - 1) > 1e-6:
            raise InputError(f"workload shares sum to {float(self.share.sum()):g}; make them sum to 1")
        _refuse(self.prefix_hit, lambda v: ~((v >= 0) & (v <= 1)), "workload prefix_hit", "between 0 and 1")

    def _check_arrival(self) -> None:
        if self.arrival not in ARRIVALS:
            raise InputError(f"workload arrival {self.arrival!r} is unknown; choose one of {', '.join(ARRIVALS)}")
        for name, least in (("concurrency", 1.0), ("rate", 0.0), ("n_requests", 1.0), ("cv", 0.0)):
            value = float(getattr(self, name))
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
        arrival: Arrival | None = None,
        concurrency: float = NAN,
        rate: float = NAN,
        n_requests: float = NAN,
        cv: float = 1.0,
        name: str = "",
        source: str = "",
    ) -> Workload:
        """Classes of the given mean lengths (scalars or (C,)).

        arrival: by default what the given number says (rate: open, n_requests: offline, else closed).

        >>> Workload.from_lengths(1000, 200, rate=3.0).arrival
        'open'
        """
        implied: Arrival = "open" if rate == rate else "offline" if n_requests == n_requests else "closed"
        return cls(
            input_tokens=np.asarray(input_tokens, dtype=float),
            output_tokens=np.asarray(output_tokens, dtype=float),
            share=np.ones(1) if share is None else np.asarray(share, dtype=float),
            prefix_hit=np.asarray(prefix_hit, dtype=float),
            arrival=arrival or implied,
            concurrency=concurrency,
            rate=rate,
            n_requests=n_requests,
            cv=cv,
            name=name,
            source=source,
        )

    @classmethod
    def from_histogram(
        cls,
        histogram: Histogram,
        *,
        prefix_cache: bool = True,
        arrival: Arrival | None = None,
        concurrency: float = NAN,
        rate: float = NAN,
        n_requests: float = NAN,
        cv: float = 1.0,
    ) -> Workload:
        """One class a bucket of `histogram` (`perfmodel.workload.histograms`); its prefix hits where `prefix_cache`."""
        return cls.from_lengths(
            histogram.input_tokens,
            histogram.output_tokens,
            share=histogram.share,
            prefix_hit=histogram.prefix_hit if prefix_cache else 0.0,
            arrival=arrival,
            concurrency=concurrency,
            rate=rate,
            n_requests=n_requests,
            cv=cv,
            name=histogram.name,
            source=histogram.source,
        )

    @classmethod
    def from_trace(
        cls, trace: Trace, *, rate: float = NAN, prefix_cache: bool = True, classes: tuple[int, int] = (8, 4)
    ) -> Workload:
        """The length classes of `trace`, arriving at its mean rate (or at `rate`) with its variation of gaps."""
        from perfmodel.workload.histograms import Histogram

        histogram = Histogram.from_trace(trace, classes=classes)
        timed = bool(np.isfinite(trace.rate))
        chosen = rate if rate == rate else trace.rate
        return cls.from_histogram(
            histogram,
            prefix_cache=prefix_cache,
            arrival="open" if timed or rate == rate else "closed",
            rate=chosen,
            cv=trace.cv if timed else 1.0,
        )

    # -- views ----------------------------------------------------------------------------------------------------

    @property
    def classes(self) -> int:
        """C, the number of request classes."""
        return len(self.share)

    @property
    def mean_input(self) -> float:
        """Prompt tokens a request, mean over classes."""
        return float(self.share @ self.input_tokens)

    @property
    def mean_output(self) -> float:
        """Output tokens a request, mean over classes."""
        return float(self.share @ self.output_tokens)

    @property
    def mean_new_input(self) -> float:
        """Prompt tokens a request that the prefix cache does not hold."""
        return float(self.share @ (self.input_tokens * (1 - self.prefix_hit)))

    @property
    def longest(self) -> float:
        """Longest mean sequence of a class, prompt and output together."""
        return float((self.input_tokens + self.output_tokens)[self.share > 0].max())

    def at(self, **changes: object) -> Workload:
        """The same requests under another load, such as `at(arrival="open", rate=12.0)`."""
        return replace(self, **changes)  # type: ignore[arg-type]

    def one_class(self) -> Workload:
        """All classes merged into their mean request; keeps tokens and hits, loses the spread."""
        hit = 1 - self.mean_new_input / self.mean_input
        return replace(
            self,
            input_tokens=np.array([self.mean_input]),
            output_tokens=np.array([self.mean_output]),
            share=np.ones(1),
            prefix_hit=np.array([hit]),
        )

    def require(self) -> Workload:
        """This workload, or `InputError` when the number that its arrival needs is missing."""
        needs = {"static": "concurrency", "closed": "concurrency", "open": "rate", "offline": "n_requests"}
        name = needs.get(self.arrival, "")
        if name and getattr(self, name) != getattr(self, name):
            raise InputError(f"workload arrival {self.arrival!r} needs {name}; give it")
        return self


def _refuse(values: Array, wrong: object, what: str, need: str) -> None:
    bad = np.flatnonzero(wrong(values))  # type: ignore[operator]
    if len(bad):
        raise InputError(f"{what} of class {int(bad[0]) + 1} is {values[bad[0]]:g}; it must be {need}")
