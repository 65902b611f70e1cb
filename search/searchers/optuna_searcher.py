"""Optuna as a searcher, for spaces too large to exhaust: seeded, asked in batches, told back."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from search.searchers.protocol import OBJECTIVE, Array, Found, Progress, Score, joined
from search.space import AXES, Index, Legal

if TYPE_CHECKING:
    import optuna

#: Told to the sampler where a candidate does not qualify: worse than anything real, but finite.
WORST = 1e30


@dataclass(frozen=True)
class OptunaSearcher:
    """Tree-structured Parzen estimation (Bergstra et al. 2011) over the axes, `batch` candidates at a time.

    trials: candidates asked for. A candidate that some rule forbids is told back as worst without being scored; one
    that was scored already is told its score again. Optuna itself takes about a millisecond a trial, so this pays only
    where a candidate costs more than that, or where there are too many for `Exhaustive`.
    """

    trials: int = 2000
    batch: int = 100
    seed: int = 0

    @property
    def name(self) -> str:
        """As a manifest records it."""
        return f"optuna(trials={self.trials}, batch={self.batch}, seed={self.seed})"

    def search(self, legal: Legal, score: Score, progress: Progress | None = None) -> Found:
        """Ask `trials` times; each legal candidate is scored once."""
        known: dict[int, float] = {}
        parts: list[Mapping[str, Array]] = []
        tried: list[int] = []
        with _quiet():
            study = _study(self.seed, self.batch)
            axes = _axes(legal)
            for start in range(0, self.trials, self.batch):
                asked = [study.ask(axes) for _ in range(min(self.batch, self.trials - start))]
                rows = _rows(legal, asked)
                fresh = np.array([r for r in dict.fromkeys(rows.tolist()) if r >= 0 and r not in known], dtype=np.intp)
                if len(fresh):
                    scored = score(legal.deployments(fresh))
                    parts.append(scored)
                    tried += fresh.tolist()
                    known.update(zip(fresh.tolist(), np.asarray(scored[OBJECTIVE]).tolist(), strict=True))
                for trial, row in zip(asked, rows.tolist(), strict=True):
                    value = known.get(row, WORST)
                    study.tell(trial, value if np.isfinite(value) else WORST)
                if progress:
                    progress(start + len(asked), self.trials)
                if len(known) == len(legal):
                    break
        if not parts:  # nothing legal was drawn: score one, so that the answer has its columns
            tried, parts = [0], [score(legal.deployments(np.zeros(1, dtype=np.intp)))]
        order = np.argsort(tried)
        scores = {name: column[order] for name, column in joined(parts).items()}
        return Found(rows=np.array(tried, dtype=np.intp)[order], scores=scores, complete=len(tried) == len(legal))


def _axes(legal: Legal) -> dict[str, Any]:
    """One distribution an axis: the position of a value on it."""
    from optuna.distributions import CategoricalDistribution

    return {
        axis: CategoricalDistribution(tuple(range(size)))
        for axis, size in zip(AXES, legal.space.shape, strict=True)
        if size > 1
    }


def _rows(legal: Legal, asked: list[optuna.Trial]) -> Index:
    """Rows of the legal candidates that the trials stand for, -1 where a rule forbids one."""
    picks = [np.array([t.params.get(axis, 0) for t in asked]) for axis in AXES]
    numbers = np.ravel_multi_index(tuple(picks), legal.space.shape)
    at = np.minimum(np.searchsorted(legal.index, numbers), len(legal) - 1)
    return np.where(legal.index[at] == numbers, at, -1)


def _study(seed: int, batch: int) -> optuna.Study:
    import optuna

    sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True, n_startup_trials=batch, multivariate=True)
    return optuna.create_study(direction="minimize", sampler=sampler)


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna without its log lines and without notices that parts of it are experimental; restored afterwards."""
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)
