"""Count what a sequence takes of a pool of equal pages that layers with different caches share (vLLM)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from perfmodel.arrays import Array
from perfmodel.deployment import Sharding
from perfmodel.dtypes import storage
from perfmodel.engines import Engine
from perfmodel.equations import SIXTEEN_BIT
from perfmodel.memory.kv_cache import cache_shards, sequence_bytes
from perfmodel.models import Mixer, ModelSpec

#: Numbers of layers that differ by less than this factor are padded to the larger one, others to multiples of the
#: smallest (vllm-project/vllm vllm/v1/core/kv_cache_utils.py @001cabc, _get_kv_cache_groups_uniform_page_size).
_NEAR = 1.5
#: Pages of recurrent state per group of layers and sequence: the running state, ...
_STATE_PAGES = 1.0
#: ... and with prefix caching the one before it (vllm-project/vllm vllm/v1/kv_cache_interface.py @001cabc, MambaSpec).
_STATE_PAGES_CACHED = 2.0
#: Pages of state per page of attention that prefix caching keeps in addition, copies from which prompts may resume.
#: Measured on Qwen3.6-27B and 3.8-27B: 0.11 (124 blocks where 112 are needed, vLLM 0.27.1 at 88,000 tokens) and 0.25
#: (noonghunna/club-3090 pull request 1170, 2026-09: 400,000 tokens fill 98 % of 530,081). Chosen: between the two.
_KEPT_COPIES = 0.2


class Layers(NamedTuple):
    """Describe the layers of a model that have one kind of cache: one of their mixers, and the number of layers."""

    mixer: Mixer
    number: int


def kinds_of_cache(model: ModelSpec) -> list[Layers]:
    """List the kinds of cache that the layers of `model` have: those of one kind have equal sizes and windows."""
    found: dict[tuple[object, ...], Layers] = {}
    for block in model.blocks:
        mixer = block.mixer
        if mixer is None or not (mixer.recurrent or mixer.kv_values):
            continue
        key = (mixer.recurrent, mixer.kv_values, mixer.window, mixer.compress, mixer.state_values)
        before = found[key].number if key in found else 0
        found[key] = Layers(mixer=mixer, number=before + block.count)
    return list(found.values())


def grouped(kinds: list[Layers]) -> tuple[int, list[int]]:
    """Return (layers per group, groups of each kind): every group has as many layers, the last of a kind is padded."""
    counts = [kind.number for kind in kinds]
    size = max(counts) if max(counts) < _NEAR * min(counts) else min(counts)
    return size, [-(-count // size) for count in counts]


def shares_pages(model: ModelSpec, engine: Engine) -> bool:
    """Return whether the layers of `model` share pages under `engine`: some attend to all tokens, others do not."""
    kinds = kinds_of_cache(model) if engine.kv_groups else []
    everything = [k.mixer.kind in ("full", "mla") for k in kinds]
    compressed = any(k.mixer.kind == "compressed" for k in kinds)
    return any(everything) and not all(everything) and not compressed


def paged_bytes(sharding: Sharding, engine: Engine, context: Array | float, kept: Array | float = 1.0) -> Array:
    """Return the bytes that one sequence takes of the KV capacity of one device, (C, N) or (N,).

    They are those of `sequence_bytes`, whose arguments these are, except where layers with different caches share
    pages: groups are padded to equal numbers of layers, and all pages are as large as a recurrent state.
    """
    if not shares_pages(sharding.model, engine):
        return sequence_bytes(sharding, context, kept)
    kinds = kinds_of_cache(sharding.model)
    size, groups = grouped(kinds)
    page, tokens = _page(sharding, engine, kinds), np.asarray(context, float) / sharding.cp
    attention, states = np.zeros(np.broadcast_shapes(tokens.shape, sharding.tp.shape)), 0
    for kind, number in zip(kinds, groups, strict=True):
        if kind.mixer.recurrent:
            states += number
        else:
            cached = kind.mixer.stored(tokens) * _token_bytes(sharding, kind.mixer)
            attention = attention + number * (cached if page is None else np.ceil(cached / page) * page)
    total = attention * kept
    if page is not None:
        total = total + _state_pages(engine, states, attention / page) * page
    stage = np.ceil(sharding.model.layers / sharding.pp) / sharding.model.layers
    return np.asarray(total * size * stage)


def _state_pages(engine: Engine, groups: int, attention: Array) -> Array:
    """Return the pages of recurrent state of a sequence that has `attention` pages of KV cache. Shape of `attention`.

    groups: groups of recurrent layers.
    """
    if not engine.hybrid_prefix_cache:
        return np.full_like(attention, groups * _STATE_PAGES)
    return groups * _STATE_PAGES_CACHED + _KEPT_COPIES * attention


def _token_bytes(sharding: Sharding, mixer: Mixer) -> Array:
    """Return the bytes of KV cache per token of one layer on one device. (N,)"""
    return np.asarray(mixer.kv_values * sharding.kv_bytes / cache_shards(sharding, mixer))


def _page(sharding: Sharding, engine: Engine, kinds: list[Layers]) -> Array | None:
    """Return the bytes of a page where layers have recurrent states, (N,); None where none has.

    It is the smallest number of whole KV blocks that holds a state.
    """
    width = storage(sharding.model.state_format).bytes
    states = [
        (k.mixer.recurrent_values * width + k.mixer.conv_values * SIXTEEN_BIT) / sharding.tp
        for k in kinds
        if k.mixer.recurrent
    ]
    if not states:
        return None
    widest = np.max([_token_bytes(sharding, k.mixer) for k in kinds if not k.mixer.recurrent], axis=0)
    block = widest * max(np.nan_to_num(engine.kv_block, nan=1.0), 1.0)
    return np.asarray(np.ceil(np.max(states, axis=0) / block) * block)
