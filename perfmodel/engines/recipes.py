"""Published recipes: settings of those who publish tuned results, by model, engine, device and format of weights.

Tables of measurements often leave blank what the launch scripts behind them set: the format of the KV cache, the token
budget, the sequences at once. `recipe` gives the entry of `recipes.toml` that applies, with its sources; `assumed`
gives the settings with which rows that leave them blank are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hwdb.tomlfile import Table, read_toml
from perfmodel.arrays import NAN, Array, Index
from perfmodel.dtypes import FORMAT_CODE, FORMAT_NAMES, storage
from perfmodel.engines.catalogue import engine as engine_of
from perfmodel.engines.spec import Engine
from perfmodel.models import ModelSpec, aliases
from perfmodel.models import model as model_of
from perfmodel.vocabulary import FORMER_NAMES

if TYPE_CHECKING:
    from hwdb import Device

TABLE = Path(__file__).with_name("recipes.toml")
#: Settings that may be assumed for rows that leave them blank.
ASSUMABLE = ("era", "kv", "max_num_batched_tokens", "max_num_seqs")
_NUMBERS = ("max_num_batched_tokens", "prompt_multiple", "max_num_seqs", "graph_seqs")
#: Code of a format that is left to the checkpoint.
_OWN_FORMAT = -1


@dataclass(frozen=True)
class Recipe:
    """Holds what one publication sets for some models, weights and devices; NaN, None, empty: left to the engine.

    engine: its family. models: base models. weights: storage formats. devices: names, or how architectures begin.
    since: first release. era: engine file whose behaviour the flags give. kv: format of the KV cache.
    max_num_batched_tokens: tokens per step, at least `prompt_multiple` times the longest prompt. max_num_seqs:
    sequences running at once, as the engine's flag counts. graph_seqs: largest batch in captured graphs.
    gpu_memory_utilization, prefix_cache: as in an engine file. Assumed: settings of this recipe that are assumed for
    rows which leave them blank (`ASSUMABLE`).
    """

    name: str
    engine: str
    models: tuple[str, ...]
    weights: tuple[str, ...]
    devices: tuple[str, ...]
    sources: tuple[str, ...]
    since: tuple[int, ...]
    era: str = ""
    kv: str = ""
    max_num_batched_tokens: float = NAN
    prompt_multiple: float = NAN
    max_num_seqs: float = NAN
    graph_seqs: float = NAN
    gpu_memory_utilization: float = NAN
    prefix_cache: bool | None = None
    assumed: tuple[str, ...] = ()
    note: str = ""

    def meets(self, device: Device) -> bool:
        """Return whether the recipe was published for `device`: for its name, the name of a device that it is a variant
        of, or its architecture."""
        named = {kin.name for kin in device.lineage}
        return any(d in named or device.arch.startswith(d) for d in self.devices)

    def fits(self, model: str, engine: Engine, device: Device, weight: str) -> bool:
        """Return whether the recipe applies to base model `model` with weights stored as `weight`, on `device` under
        `engine`."""
        oldest = engine_of(self.engine, ".".join(map(str, self.since)))
        return (
            engine.family == self.engine
            and engine.since >= oldest.since
            and model in self.models
            and _plain(weight) in self.weights
            and self.meets(device)
        )

    def budget(self, prompt: Array | float, ranks: Array | float = 1.0) -> Array:
        """Return the token budget, in tokens per step and attention data-parallel rank, (N,); NaN: the engine's own.

        prompt: tokens of the longest prompt. ranks: number of attention data-parallel ranks. The recipe's budget is
        divided among the ranks where the engine does that (`Engine.budget_split_over_ranks`).
        """
        sharing = np.asarray(ranks, float) if engine_of(self.engine).budget_split_over_ranks else 1.0
        flat = self.max_num_batched_tokens / sharing
        return np.fmax(flat, self.prompt_multiple * np.asarray(prompt, float))

    def columns(self, prompt: Array | float = NAN, ranks: Array | float = 1.0) -> dict[str, Array | int | float]:
        """Return the recipe's arguments for `deployments(...)`: kv, max_num_batched_tokens and max_num_seqs.

        prompt: tokens of the longest prompt. ranks: number of attention data-parallel ranks.
        """
        return {
            "kv": FORMAT_CODE[self.kv] if self.kv else _OWN_FORMAT,
            "max_num_batched_tokens": self.budget(prompt, ranks),
            "max_num_seqs": self.max_num_seqs,
        }

    def tuned(self, engine: Engine) -> Engine:
        """Return `engine` as the recipe runs it: era, share of memory, captured graphs and prefix cache.

        An engine of a later era than the recipe's keeps its own era.
        """
        later = engine_of(self.era) if self.era else engine
        base = later if later.since > engine.since else engine
        own = {"gpu_memory_utilization": self.gpu_memory_utilization, "graph_seqs": self.graph_seqs}
        stated: dict[str, float | bool] = {k: v for k, v in own.items() if not np.isnan(v)}
        if self.prefix_cache is not None:
            stated["prefix_cache"] = self.prefix_cache
        return base.changed(**stated)


def _plain(weight: str) -> str:
    """Return the storage format `weight` without its block scales: checkpoints differ in those, recipes do not."""
    return storage(weight).name.removesuffix("_block")


def _release(table: Table) -> tuple[int, ...]:
    """Read the first release that a recipe holds for, from its key `since`, as numbers."""
    text = table.text("since")
    if not all(part.isdecimal() for part in text.split(".")):
        raise table.error("since", f"{text!r} is not a release; write it like '0.14'")
    return tuple(int(part) for part in text.split("."))


def _assumed(table: Table) -> tuple[str, ...]:
    """Read which settings of a recipe are assumed for rows that leave them blank; `InputError` for any other name."""
    names = table.texts("assumed", ())
    for name in names:
        if name not in ASSUMABLE:
            raise table.error("assumed", f"{name!r} is no setting to assume; known are {', '.join(ASSUMABLE)}")
    return names


def _recipe(table: Table) -> Recipe:
    """Read one recipe from its `[[recipe]]` table."""
    numbers = {key: table.number(key, NAN, above=0) for key in _NUMBERS}
    prefix = table.flag("prefix_cache") if "prefix_cache" in table else None
    kv, era = table.text("kv", ""), table.text("era", "")
    made = Recipe(
        name=table.text("name"),
        engine=engine_of(table.text("engine")).family,
        models=table.texts("models"),
        weights=tuple(_plain(w) for w in table.texts("weights")),
        devices=table.texts("devices"),
        sources=table.texts("sources"),
        since=_release(table),
        era=engine_of(era).name if era else "",
        kv=storage(kv).name if kv else "",
        gpu_memory_utilization=table.number("gpu_memory_utilization", NAN, above=0, most=1),
        prefix_cache=prefix,
        assumed=_assumed(table),
        note=table.text("note", ""),
        **numbers,
    )
    table.done(also=("prefix_cache",))
    return made


def read_recipes(path: str | Path) -> tuple[Recipe, ...]:
    """Read the recipes of the TOML file at `path`, in its order; `InputError` or `UnknownName` for a wrong entry."""
    top = read_toml(path, "table of recipes", FORMER_NAMES)
    found = tuple(_recipe(t) for t in top.tables("recipe"))
    top.done()
    return found


@cache
def recipes() -> tuple[Recipe, ...]:
    """Read the recipes that ship, in the order of the file; the first that applies counts."""
    return read_recipes(TABLE)


def base_name(model: str) -> str:
    """Return the base model that `model` (a name of the catalogue) is a copy or fine-tune of; else `model` itself.

    >>> base_name("meta-llama/Llama-3.3-70B-Instruct")
    'meta-llama/Llama-3.1-70B'
    """
    known = aliases()
    while model in known:
        model = str(known[model]["base"])
    return model


def recipe(model: ModelSpec | str, engine: Engine | str, device: Device, weight: str = "") -> Recipe | None:
    """Return the first published recipe that applies to a model, engine, device and format of weights, or None.

    engine: a name stands for its newest era. weight: storage format of the weights; empty for the model's own. Raises
    `UnknownName` for names that are not known.

    >>> import hwdb
    >>> recipe("meta-llama/Llama-3.3-70B-Instruct", "vllm", hwdb.device("h200-sxm"), "fp8").kv
    'fp8'
    """
    spec = model_of(model) if isinstance(model, str) else model
    chosen = engine_of(engine, "latest") if isinstance(engine, str) else engine
    base, stored = base_name(spec.base or spec.name), weight or spec.formats["default"]
    return next((r for r in recipes() if r.fits(base, chosen, device, stored)), None)


def instead(model: ModelSpec, engine: Engine) -> str:
    """Return a sentence that says which recipes exist, for use where `recipe` finds none.

    It lists those of the engine for the model, else those of other engines for the model, else those of the engine for
    other models.
    """
    base = base_name(model.base or model.name)
    same = [r for r in recipes() if base in r.models]
    own = [r for r in same if r.engine == engine.family]
    if own:
        each = (f"{' or '.join(r.weights)} on {', '.join(r.devices)} from {'.'.join(map(str, r.since))}" for r in own)
        return f"{engine.family} has them for {'; '.join(each)}"
    if same:
        return f"{engine.family} has none for this model; {' and '.join(dict.fromkeys(r.engine for r in same))} do"
    have = sorted({m for r in recipes() if r.engine == engine.family for m in r.models})
    if not have:
        return f"{engine.family} has none; {', '.join(dict.fromkeys(r.engine for r in recipes()))} do"
    return f"there is none for this model; {engine.family} has them for {', '.join(have)}"


class Assumed(NamedTuple):
    """Holds the settings assumed for N rows that leave them blank, (N,) each.

    kv: code of the KV cache's format, -1 for the checkpoint's own. max_num_batched_tokens: tokens per step and
    attention data-parallel rank, max_num_seqs: sequences running at once, both NaN for the engine's own. era: name of
    an engine file, empty for the engine as it is.
    """

    kv: Index
    max_num_batched_tokens: Array
    max_num_seqs: Array
    era: NDArray[np.object_]


def assumed(
    model: ModelSpec,
    engine: Engine,
    devices: Sequence[Device],
    device: Index,
    weight: Index,
    *,
    prompt: Array,
    ranks: Array,
) -> Assumed:
    """Return the settings to assume for N rows of one model and engine, by each row's device and weights (`recipe`).

    Args:
        model: the model of all rows.
        engine: the engine of all rows.
        devices: the devices that occur.
        device: (N,) index into `devices`.
        weight: (N,) code of the weights' storage format, -1 for the model's own.
        prompt: (N,) tokens of the longest prompt.
        ranks: (N,) number of attention data-parallel ranks.
    """
    out = Assumed(
        kv=np.full(len(device), _OWN_FORMAT, np.intp),
        max_num_batched_tokens=np.full(len(device), NAN),
        max_num_seqs=np.full(len(device), NAN),
        era=np.full(len(device), "", object),
    )
    pairs, where = np.unique(np.stack([device, weight]), axis=1, return_inverse=True)
    for turn, (d, w) in enumerate(pairs.T.tolist()):
        found = recipe(model, engine, devices[d], FORMAT_NAMES[w] if w >= 0 else "")
        rows = where.ravel() == turn
        if found is None:
            continue
        columns = {**found.columns(prompt[rows], ranks[rows]), "era": found.era}
        for name in found.assumed:
            getattr(out, name)[rows] = columns[name]
    return out
