"""Tokens that decode steps yield with speculative decoding, drawn at random from the acceptance of drafts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perfmodel.arrays import Array
from perfmodel.deployment import Deployments
from perfmodel.equations import chain_chance
from perfmodel.simulator.request_traffic.requests import Whole

#: Stream of random numbers for accepted drafts; the others under a seed are in
#: `perfmodel.simulator.request_traffic.requests`.
_STREAM = 7


@dataclass(frozen=True)
class Emission:
    """State what a decode step yields per sequence.

    drafts: draft tokens that it verifies, 0 without speculative decoding. acceptance: chance that the first is
    accepted; decay: that chance of each further one over that of the one before.
    """

    drafts: int = 0
    acceptance: float = 0.0
    decay: float = 1.0

    @property
    def mean(self) -> float:
        """Return the mean tokens per step and sequence."""
        return 1.0 + float(self._chances().sum())

    def _chances(self) -> Array:
        """Return the chance that at least 1, 2, ... drafts are accepted, (drafts,)."""
        return chain_chance(np.arange(1.0, self.drafts + 1.0), self.acceptance, self.decay)

    def steps(self, output: Whole, seed: int) -> Whole:
        """Draw the steps in which requests of `output` (R,) tokens are made: the prefill, then decode steps, (R,).

        Each decode step accepts a chain of drafts and yields one token more; the last one may yield more than is left.
        """
        if not self.drafts:
            return output
        generator = np.random.default_rng([seed, _STREAM])
        chances = self._chances()
        left, steps = output - 1, np.ones_like(output)
        while (rows := np.flatnonzero(left > 0)).size:
            left[rows] -= 1 + (generator.random(rows.size)[:, None] < chances).sum(axis=1)
            steps[rows] += 1
        return steps


def emission_of(deployments: Deployments) -> Emission:
    """Return what a decode step of the one deployment yields."""
    drafts, stated = float(deployments.drafts[0]), deployments.speculation
    if not drafts > 0:
        return Emission()
    return Emission(int(drafts), stated.first_acceptance(drafts), stated.known.decay)
