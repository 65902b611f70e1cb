"""The columns that say which deployment a row of an estimate is: device, degrees, formats, limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from perfmodel.arrays import Array, Index
from perfmodel.deployment import Deployments
from perfmodel.dtypes import FORMAT_NAMES
from perfmodel.estimates.columns.groups import ColumnGroup
from perfmodel.models import ModelSpec

DEGREES = ("tp", "pp", "ep", "dp", "cp", "kvp")
LIMITS = ("max_num_batched_tokens", "max_num_seqs")
HOSTED = ("host_weights", "host_experts", "host_kv")


@dataclass(frozen=True)
class DeploymentColumns(ColumnGroup):
    """Hold what identifies N deployments: name -> (N,) numbers or texts."""

    columns: Mapping[str, NDArray[Any]]

    def arrays(self) -> dict[str, Array]:
        """Return no columns: these describe the question, and none is part of the answer."""
        return {}

    def take(self, rows: Any) -> Self:
        """Select the given deployments: indices, a mask or a slice."""
        return type(self)({name: values[rows] for name, values in self.columns.items()})

    @classmethod
    def concatenate(cls, parts: list[Self]) -> Self:
        """Join along the deployments; a part that lacks a column has NaN there."""
        names = dict.fromkeys(name for part in parts for name in part.columns)
        counts = [len(next(iter(part.columns.values()))) for part in parts]
        gaps = [np.full(n, np.nan, dtype=object) for n in counts]
        joined = {n: [p.columns.get(n, gap) for p, gap in zip(parts, gaps, strict=True)] for n in names}
        return cls({name: np.concatenate(values) for name, values in joined.items()})


def placed(model: ModelSpec, deployments: Deployments) -> DeploymentColumns:
    """Return what identifies colocated deployments; formats that they leave to the model are the model's."""
    return DeploymentColumns({**_columns(model, deployments), "replicas": deployments.replicas})


def placed_pools(
    model: ModelSpec, pools: tuple[Deployments, Deployments], workers: tuple[Array, Array]
) -> DeploymentColumns:
    """Return what identifies pairs of pools: columns of a decode worker, then of a prefill worker with `prefill_`.

    pools, workers: deployment of a worker and numbers of workers, prefill first.
    """
    prefill = {f"prefill_{name}": values for name, values in _columns(model, pools[0]).items()}
    return DeploymentColumns(
        {
            **_columns(model, pools[1]),
            **prefill,
            "prefill_workers": np.asarray(workers[0]),
            "decode_workers": np.asarray(workers[1]),
        }
    )


def _columns(model: ModelSpec, d: Deployments) -> dict[str, NDArray[Any]]:
    """Return device, degrees, formats, limits, and the shares in host memory where there are any, (N,) each."""
    names = np.array([device.name for device in d.devices], dtype=object)
    return {
        "device": names[d.device],
        **{name: getattr(d, name) for name in DEGREES},
        "weight": _formats(d.weight, model.weight_format),
        "kv": _formats(d.kv, model.kv_format),
        **{name: getattr(d, name) for name in LIMITS},
        **{name: getattr(d, name) for name in HOSTED if getattr(d, name).any()},
    }


def _formats(codes: Index, own: str) -> NDArray[Any]:
    """Return names of number formats by code, (N,); `own` for a negative code, the model's own format."""
    return np.array([*FORMAT_NAMES, own], dtype=object)[codes]
