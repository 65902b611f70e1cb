"""Published recipes: what those who publish tuned figures switch on for a model, an engine, a device and weights.

Tables of measurements often leave blank what the scripts behind them set: the format of the KV cache, tokens a step,
sequences at once. `recipe` gives the entry of `recipes.toml` that fits, with its sources; `assumed` says what rows that
leave settings blank are read with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hwdb.tomlfile import Table, read_toml
from perfmodel.arrays import Array
from perfmodel.dtypes import FORMAT_CODE, FORMAT_NAMES, storage
from perfmodel.engines.catalogue import engine as engine_of
from perfmodel.engines.spec import Engine
from perfmodel.models import ModelSpec, aliases
from perfmodel.models import model as model_of
from perfmodel.vocabulary import FORMER_NAMES

if TYPE_CHECKING:
    from hwdb import Device

TABLE = Path(__file__).with_name("recipes.toml")
#: Settings that rows which leave them blank may be read with.
ASSUMABLE = ("era", "kv", "max_num_batched_tokens", "max_num_seqs")
_NAN = float("nan")
_NUMBERS = ("max_num_batched_tokens", "prompt_multiple", "max_num_seqs", "graph_seqs")


@dataclass(frozen=True)
class Recipe:
    """What one publication sets for some models, weights and devices; NaN, None or an empty text: left to the engine.

    models: base models; devices: names, or how the architecture begins. kv: format of the KV cache. max_num_batched_tokens: tokens
    a step, at least `prompt_multiple` times the longest prompt. max_num_seqs: sequences at once. graph_seqs: largest batch
    in captured graphs. gpu_memory_utilization, prefix_cache: as in an engine file. era: engine file whose behaviour the flags
    give. since: first release. assumed: settings that rows which leave them blank are read with (see `ASSUMABLE`).
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
    max_num_batched_tokens: float = _NAN
    prompt_multiple: float = _NAN
    max_num_seqs: float = _NAN
    graph_seqs: float = _NAN
    gpu_memory_utilization: float = _NAN
    prefix_cache: bool | None = None
    assumed: tuple[str, ...] = ()
    note: str = ""

    def meets(self, device: Device) -> bool:
        """Whether it was published for `device`: by name (its own or that of the device it varies), or for its
        architecture."""
        named = {kin.name for kin in device.lineage}
        return any(d in named or device.arch.startswith(d) for d in self.devices)

    def fits(self, model: str, engine: Engine, device: Device, weight: str) -> bool:
        """Whether it speaks of base model `model` with weights stored as `weight`, on `device` under `engine`."""
        oldest = engine_of(self.engine, ".".join(map(str, self.since)))
        return (
            engine.family == self.engine
            and engine.since >= oldest.since
            and model in self.models
            and _plain(weight) in self.weights
            and self.meets(device)
        )

    def budget(self, prompt: Array | float, ranks: Array | float = 1.0) -> Array:
        """Tokens a step of each of `ranks` attention data-parallel ranks where the longest prompt has `prompt` tokens;
        NaN: the engine's own. (N,)

        SGLang divides the chunk it is given among the ranks (sgl-project/sglang server_args.py, enable_dp_attention).
        """
        flat = self.max_num_batched_tokens / (np.asarray(ranks, float) if self.engine == "sglang" else 1.0)
        return np.fmax(flat, self.prompt_multiple * np.asarray(prompt, float))

    def columns(self, prompt: Array | float = _NAN, ranks: Array | float = 1.0) -> dict[str, Any]:
        """What to give `deployments(...)` besides devices and degrees: kv, max_num_batched_tokens, max_num_seqs.

        prompt: tokens of the longest prompt; ranks: attention data parallelism.
        """
        return {
            "kv": FORMAT_CODE[self.kv] if self.kv else -1,
            "max_num_batched_tokens": self.budget(prompt, ranks),
            "max_num_seqs": self.max_num_seqs,
        }

    def tuned(self, engine: Engine, device: Device) -> Engine:
        """`engine` as the recipe runs it on `device`: its era, memory share, graphs and prefix cache.

        The era stays where `engine` is of a later one.
        """
        later = engine_of(self.era) if self.era else engine
        base = later if later.since > engine.since else engine
        limits = base.limits(device)
        own = {"gpu_memory_utilization": self.gpu_memory_utilization, "graph_seqs": self.graph_seqs}
        values = {k: getattr(limits, k) if v != v else v for k, v in own.items()}
        prefix = base.prefix_cache if self.prefix_cache is None else self.prefix_cache
        # limits by device are folded in, or they would win over the recipe's
        return base.changed(
            tiers=(),
            max_num_batched_tokens=limits.max_num_batched_tokens,
            max_num_seqs=limits.max_num_seqs,
            prefix_cache=prefix,
            **values,
        )


def _plain(weight: str) -> str:
    """Name of a storage format without its block scales: checkpoints differ there, recipes do not."""
    return storage(weight).name.removesuffix("_block")


def _release(table: Table) -> tuple[int, ...]:
    text = table.text("since")
    if not all(part.isdecimal() for part in text.split(".")):
        raise table.error("since", f"{text!r} is not a release; write it like '0.14'")
    return tuple(int(part) for part in text.split("."))


def _assumed(table: Table) -> tuple[str, ...]:
    names = table.texts("assumed", ())
    for name in names:
        if name not in ASSUMABLE:
            raise table.error("assumed", f"{name!r} is no setting to assume; known are {', '.join(ASSUMABLE)}")
    return names


def _recipe(table: Table) -> Recipe:
    numbers = {key: table.number(key, _NAN, above=0) for key in _NUMBERS}
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
        gpu_memory_utilization=table.number("gpu_memory_utilization", _NAN, above=0, most=1),
        prefix_cache=prefix,
        assumed=_assumed(table),
        note=table.text("note", ""),
        **numbers,
    )
    table.done(also=("prefix_cache",))
    return made


def read_recipes(path: str | Path) -> tuple[Recipe, ...]:
    """The recipes of the TOML file at `path`, in its order; `InputError` or `UnknownName` for what makes no sense."""
    top = read_toml(path, "table of recipes", FORMER_NAMES)
    found = tuple(_recipe(t) for t in top.tables("recipe"))
    top.done()
    return found


@cache
def recipes() -> tuple[Recipe, ...]:
    """The recipes that ship."""
    return read_recipes(TABLE)


def base_name(model: str) -> str:
    """Name of the base model that `model` (a name of the catalogue) is a copy or fine-tune of; itself if of none.

    >>> base_name("meta-llama/Llama-3.3-70B-Instruct")
    'meta-llama/Llama-3.1-70B'
    """
    known = aliases()
    while model in known:
        model = str(known[model]["base"])
    return model


def recipe(model: ModelSpec | str, engine: Engine | str, device: Device, weight: str = "") -> Recipe | None:
    """The published recipe for a model with weights stored as `weight` (empty: its own), or None.

    An engine's name means its newest era. Raises `UnknownName` for names that are not known.

    >>> import hwdb
    >>> recipe("meta-llama/Llama-3.3-70B-Instruct", "vllm", hwdb.device("h200-sxm"), "fp8").kv
    'fp8'
    """
    spec = model_of(model) if isinstance(model, str) else model
    chosen = engine_of(engine, "latest") if isinstance(engine, str) else engine
    base, stored = base_name(spec.name), weight or spec.formats["default"]
    return next((r for r in recipes() if r.fits(base, chosen, device, stored)), None)


def instead(model: ModelSpec, engine: Engine) -> str:
    """What there is where `recipe` finds none, in words: the engine's recipes for the model, else whose there are."""
    base = base_name(model.name)
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
    """What rows that leave settings blank are read with, (N,): code of the KV format (-1: the checkpoint's own), tokens
    a step and rank, sequences at once (NaN: the engine's own), name of the engine's era (empty: as it is)."""

    kv: NDArray[np.intp]
    max_num_batched_tokens: Array
    max_num_seqs: Array
    era: NDArray[np.object_]


def assumed(
    model: ModelSpec,
    engine: Engine,
    devices: Sequence[Device],
    device: NDArray[np.intp],
    weight: NDArray[np.intp],
    *,
    prompt: Array,
    ranks: Array,
) -> Assumed:
    """Settings to assume for rows of one model and engine.

    device: index into `devices`; weight: code of a storage format, -1 the model's own; prompt: tokens of the longest
    prompt; ranks: attention data parallelism; all (N,).
    """
    out = Assumed(
        np.full(len(device), -1, np.intp),
        np.full(len(device), _NAN),
        np.full(len(device), _NAN),
        np.full(len(device), "", object),
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
