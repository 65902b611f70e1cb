"""Update what is known of an engine on a device by a user's own runs: a posterior over factors on its parts.

Prior: the logarithm of the factor on each part is normal around 0, with the spread over published systems that no
constant was fitted on (`priors.toml`). Likelihood: the logarithm of a measured value is normal around the model's
answer, with a standard deviation for each kind of figure (the residual scatter between runs of one system); outliers
count linearly (Huber). The mode is found by Gauss-Newton with finite differences, and the posterior is the normal
distribution at the mode (Laplace).

The factors then move only a share of the way to the mode: the share that predicts left-out runs best, or `SHARE` if
there is only one run. So a system whose runs the parts do not explain keeps nearly the shipped constants.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np

from hwdb.tomlfile import read_toml
from perfmodel.arrays import Array, Index
from perfmodel.engines import PARTS
from perfmodel.user_calibration.rows import KINDS, Measured

#: Step of the finite differences, in logarithms. Chosen: large against rounding, small against the priors' spreads.
STEP = 0.1
#: Rounds in which the model is asked again at the factors found so far. Chosen: answers bend little over the priors.
ROUNDS = 2
#: Residuals beyond so many spreads count linearly (Huber). Chosen: the usual 95 % efficiency of 1.345.
ROBUST_FROM = 1.345
#: Times that weights of far-off values are set anew. Chosen: they settle after a few.
REWEIGHTED = 8

#: Share of the way to the mode that factors move before any run was left out, how many runs that is worth, and how many
#: the left-out ones count as together, since their errors are alike. Chosen on published groups of split `train`: with
#: two runs a third to a half fewer groups get worse, at a median error that is 0.2 to 0.5 points higher.
SHARE, SHARE_RUNS, LEFT_RUNS = 0.7, 1.0, 2.0
#: Most parts that the runs are left out in. Chosen: the share settles with fewer.
FOLDS = 8

#: Answers of the model: factors on the parts, (P,) logarithms -> what it says of each measured value, (V,).
Model = Callable[[Array], Array]


@dataclass(frozen=True)
class Priors:
    """Holds the log standard deviations of factors, (P,) in the order of `PARTS`, and of values by kind of figure."""

    factors: Array
    noise: dict[str, float]

    def noise_of(self, measured: Measured) -> Array:
        """Return the log standard deviation of each measured value, (V,)."""
        return np.array([self.noise[KINDS[m]] for m in measured.metric])


@dataclass(frozen=True)
class Posterior:
    """Holds what is known after some runs.

    log_factors: (P,), on the way to the mode. covariance: (P, P), with what the factors stop short of the mode.
    at_mode: (P, P), the covariance without that. before, after: (V,) log ratio of measured to predicted, without and
    with the factors. left_out: (V,) the same where the factors are fitted on the other runs alone. standard: (V,)
    `left_out` over the spread to expect there.
    """

    log_factors: Array
    covariance: Array
    at_mode: Array
    before: Array
    after: Array
    left_out: Array
    standard: Array

    @property
    def spreads(self) -> Array:
        """Return the log standard deviation of each factor, (P,)."""
        return np.sqrt(np.diag(self.covariance))

    def told(self, priors: Priors) -> Array:
        """Return the share of the prior's variance that the runs took away, by part, (P,)."""
        return 1.0 - np.diag(self.at_mode) / np.square(priors.factors)


@cache
def priors() -> Priors:
    """Read the shipped priors."""
    table = read_toml(str(files("perfmodel.user_calibration").joinpath("priors.toml")), "table of priors")
    by_part, by_kind = table.table("factors"), table.table("noise")
    return Priors(
        np.array([by_part.number(part, above=0.0) for part in PARTS]),
        {kind: by_kind.number(kind, above=0.0) for kind in dict.fromkeys(KINDS.values())},
    )


def posterior(model: Model, measured: Measured, known: Priors | None = None) -> Posterior:
    """Return the posterior of the factors, given measured values. model: asked about (P + 1) x `ROUNDS` times."""
    known = known or priors()
    noise = known.noise_of(measured) / np.sqrt(measured.weight)
    point = np.zeros(len(PARTS))
    log_value, before = np.log(measured.value), np.empty(0)
    for turn in range(ROUNDS):
        answer, slope = _linearised(model, point)
        before = log_value - answer if turn == 0 else before
        fixed = log_value - answer + slope @ point  # residual of the linear model at factors of 1
        point, covariance = pulled(slope, fixed, noise, known.factors, measured.run)
    after = log_value - np.log(model(point))
    left_out, expected = _left_out(slope, fixed, noise, known.factors, measured)
    weight = weights_of(fixed - slope @ point, noise) / np.square(noise)
    at_mode = covariance_of(slope, weight, known.factors)
    return Posterior(point, covariance, at_mode, before, after, left_out, left_out / expected)


def _linearised(model: Model, point: Array) -> tuple[Array, Array]:
    """Return (logarithms of the model's answers at `point`, (V,); their derivatives by log factor, (V, P))."""
    answer = np.log(model(point))
    slope = np.stack([(np.log(model(point + STEP * unit)) - answer) / STEP for unit in np.eye(len(point))], axis=1)
    return answer, np.where(np.isfinite(slope), slope, 0.0)


def mode(slope: Array, fixed: Array, noise: Array, prior: Array) -> Array:
    """Return the log factors of the highest posterior density of the linear model, (P,), by reweighting."""
    point = np.zeros(slope.shape[1])
    for _ in range(REWEIGHTED):
        weight = weights_of(fixed - slope @ point, noise) / np.square(noise)
        point = covariance_of(slope, weight, prior) @ (slope.T @ (weight * fixed))
    return np.asarray(point)


def pulled(slope: Array, fixed: Array, noise: Array, prior: Array, run: Index) -> tuple[Array, Array]:
    """Return (log factors on the way to the mode, (P,), their covariance, (P, P)).

    run: (V,) number of each value's run. What the factors stop short of the mode counts as a spread.
    """
    whole = mode(slope, fixed, noise, prior)
    spread = covariance_of(slope, weights_of(fixed - slope @ whole, noise) / np.square(noise), prior)
    share = share_of(slope, fixed, noise, prior, run)
    return share * whole, spread + (1.0 - share) ** 2 * np.outer(whole, whole)


def share_of(slope: Array, fixed: Array, noise: Array, prior: Array, run: Index) -> float:
    """Return the share of the way to the mode at which left-out runs are predicted best, between 0 and 1.

    It is the slope through the origin of measured on told differences, starting from `SHARE` worth `SHARE_RUNS` runs.
    """
    _, number = np.unique(run, return_inverse=True)
    fold = number % FOLDS
    folds = np.unique(fold)
    above, below = SHARE * SHARE_RUNS, SHARE_RUNS
    for one in folds if len(folds) > 1 else ():
        out = fold == one
        told = slope[out] @ mode(slope[~out], fixed[~out], noise[~out], prior)
        weight = weights_of(fixed[out] - told, noise[out]) / np.square(noise[out]) * LEFT_RUNS / len(folds)
        above += float(np.sum(weight * told * fixed[out]))
        below += float(np.sum(weight * told * told))
    return float(np.clip(above / below, 0.0, 1.0))


def weights_of(residual: Array, noise: Array) -> Array:
    """Return the weight of each value by which far-off ones count linearly, 0 to 1, (V,)."""
    return np.asarray(np.minimum(1.0, ROBUST_FROM * noise / np.maximum(np.abs(residual), 1e-12)))


def covariance_of(slope: Array, weight: Array, prior: Array) -> Array:
    """Return the covariance of the log factors, (P, P), given derivatives, inverse variances and the prior."""
    return np.asarray(np.linalg.inv(slope.T @ (weight[:, None] * slope) + np.diag(1.0 / np.square(prior))))


def _left_out(slope: Array, fixed: Array, noise: Array, prior: Array, measured: Measured) -> tuple[Array, Array]:
    """Return (residuals where each run is predicted by the others, their expected standard deviations), (V,) each."""
    residual, expected = np.empty(len(fixed)), np.empty(len(fixed))
    for run in np.unique(measured.run):
        mine = measured.run == run
        others = ~mine
        point, spread = pulled(slope[others], fixed[others], noise[others], prior, measured.run[others])
        residual[mine] = fixed[mine] - slope[mine] @ point
        own = noise[mine] * np.sqrt(measured.weight[mine])
        expected[mine] = np.sqrt(np.square(own) + np.einsum("vp,pq,vq->v", slope[mine], spread, slope[mine]))
    return residual, expected
