"""Declare how watts of steps are asked for: a description of steps, and what computes the watts of a device in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from perfmodel.arrays import Array


class Steps(NamedTuple):
    """Describe K steps: prompt tokens, keys of each, decoding sequences, their context (means), seconds; (K,) each."""

    prompt: Array
    keys: Array
    seqs: Array
    context: Array
    seconds: Array


@dataclass(frozen=True)
class DevicePower:
    """Compute the watts of the devices of a replica.

    busy: steps -> watts of one device while they run, (K,). ready: watts between steps. devices: of one replica.
    limit: power limit of a device in force, W. doubt: factor on the spread of watts (`perfmodel.estimates.Causes`).
    device: its name.
    """

    busy: Callable[[Steps], Array]
    ready: float
    devices: float
    limit: float
    doubt: float
    device: str = ""
