"""Speculative decoding: tokens that a step yields, from the chance that drafts are accepted."""

from __future__ import annotations

import numpy as np

from perfmodel.arrays import Array

#: Most drafts per step that are counted. Chosen: the published chains are shorter.
MOST_DRAFTS = 16
#: Halvings of the bracket in which an acceptance is sought: 1 / 2^60 is below rounding.
_HALVINGS = 60


def chain_chance(position: Array | float, acceptance: Array | float, decay: Array | float = 1.0) -> Array:
    """Return the chance that a draft is accepted together with all before it, from the acceptance of the first.

    Drafts are verified in order, and the first that is rejected ends the chain. Where the chance falls from draft to
    draft by `decay`, that of the i-th is acceptance * decay^(i-1), and the product of the first i is
    acceptance^i * decay^(i(i-1)/2). Drafts whose chance would be above 1 are always accepted.

    Parameters
    ----------
    position : array or float
        Place of the draft in its chain, from 1.
    acceptance : array or float
        Chance that the first draft is accepted; above 1 where later ones are sure too.
    decay : array or float
        Chance of each further draft over that of the one before.

    Returns
    -------
    Array
        Chance, 0 to 1.

    References
    ----------
    Leviathan, Kalman & Matias, Fast Inference from Transformers via Speculative Decoding, arXiv:2211.17192, sec. 3.1.

    Examples
    --------
    >>> float(chain_chance(2.0, 0.5))
    0.25
    """
    i, a, d = (np.asarray(v, float) for v in (position, acceptance, decay))
    with np.errstate(divide="ignore", invalid="ignore"):
        fall = np.where(a > 1.0, np.floor(np.log(a) / np.abs(np.log(d))) + 1.0, 0.0)  # without decay: infinitely many
    sure = np.minimum(i, np.where(np.isnan(fall), 0.0, fall))
    return np.asarray(a ** (i - sure) * d ** ((i * (i - 1.0) - sure * (sure - 1.0)) / 2.0))


def tokens_per_step(drafts: Array | float, acceptance: Array | float, decay: Array | float = 1.0) -> Array:
    """Return the mean tokens that a decode step yields per sequence: 1 + a + a^2 + ..., with decay by position.

    Parameters
    ----------
    drafts : array or float
        Draft tokens that the step verifies, at most `MOST_DRAFTS`.
    acceptance : array or float
        Chance that the first draft is accepted.
    decay : array or float
        Chance of each further draft over that of the one before.

    Returns
    -------
    Array
        Tokens per sequence and step, from 1 to 1 + drafts.

    References
    ----------
    Leviathan, Kalman & Matias, arXiv:2211.17192, equation 1.

    Examples
    --------
    >>> float(tokens_per_step(2.0, 0.5))
    1.75
    """
    drafts, acceptance, decay = np.broadcast_arrays(*(np.asarray(v, float) for v in (drafts, acceptance, decay)))
    i = np.arange(1.0, MOST_DRAFTS + 1).reshape(-1, *([1] * drafts.ndim))
    return np.asarray(1.0 + np.where(i <= drafts, chain_chance(i, acceptance, decay), 0.0).sum(axis=0))


def acceptance_of(drafts: Array | float, tokens: Array | float, decay: Array | float = 1.0) -> Array:
    """Return the acceptance of the first draft that yields so many tokens per step, by bisection.

    Parameters
    ----------
    drafts : array or float
        Draft tokens that the step verifies, at most `MOST_DRAFTS`.
    tokens : array or float
        Mean tokens per sequence and step, from 1 to 1 + drafts.
    decay : array or float
        Chance of each further draft over that of the one before.

    Returns
    -------
    Array
        Chance that the first draft is accepted; above 1 where later ones have to be sure for so many tokens.

    References
    ----------
    Inverse of Leviathan, Kalman & Matias, arXiv:2211.17192, equation 1.

    Examples
    --------
    >>> round(float(acceptance_of(2.0, 1.75)), 6)
    0.5
    """
    drafts, tokens, decay = np.broadcast_arrays(*(np.asarray(v, float) for v in (drafts, tokens, decay)))
    low, high = np.zeros(tokens.shape), 1.0 / decay**MOST_DRAFTS
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        below = tokens_per_step(drafts, middle, decay) < tokens
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.asarray(0.5 * (low + high))
