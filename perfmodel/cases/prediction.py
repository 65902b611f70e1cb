"""`predict`: a table of cases in, the same table with predictions out. Rows are grouped, never looped over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from hwdb import Hwdb, InputError, PerfmodelError, UnknownName
from hwdb import load as load_hwdb
from perfmodel.arrays import Array
from perfmodel.cases.table import EMPTY, POOL_COLUMNS, Cases, cases_of, check_degrees, longest_prompt, read_cases
from perfmodel.cases.unstated import Placement, placement, unstated_weights
from perfmodel.costs import REMARK, CostModel, default, remark_column
from perfmodel.deployment import Deployments, deployments
from perfmodel.dtypes import COMPUTE_CODE, FORMAT_CODE, storage
from perfmodel.engines import KNOWN, Engine, Speculation, assumed, speculation_of
from perfmodel.engines import engine as engine_of
from perfmodel.estimates import Estimates, estimate_load, estimate_pools, prepare
from perfmodel.models import ModelSpec, model
from perfmodel.workload import (
    DEFAULT_REQUESTS_PER_CLIENT,
    OUTPUT_LENGTH_CV,
    POOLED_REQUESTS_PER_CLIENT,
    SYNCHRONISED,
    Load,
    lengths,
    truncated_cv,
)

if TYPE_CHECKING:
    import pandas as pd

OUTPUT = (
    "ttft_ms",
    "ttft_ms_p50",
    "ttft_ms_p90",
    "ttft_ms_p99",
    "tpot_ms",
    "tpot_ms_p50",
    "tpot_ms_p90",
    "tpot_ms_p99",
    "itl_ms_p50",
    "itl_ms_p99",
    "e2e_ms",
    "e2e_ms_p99",
    "req_s",
    "output_tok_s",
    "total_tok_s",
    "prefill_tok_s",
    "decode_tok_s",
    "memory_gb_per_device",
    "power_w_per_device",
    "energy_j_per_output_token",
)
#: Output columns with an 80 % interval -> whose spread it is.
INTERVALS = {
    **dict.fromkeys(("ttft_ms", "ttft_ms_p50", "ttft_ms_p90", "ttft_ms_p99"), "ttft"),
    **dict.fromkeys(("tpot_ms", "tpot_ms_p50", "tpot_ms_p90", "tpot_ms_p99", "itl_ms_p50", "itl_ms_p99"), "tpot"),
    **dict.fromkeys(("e2e_ms", "e2e_ms_p99"), "e2e"),
    **dict.fromkeys(("req_s", "output_tok_s", "total_tok_s", "prefill_tok_s", "decode_tok_s"), "throughput"),
    **dict.fromkeys(("power_w_per_device", "energy_j_per_output_token"), "power"),
}
#: Every column that `predict` writes; columns of these names in the table are replaced.
PREDICTED = (*OUTPUT, *(f"{c}_{end}" for c in INTERVALS for end in ("lo", "hi")), "fits", "basis", "error")
#: Requests of an offline batch whose size is not given: so many that its start and end do not show.
_MANY = 1e6
#: Engines that give devices, or sockets, whole layers (ggml-org/llama.cpp tools/server README: --split-mode layer).
_LAYERED = ("llamacpp", "ik_llama")
#: Weights whose checkpoints bring an fp8 KV cache where the engine's do (`Engine.narrow_cache`).
_BRING_CACHE = (FORMAT_CODE["fp8"], FORMAT_CODE["fp4"])
Value = TypeVar("Value")


def predict(
    cases: str | Path | pd.DataFrame, *, hwdb: Hwdb | None = None, progress: Callable[[int, int], None] | None = None
) -> pd.DataFrame:
    """The table of `cases` (a CSV path or a frame) with the columns of `OUTPUT`, their `_lo` and `_hi`, `fits`,
    `saturated` (the demand exceeds what is served), `basis` and `error`; `device_remark` where a device's file states
    figures that no profile was measured at.

    Known input columns are listed in `perfmodel.cases.table`; others pass through untouched. What a row cannot be
    answered for stands in its `error`. progress is told (rows done, rows) as groups finish. Raises `InputError` when
    there is no such table.
    """
    if isinstance(cases, str | Path):
        return Prediction(read_cases(cases), hwdb or load_hwdb()).run(progress)
    table = cases_of(cases.astype(object).where(cases.notna(), "").astype(str))
    answer = Prediction(table, hwdb or load_hwdb()).run(progress)
    kept = [c for c in cases.columns if c not in (*PREDICTED, REMARK)]
    answer[kept] = cases[kept]
    return answer


@dataclass(frozen=True)
class Group:
    """Rows that share model, engine and mode."""

    spec: ModelSpec
    engine: Engine
    mode: str
    rows: np.ndarray


class Prediction:
    """One run over a table: `groups` resolves names and refuses bad rows, `prepare` lays a group out."""

    def __init__(self, cases: Cases, database: Hwdb) -> None:
        self.cases = cases
        self.database = database
        rows = len(cases)
        self.out: dict[str, np.ndarray] = {c: np.full(rows, np.nan) for c in OUTPUT}
        for column in INTERVALS:
            self.out[f"{column}_lo"] = np.full(rows, np.nan)
            self.out[f"{column}_hi"] = np.full(rows, np.nan)
        self.out["fits"] = np.full(rows, "", dtype=object)
        self.out["saturated"] = np.full(rows, "", dtype=object)
        self.out["basis"] = np.full(rows, "", dtype=object)

    def run(self, progress: Callable[[int, int], None] | None) -> pd.DataFrame:
        """Answer group by group, telling progress (rows done, rows) after each."""
        groups = self.groups()
        done = int((self.cases.error != "").sum())
        for group in groups:
            try:
                self._answer(group)
            except PerfmodelError as problem:
                self.cases.refuse(np.isin(np.arange(len(self.cases)), group.rows), str(problem))
            done += len(group.rows)
            if progress:
                progress(done, len(self.cases))
        return self._frame()

    # -------------------------------------------------------------------------------------------- names to things

    def _resolve(self, column: str, find: Callable[[str], Value]) -> tuple[list[Value], np.ndarray]:
        """(distinct things, index of each row); rows whose name is unknown are refused and point to -1."""
        names, where = np.unique(self.cases.text[column].astype(str), return_inverse=True)
        things: list[Value] = []
        index = np.full(len(names), -1)
        for i, name in enumerate(names.tolist()):
            try:
                things.append(find(name))
                index[i] = len(things) - 1
            except PerfmodelError as problem:
                self.cases.refuse(where == i, str(problem))
        return things, index[where]

    def _codes(self, column: str, codes: Callable[[str], int]) -> np.ndarray:
        found, where = self._resolve(column, lambda name: codes(name) if name else -1)
        return np.array([*found, -1], dtype=np.intp)[where]

    def groups(self) -> list[Group]:
        """Rows that can be answered, by what they share; the others have their reason in `cases.error`."""
        cases = self.cases
        specs, spec = self._resolve("model", model)
        self.devices, self.device = self._resolve("device", self.database.device)
        self.weight = self._codes("weight_dtype", lambda n: FORMAT_CODE[storage(n).name])
        self.kv = self._codes("kv_dtype", lambda n: FORMAT_CODE[storage(n).name])
        self.act = self._codes("act_dtype", _compute_code)
        engines = np.char.add(
            np.char.add(cases.text["engine"].astype(str), "\t"), cases.text["engine_version"].astype(str)
        )
        cases.text["engine\tversion"] = engines.astype(object)
        found, which = self._resolve("engine\tversion", lambda key: engine_of(*key.split("\t")))
        drafting, drafted = self._resolve("spec_decode", _drafting)
        self.drafts, self.accepted = np.array([(d.drafts, d.accepted) for d in (*drafting, KNOWN[""])])[drafted].T
        mode = self._lengths_and_modes()
        self.pooled = np.any([np.isfinite(cases.number[c]) for c in POOL_COLUMNS], axis=0)
        check_degrees(cases, self.pooled)
        which = self._in_pools(found, which)
        pushed = np.array([e.family == "trtllm" for e in found] + [False])[which] & np.isin(mode, ("offline", "open"))
        pushed &= np.array([s.format_of("mlp").bytes >= 2.0 for s in specs] + [False])[spec] & ~self.pooled
        self.weight = unstated_weights(self.weight, self.devices, self.device, pushed)
        fine = np.flatnonzero(cases.error == "")
        which = self._assume(specs, spec, found, which, fine[self._tuned(mode)[fine]])
        # versions of one era are one engine; files of the user's own may bear the name of one that ships
        first = [found.index(e) for e in found]
        keys: dict[tuple[Any, ...], list[int]] = {}
        for row in fine.tolist():
            keys.setdefault((spec[row], first[which[row]], mode[row], bool(self.pooled[row])), []).append(row)
        return [Group(specs[s], found[e], m, np.array(rows)) for (s, e, m, _), rows in keys.items()]

    def _in_pools(self, engines: list[Engine], which: np.ndarray) -> np.ndarray:
        """Each row's engine; TensorRT-LLM workers in pools run its PyTorch backend, so that a version below 1.0 is that
        of Dynamo around them (docs.nvidia.com/dynamo, support matrix: 0.6 carries 1.1, 0.8 carries 1.2). Adds to
        `engines`."""
        old = np.array([e.family == "trtllm" and e.since < (1,) for e in engines] + [False])[which] & self.pooled
        if not old.any():
            return which
        engines.append(engine_of("trtllm", "1.0"))
        return np.where(old, len(engines) - 1, which)

    def _lengths_and_modes(self) -> np.ndarray:
        """Fill lengths from the named data set and modes from what is given; refuse rows that still lack them."""
        cases, number = self.cases, self.cases.number
        known, where = self._resolve("trace", lambda n: lengths(n) if n else None)
        self.longest = np.array([s.output_max if s else np.nan for s in known] + [np.nan])[where]
        for column, statistic in (("isl", "input_mean"), ("osl", "output_mean")):
            means = np.array([getattr(s, statistic) if s else np.nan for s in known] + [np.nan])
            number[column] = np.where(np.isfinite(number[column]), number[column], means[where])
            cases.refuse(~np.isfinite(number[column]), f"{column} is missing, and no data set is named in trace")
        mode = cases.text["mode"].copy()
        implied = [
            ("request_rate_rps", "open"),
            ("concurrency", "closed"),
            ("batch", "static"),
            ("n_requests", "offline"),
        ]
        for column, name in implied:
            mode[(mode == "") & np.isfinite(number[column])] = name
        mode[mode == ""] = "single"
        needs = {"open": "request_rate_rps", "closed": "concurrency", "static": "batch"}
        for name, column in needs.items():
            absent = (mode == name) & ~(number[column] > 0)
            cases.refuse(absent, f"mode {name} needs {column}, a number above 0")
        cases.refuse((mode == "offline") & (number["n_requests"] <= 0), "mode offline needs n_requests above 0")
        return mode

    # ------------------------------------------------------------------------------------------ published recipes

    def _tuned(self, mode: np.ndarray) -> np.ndarray:
        """Rows whose blanks are those of a published recipe: as `recipe` says, else those with a fixed number of
        clients or a batch and prompts of made-up lengths (whoever names a data set or an engine file of their own
        measured something else)."""
        text = self.cases.text
        own = np.char.endswith(text["engine"].astype(str), ".toml") | (text["trace"] != "")
        made_up = np.isin(mode, ("closed", "static")) & ~own
        return (text["recipe"] == "published") | (text["recipe"] == "") & made_up

    def _assume(
        self, specs: list[ModelSpec], spec: np.ndarray, engines: list[Engine], which: np.ndarray, rows: np.ndarray
    ) -> np.ndarray:
        """Fill settings that `rows` leave blank; returns each row's engine, of the recipe's era where a row states no
        version. Adds to `engines`."""
        number, which = self.cases.number, which.copy()
        text = {c: self.cases.text[c][rows].astype(str) for c in ("engine", "engine_version")}
        unsaid = (text["engine_version"] == "") & ~np.char.endswith(text["engine"], ".toml")
        kinds, where = np.unique(np.stack([spec[rows], which[rows], unsaid]), axis=1, return_inverse=True)
        for turn, (s, e, blank) in enumerate(kinds.T.tolist()):
            mine = rows[where.ravel() == turn]
            old = engines[e]
            found = assumed(
                specs[s],
                engine_of(old.name, "latest") if blank else old,
                self.devices,
                self.device[mine],
                self.weight[mine],
                prompt=longest_prompt(number["isl"][mine], self.cases.text["isl_dist"][mine]),
                ranks=np.nan_to_num(number["dp_attention"][mine], nan=1.0),
            )
            self.kv[mine] = np.where(self.kv[mine] < 0, found.kv, self.kv[mine])
            for column, values in (
                ("max_num_batched_tokens", found.max_num_batched_tokens),
                ("max_num_seqs", found.max_num_seqs),
            ):
                number[column][mine] = np.where(np.isnan(number[column][mine]), values, number[column][mine])
            for era in set(found.era[found.era != ""]) if blank else ():
                engines.append(engine_of(era))
                which[mine[found.era == era]] = len(engines) - 1
        return which

    # ------------------------------------------------------------------------------------------------- evaluation

    def _answer(self, group: Group) -> None:
        load, placed = self.prepare(group)
        if placed is None:
            found = self._pools(group, load)
        else:
            found = estimate_load(group.spec, load, placed, engine=group.engine, costs=_costs(group.engine))
        self._store(group.rows, found)

    def prepare(self, group: Group) -> tuple[Load, Deployments | None]:
        """Load and deployments of a group's rows; None in place of deployments for disaggregated rows."""
        number = self._numbers(group)
        load = self._load(group, number)
        if self.pooled[group.rows[0]]:
            return load, None
        placed = self._deployments(group.rows, **vars(self._placed(group, number)))
        return load, self._narrow_cache(group, load, placed)

    def _narrow_cache(self, group: Group, load: Load, placed: Deployments, workers: Array | float = 1.0) -> Deployments:
        """The deployments with an fp8 KV cache where none is stated and the engine's checkpoints bring one, or weights
        have 8 bits or less and a 16-bit cache would not hold the asked concurrency: whoever publishes such a run has
        turned it on."""
        own = np.isin(placed.weight, _BRING_CACHE) & group.engine.narrow_cache & _optimised(group.spec)
        narrow = (placed.kv < 0) & own
        if load.arrival in ("closed", "static"):
            setup = prepare(group.spec, placed, group.engine, _costs(group.engine), load)
            held = setup.memory.seqs * placed.replicas * workers
            bits = setup.sharding.weight_bytes("mlp") * 8.0
            narrow |= (placed.kv < 0) & (held < load.concurrency) & (bits <= 8.5)
        return replace(placed, kv=np.where(narrow, FORMAT_CODE["fp8"], placed.kv)) if narrow.any() else placed

    def _numbers(self, group: Group) -> dict[str, np.ndarray]:
        return {c: v[group.rows] for c, v in self.cases.number.items()}

    def _placed(self, group: Group, number: dict[str, np.ndarray]) -> Placement:
        given = {"tp": number["tp"], "pp": number["pp"], "ep": number["ep"], "dp": number["dp_attention"]}
        if group.engine.family in _LAYERED:
            given["tp"] = np.where(np.isnan(given["tp"]), 1.0, given["tp"])
            given["pp"] = np.where(np.isnan(given["pp"]), number["n_devices"] / given["tp"], given["pp"])
        memory = np.array([d.memory for d in self.devices])[self.device[group.rows]]
        weight = self.weight[group.rows]
        return placement(group.spec, number["n_devices"], given, memory=memory, weight=weight, mode=group.mode)

    def _deployments(self, rows: np.ndarray, **degrees: Any) -> Deployments:
        return deployments(
            self.devices,
            device=self.device[rows],
            weight=self.weight[rows],
            act=self.act[rows],
            kv=self.kv[rows],
            max_num_batched_tokens=self.cases.number["max_num_batched_tokens"][rows],
            max_num_seqs=self.cases.number["max_num_seqs"][rows],
            **degrees,
        )

    def _load(self, group: Group, number: dict[str, np.ndarray]) -> Load:
        rows = group.rows
        one = np.ones(len(rows))
        concurrency = {"static": number["batch"], "single": one}.get(group.mode, number["concurrency"])
        requests = number["n_requests"]
        if group.mode == "offline":
            requests = np.where(np.isfinite(requests), requests, _MANY)
        requests_per_client = np.where(self.pooled[rows], POOLED_REQUESTS_PER_CLIENT, DEFAULT_REQUESTS_PER_CLIENT)
        requests_per_client = np.where(np.isfinite(requests / concurrency), requests / concurrency, requests_per_client)
        full = number["osl"] / self.longest[rows]
        spread = [d.partition(":")[0] or "fixed" for d in self.cases.text["isl_dist"][rows].astype(str).tolist()]
        return Load(
            arrival=group.mode,  # type: ignore[arg-type]
            input=np.maximum(number["isl"], 1.0)[None],
            output=np.maximum(number["osl"], 1.0)[None],
            share=one[None],
            hit=np.nan_to_num(number["prefix_hit"])[None],
            concurrency=concurrency,
            rate=number["request_rate_rps"],
            n_requests=requests,
            cv=one,
            requests_per_client=requests_per_client,
            synchronised=np.array([SYNCHRONISED.get(s, 0.0) for s in spread]),
            length_cv=np.select(
                [np.array(spread) == k for k in OUTPUT_LENGTH_CV],
                [truncated_cv(k, full) for k in OUTPUT_LENGTH_CV],
                0.0,
            ),
            longest=np.where(np.isfinite(self.longest[rows]), self.longest[rows], np.inf),
            drafts=self.drafts[rows],
            accepted=self.accepted[rows],
        )

    def pools(self, group: Group) -> tuple[tuple[Deployments, Array], tuple[Deployments, Array]]:
        """Prefill and decode workers of a group's disaggregated rows: (one worker each, how many of them), (N,).

        More ranks than an expert has slices of 128 channels, as wide as tiles and scales are, hold whole experts.
        """
        number = self._numbers(group)
        mlps = [b.mlp for b in group.spec.blocks if b.mlp and b.mlp.experts]
        slices = min((m.intermediate / 128.0 for m in mlps), default=np.inf)

        def pool(kind: str) -> tuple[Deployments, np.ndarray]:
            tp, dp, ep = (number[f"{kind}_{d}"] for d in ("tp", "dp", "ep"))
            dp = np.where(np.isfinite(dp), dp, 1.0)
            tp = np.where(np.isfinite(tp), tp, np.maximum(np.nan_to_num(ep, nan=1.0) / dp, 1.0))
            ep = np.minimum(np.where(np.isfinite(ep), ep, 1.0), tp * dp)
            ep = np.where((ep <= 1.0) & (dp > 1.0) & (tp * dp > slices), tp * dp, ep)
            workers = number[f"{kind}_workers"]
            return self._deployments(group.rows, tp=tp, dp=dp, ep=ep), np.where(np.isfinite(workers), workers, 1.0)

        return pool("prefill"), pool("decode")

    def _pools(self, group: Group, load: Load) -> Estimates:
        (front, first), (back, second) = self.pools(group)
        back = self._narrow_cache(group, load, back, second)
        front = replace(front, kv=back.kv)  # one hands its cache to the other
        return estimate_pools(
            group.spec,
            load,
            (front, back),
            (first, second),
            engine=group.engine,
            costs=_costs(group.engine),
            batch=self._numbers(group)["prefill_batch"],
        )

    def _store(self, rows: np.ndarray, found: Estimates) -> None:
        columns = {**found.columns(), "req_s": found.request_rate}
        for column in OUTPUT:
            self.out[column][rows] = columns[column]
        for column, metric in INTERVALS.items():
            spread = found.spread[metric]
            self.out[f"{column}_lo"][rows] = columns[column] * np.exp(-spread)
            self.out[f"{column}_hi"][rows] = columns[column] * np.exp(spread)
        for flag in ("fits", "saturated"):
            self.out[flag][rows] = np.where(columns[flag], "true", "false")
        self.out["basis"][rows] = columns["basis"]

    def _frame(self) -> pd.DataFrame:
        import pandas as pd

        kept = self.cases.frame.drop(columns=[c for c in (*PREDICTED, REMARK) if c in self.cases.frame.columns])
        answers = pd.DataFrame(self.out | remark_column(self.devices, self.device), index=kept.index)
        answers["error"] = self.cases.error
        return pd.concat([kept, answers], axis=1)


def _optimised(spec: ModelSpec) -> bool:
    """Whether a copy of `spec` with 8-bit or narrower weights is the Model Optimizer's: others' checkpoints are scaled
    by blocks, and latent KV stays as it is."""
    latent = any(b.mixer is not None and b.mixer.kind == "mla" for b in spec.blocks)
    return not latent and "fp8_block" not in spec.formats.values()


@cache
def _costs(engine: Engine) -> CostModel:
    return default(engine.family, engine.name)


def _drafting(name: str) -> Speculation:
    found = speculation_of("" if name.lower() in EMPTY else name)
    if found is None:
        known = [n for n in KNOWN if n]
        raise UnknownName("spec_decode", name, known, f"(known: {', '.join(known)}; blank for none)")
    return found


def _compute_code(name: str) -> int:
    kind = storage(name).name
    if kind not in COMPUTE_CODE:
        raise InputError(f"act_dtype {name!r} is no arithmetic type; known are {', '.join(COMPUTE_CODE)}")
    return COMPUTE_CODE[kind]
