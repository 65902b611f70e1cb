"""Simulate the offline batches of several tasks in one run: each cell of the clock has a fixed cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple, cast

import numpy as np

from perfmodel.cooperative_tasks import answer_alike
from perfmodel.costs import CostModel, Deferred
from perfmodel.serving.offline_batches.drain import Drained, drain
from perfmodel.serving.offline_batches.offline_batch import OfflineBatch


class DrainQuestion(NamedTuple):
    """Ask how an offline batch goes on."""

    batch: OfflineBatch

    @staticmethod
    def answers(questions: Sequence[DrainQuestion]) -> list[Drained]:
        """Answer several questions, those whose batches have the same form in one run."""
        return answer_alike([question.batch for question in questions], _form, _drained_together)


def drained(costs: CostModel, *batches: OfflineBatch) -> list[Drained]:
    """Simulate offline batches, beside those of other tasks where their steps are priced together too (`Deferred`)."""
    questions = [DrainQuestion(batch) for batch in batches]
    if isinstance(costs, Deferred):
        return list(costs.ask(questions))
    return [drain(batch) for batch in batches]


def _drained_together(batches: Sequence[OfflineBatch]) -> list[Drained]:
    """Simulate batches of one form in one run."""
    if len(batches) == 1:
        return [drain(batches[0])]
    counts = [len(batch.count) for batch in batches]
    whole, ends = drain(_joined(batches, counts)), np.cumsum(counts)[:-1]
    parts = [np.split(getattr(whole, f.name), ends, axis=-1) for f in fields(Drained)]
    return [Drained(*columns) for columns in zip(*parts, strict=True)]


def _form(batch: OfflineBatch) -> tuple[Any, ...]:
    """Return what agrees between batches that are simulated in one run: all but the number of candidates.

    Whether requests arrive late decides how often each cell is computed.
    """
    return bool(np.any(np.asarray(batch.gap) > 0.0)), _shape(batch)


def _shape(value: Any) -> Any:
    """Return the types of a value and of its parts, and the leading axes of its arrays."""
    parts = _parts(value)
    if parts is not None:
        return type(value), *map(_shape, parts)
    return value if _is_plain(value) else np.shape(value)[:-1]


def _joined(values: Sequence[Any], counts: Sequence[int]) -> Any:
    """Return one value with the columns of several of the same form, which have so many candidates each."""
    first = values[0]
    if _parts(first) is not None:
        parts = zip(*(cast("list[Any]", _parts(value)) for value in values), strict=True)
        return type(first)(*(_joined(part, counts) for part in parts))
    if _is_plain(first):
        return first
    wide = (np.broadcast_to(v, (*np.shape(v)[:-1], n)) for v, n in zip(values, counts, strict=True))
    return np.concatenate(list(wide), axis=-1)


def _parts(value: Any) -> list[Any] | None:
    """Return the fields of a dataclass or of a named tuple; None of any other value."""
    if is_dataclass(value):
        return [getattr(value, f.name) for f in fields(value)]
    return list(value) if isinstance(value, tuple) else None


def _is_plain(value: Any) -> bool:
    """Return whether a value is no figure of candidates: a setting, or nothing at all."""
    return value is None or isinstance(value, bool)
