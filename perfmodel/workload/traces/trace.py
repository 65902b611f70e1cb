"""A request trace: when each request arrived and how many tokens it had."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hwdb import InputError, outfile
from perfmodel.arrays import NAN, Array, Index

#: Whole numbers: tokens, hashes of blocks, line numbers.
Whole = NDArray[np.int64]


@dataclass(frozen=True)
class Trace:
    """R requests in order of arrival.

    arrival: (R,) seconds since the first request, NaN where the file has lengths only.
    input, output: (R,) prompt and output tokens.
    blocks, offsets: hashes of the prompts' KV blocks of `block_tokens` tokens each. Those of request r are
    `blocks[offsets[r]:offsets[r + 1]]`; both arrays are empty where the trace has no hashes.
    name, source: what messages and reports call the trace, and the file it came from. remarks: what a reader assumed or
    left out, in sentences without a full stop.
    """

    arrival: Array
    input: Whole
    output: Whole
    blocks: Whole = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    offsets: Whole = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    block_tokens: int = 0
    name: str = ""
    source: str = ""
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.input)

    @property
    def duration(self) -> float:
        """Return the seconds from the first to the last arrival."""
        return float(self.arrival[-1] - self.arrival[0])

    @property
    def rate(self) -> float:
        """Return the mean arrival rate in requests/s; NaN without arrivals, or when all requests arrive at once."""
        span = self.duration
        return (len(self) - 1) / span if span > 0 else NAN

    @property
    def cv(self) -> float:
        """Return the coefficient of variation of the gaps between arrivals (1: Poisson arrivals); NaN without gaps."""
        gaps = np.diff(self.arrival)
        return float(gaps.std() / gaps.mean()) if len(gaps) and gaps.mean() > 0 else NAN

    def take(self, rows: Index | slice) -> Trace:
        """Return the requests at the row numbers `rows`, in that order, with their prefix blocks."""
        index = np.arange(len(self))[rows]
        picked = replace(self, arrival=self.arrival[index], input=self.input[index], output=self.output[index])
        if not len(self.offsets):
            return picked
        counts = np.diff(self.offsets)[index]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        place = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)
        blocks = self.blocks[np.repeat(self.offsets[:-1][index], counts) + place]
        return replace(picked, blocks=blocks, offsets=offsets)

    def at_rate(self, rate: float) -> Trace:
        """Return the same requests with time stretched so that they arrive at `rate` requests/s on average.

        Raises `InputError` where the rate is not above 0 or the trace has no arrivals.
        """
        if not (np.isfinite(rate) and rate > 0):
            raise InputError(f"trace rate {rate:g} requests/s is impossible; give more than 0")
        if not np.isfinite(self.rate):
            raise InputError(f"trace {self.name or 'given'} has no arrivals to stretch; give one with arrival_s")
        return replace(self, arrival=(self.arrival - self.arrival[0]) * (self.rate / rate))

    def reused_tokens(self) -> Whole:
        """Return the prompt tokens of each request that an infinite prefix cache would hold, (R,).

        These are its leading blocks that earlier requests had too.
        """
        if not len(self.offsets):
            return np.zeros(len(self), dtype=np.int64)
        counts = np.diff(self.offsets)
        owner = np.repeat(np.arange(len(self)), counts)
        _, first, which = np.unique(self.blocks, return_index=True, return_inverse=True)
        seen = owner[first][which] < owner
        place = np.arange(len(self.blocks)) - np.repeat(self.offsets[:-1], counts)
        leading = counts.copy()
        np.minimum.at(leading, owner[~seen], place[~seen])
        reused: Whole = np.minimum(leading * self.block_tokens, self.input).astype(np.int64)
        return reused

    def to_csv(self, path: str | Path) -> None:
        """Write the trace as CSV with `arrival_s,input_tokens,output_tokens`; hashes of blocks are not kept."""
        with outfile.replaced(path) as file:
            np.savetxt(
                file,
                np.column_stack([self.arrival, self.input, self.output]),
                delimiter=",",
                header="arrival_s,input_tokens,output_tokens",
                comments="",
                fmt=("%.7f", "%d", "%d"),
            )
