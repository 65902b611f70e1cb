"""Search with Optuna where a space is too large to exhaust: a seeded sampler proposes candidates in batches."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from perfmodel.arrays import Array, Index
from search.searchers.protocol import SCORE, Found, Progress, Score, joined
from search.space import AXES, Legal

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

#: Score reported to the sampler where a candidate does not qualify. Chosen: above any real score, but finite.
SCORE_OF_REJECTED = 1e30


@dataclass(frozen=True)
class OptunaSearcher:
    """Searcher that uses a tree-structured Parzen estimator (Bergstra et al. 2011), `batch` candidates per round.

    trials: candidates that the sampler proposes. A candidate that a rule forbids is reported back as rejected without
    being scored. One that was scored before gets its score again. Optuna takes about a millisecond per trial, so this
    pays only where scoring a candidate costs more than that, or where there are too many for `Exhaustive`.
    """

    trials: int = 2000
    batch: int = 100
    seed: int = 0

    @property
    def name(self) -> str:
        """Return name, settings and seed, as the manifest records them."""
        return f"optuna(trials={self.trials}, batch={self.batch}, seed={self.seed})"

    def search(self, legal: Legal, score: Score, progress: Progress | None = None) -> Found:
        """Let the sampler propose `trials` candidates, and score each legal one once.

        progress: called with (done, total) after every batch.
        """
        tried = _Tried()
        with _quiet():
            study = _study(self.seed, self.batch)
            axes = _distributions(legal)
            for start in range(0, self.trials, self.batch):
                trials = [study.ask(axes) for _ in range(min(self.batch, self.trials - start))]
                rows = _rows(legal, trials)
                tried.score_new(rows, legal, score)
                for trial, row in zip(trials, rows.tolist(), strict=True):
                    study.tell(trial, tried.score_of(row))
                if progress:
                    progress(start + len(trials), self.trials)
                if len(tried.known) == len(legal):
                    break
        if not tried.parts:  # nothing legal was proposed: score one candidate, so that the result has its columns
            tried.score_new(np.zeros(1, dtype=np.intp), legal, score)
        return tried.found(len(legal))


@dataclass
class _Tried:
    """The candidates scored so far.

    known: score by row of the legal candidates. parts: columns of the candidates, one batch each, in the order of
    `known`.
    """

    known: dict[int, float] = field(default_factory=dict)
    parts: list[Mapping[str, Array]] = field(default_factory=list)

    def score_new(self, rows: Index, legal: Legal, score: Score) -> None:
        """Score those of `rows` that are legal (a forbidden one is -1) and not yet known."""
        fresh = [r for r in dict.fromkeys(rows.tolist()) if r >= 0 and r not in self.known]
        if fresh:
            scored = score(legal.deployments(np.array(fresh, dtype=np.intp)))
            self.parts.append(scored)
            self.known.update(zip(fresh, np.asarray(scored[SCORE]).tolist(), strict=True))

    def score_of(self, row: int) -> float:
        """Return the score to report to the sampler for the candidate at `row`; finite, even where it is rejected."""
        value = self.known.get(row, SCORE_OF_REJECTED)
        return value if np.isfinite(value) else SCORE_OF_REJECTED

    def found(self, legal: int) -> Found:
        """Return the candidates scored so far, in order of their rows. legal: number of legal candidates."""
        rows = np.array(list(self.known), dtype=np.intp)
        order = np.argsort(rows)
        scores = {name: column[order] for name, column in joined(self.parts).items()}
        return Found(rows=rows[order], scores=scores, complete=len(rows) == legal)


def _distributions(legal: Legal) -> dict[str, BaseDistribution]:
    """Build one categorical distribution per axis with more than one value, over the positions of its values."""
    from optuna.distributions import CategoricalDistribution

    return {
        axis: CategoricalDistribution(tuple(range(size)))
        for axis, size in zip(AXES, legal.space.shape, strict=True)
        if size > 1
    }


def _rows(legal: Legal, trials: list[optuna.Trial]) -> Index:
    """Return the rows, among the legal candidates, that the trials stand for; -1 where a rule forbids one."""
    picks = [np.array([t.params.get(axis, 0) for t in trials]) for axis in AXES]
    numbers = np.ravel_multi_index(tuple(picks), legal.space.shape)
    at = np.minimum(np.searchsorted(legal.index, numbers), len(legal) - 1)
    return np.where(legal.index[at] == numbers, at, -1)


def _study(seed: int, batch: int) -> optuna.Study:
    """Create a study that minimises the score; the first `batch` trials are random."""
    import optuna

    sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True, n_startup_trials=batch, multivariate=True)
    return optuna.create_study(direction="minimize", sampler=sampler)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Optuna's log and its warnings about experimental parts; both are restored afterwards."""
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)
