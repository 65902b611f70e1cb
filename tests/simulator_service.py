"""A simple service for tests of the simulator: affine step times, one pool, steady traffic."""

from __future__ import annotations

import numpy as np

import hwdb
import perfmodel
from perfmodel.simulator import Policy, Pool, StepTable, arrivals, traffic

TABLE = StepTable.affine(0.01, per_token=1e-5, per_seq=1e-4, per_context=1e-8, most_tokens=1 << 14, most_seqs=512)


def pool(policy=None, kv=50_000, **settings):
    return Pool(TABLE, policy or Policy(), kv_tokens=kv, **settings)


def steady(rate=4.0, count=400, prompt=500, output=50):
    return traffic(np.full(count, prompt), np.full(count, output), arrival=arrivals(rate, count, seed=1))


def deployment(device="h100-sxm", **columns):
    return perfmodel.deployments([hwdb.device(device)], **columns)
