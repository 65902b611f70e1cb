"""Options of `estimate` that describe the deployment: model, device, parallelism, engine, pools."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from hwdb import InputError, UnknownKey, UnknownName
from search.options.words import COUNT, NAME, SHARE, TOKENS, ModelName

if TYPE_CHECKING:
    from perfmodel.deployment import HandOver
    from perfmodel.engines import Engine


@dataclass(frozen=True)
class DeploymentOptions:
    """The model, the device, and how the one is placed on many of the other."""

    section: ClassVar[str] = "Deployment"

    model: ModelName = ""
    device: Annotated[str, typer.Option(metavar=NAME, help="Device, as `hw list` names it.")] = ""
    tp: Annotated[int, typer.Option(metavar=COUNT, help="Tensor parallelism: devices that split each layer.")] = 1
    pp: Annotated[int, typer.Option(metavar=COUNT, help="Pipeline parallelism: stages of layers.")] = 1
    ep: Annotated[int, typer.Option(metavar=COUNT, help="Expert parallelism: devices that split the experts.")] = 1
    dp_attention: Annotated[
        int, typer.Option(metavar=COUNT, help="Attention data parallelism: copies of the attention layers.")
    ] = 1
    cp: Annotated[int, typer.Option(metavar=COUNT, help="Context parallelism: groups that split a long prompt.")] = 1
    cp_method: Annotated[
        str, typer.Option(metavar="WAY", help="How CP exchanges keys: ring, all_gather, pass_q (default: auto).")
    ] = "auto"
    kvp: Annotated[
        int, typer.Option(metavar=COUNT, help="KV parallelism: devices of TP that split the KV cache by position.")
    ] = 1
    replicas: Annotated[int, typer.Option(metavar=COUNT, help="Equal replicas that share the load.")] = 1
    weights: Annotated[
        str, typer.Option(metavar="FORMAT", help="Format of the weights: bf16, fp8, int4, … (default: the model's).")
    ] = ""
    activations: Annotated[
        str, typer.Option(metavar="FORMAT", help="Format of the arithmetic: bf16, fp8, … (default: from the weights).")
    ] = ""
    kv: Annotated[
        str, typer.Option(metavar="FORMAT", help="Format of the KV cache: bf16, fp8, … (default: the model's).")
    ] = ""
    power_cap_w: Annotated[
        float | None, typer.Option(metavar="W", help="Power limit set on each device (default: the device's own).")
    ] = None
    allow_long_context: Annotated[
        bool, typer.Option("--allow-long-context", help="Allow requests beyond the model's trained context.")
    ] = False
    from_: Annotated[
        str,
        typer.Option(
            "--from", metavar="COMMAND|FILE", help="What runs: a launch command in quotes, script, compose or manifest."
        ),
    ] = ""

    def complete(self) -> DeploymentOptions:
        """Return these options; raise `InputError` where the model or the device is missing."""
        if not self.model:
            raise InputError("MODEL is missing; give its Hugging Face name, or a deployment to read with --from")
        if not self.device:
            raise InputError("--device is missing; name one, as `hw list` does")
        return self

    def columns(self) -> dict[str, Any]:
        """Return the degrees and formats given on the command line, by the names of the columns of a deployment."""
        from perfmodel.dtypes import FORMAT_CODE, storage

        degrees = {name: getattr(self, name) for name in ("tp", "pp", "ep", "cp", "kvp", "replicas")}
        degrees["cp_method"] = _method_code(self.cp_method)
        formats = {"weight": self.weights, "kv": "" if self.kv.strip().lower() == "auto" else self.kv}
        codes = {name: FORMAT_CODE[storage(value).name] for name, value in formats.items() if value}
        codes |= {"act": _compute_code(self.activations)} if self.activations else {}
        cap = {} if self.power_cap_w is None else {"power_cap": _limit(self.power_cap_w)}
        return {**degrees, "dp": self.dp_attention, **codes, **cap}


def _at_least_one(name: str, value: float) -> float:
    """Return a limit of an engine step; raise `InputError` unless it is 1 or more. name: of its column."""
    if not 1.0 <= value < float("inf"):
        option = "--" + name.replace("_", "-")
        raise InputError(f"{option} {value:g} is no limit; give at least 1, or leave it out for the engine's own")
    return value


def _limit(watts: float) -> float:
    """Return a power limit in W; raise `InputError` unless it is above 0."""
    if not 0.0 < watts < float("inf"):
        raise InputError(f"--power-cap-w {watts:g} is no power limit; give watts above 0")
    return watts


def _method_code(name: str) -> int:
    """Return the code of a way to exchange keys by its name; raise `UnknownName` for another name."""
    from perfmodel.deployment import CP_METHOD_CODE, CP_METHODS

    if name not in CP_METHOD_CODE:
        raise UnknownName("way of context parallelism", name, CP_METHODS, f"({', '.join(CP_METHODS)})")
    return CP_METHOD_CODE[name]


def _compute_code(name: str) -> int:
    """Return the code of a compute type by its name; raise `UnknownName` for another name."""
    from perfmodel.dtypes import COMPUTE, COMPUTE_CODE

    if name not in COMPUTE_CODE:
        raise UnknownName("compute type", name, COMPUTE, f"({', '.join(COMPUTE)})")
    return COMPUTE_CODE[name]


@dataclass(frozen=True)
class EngineOptions:
    """The serving engine and its settings."""

    section: ClassVar[str] = "Engine"

    engine: Annotated[
        str, typer.Option(metavar=NAME, help="Serving engine: vllm, sglang, trtllm, …, or a TOML file.")
    ] = "vllm"
    engine_version: Annotated[
        str, typer.Option(metavar="VERSION", help="Version of the engine (default: the latest known).")
    ] = ""
    max_num_batched_tokens: Annotated[
        float | None,
        typer.Option(metavar=TOKENS, help="Token budget per step and attention DP rank (default: the engine's)."),
    ] = None
    max_num_seqs: Annotated[
        float | None,
        typer.Option(
            metavar=COUNT,
            help="Running sequences, counted as by the engine: per attention DP rank (SGLang: per replica).",
        ),
    ] = None
    gpu_memory_utilization: Annotated[
        float | None, typer.Option(metavar=SHARE, help="Share of device memory in use (default: the engine's).")
    ] = None
    engine_setting: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="Any other key of [engine] in a scenario, or the engine's flag for it; repeatable.",
        ),
    ] = None
    calibration: Annotated[
        Path | None,
        typer.Option(metavar="FILE.toml", help="What own benchmarks say of own systems, made by `calibrate`."),
    ] = None
    recipe: Annotated[
        bool, typer.Option("--recipe", help="Use the settings of published tuned runs where no option is given.")
    ] = False

    def columns(self) -> dict[str, float]:
        """Return the limits given on the command line, by the names of the columns of a deployment."""
        limits = {"max_num_batched_tokens": self.max_num_batched_tokens, "max_num_seqs": self.max_num_seqs}
        return {name: _at_least_one(name, value) for name, value in limits.items() if value is not None}

    def configured(self, engine: Engine, model: str = "") -> Engine:
        """Return `engine` with the settings given on the command line. Raises `InputError` for an unknown setting.

        model: name of the model that is served, by which factors of own benchmarks hold in full or in part.
        """
        engine = self._with_settings(engine)
        if self.calibration is None:
            return engine
        from perfmodel.user_calibration import read_adjustments

        return engine.adjusted_by(read_adjustments(self.calibration), model)

    def _with_settings(self, engine: Engine) -> Engine:
        """Return `engine` with the settings of `--engine-setting` and `--gpu-memory-utilization`."""
        from hwdb.tomlfile import Table
        from search.scenario import with_settings

        given = dict(_setting(text) for text in self.engine_setting or ())
        if self.gpu_memory_utilization is not None:
            given["gpu_memory_utilization"] = self.gpu_memory_utilization
        try:
            return with_settings(engine, Table(given, "--engine-setting")) if given else engine
        except UnknownKey as unknown:
            here = _called_here(unknown.key)
            if not here:
                raise
            raise InputError(f"{unknown if unknown.near else unknown.problem}; {here} states it here") from None


def _called_here(word: str) -> str:
    """Return the option, or else the key of `[engine]`, that a setting of an engine is called here; "" for none."""
    from perfmodel import glossary

    meant = [e for e in glossary.entries() if word in map(glossary.plain, (e.name, *e.others))]
    options = [f"--{e.name.replace('_', '-')}" for e in meant if "flag" in e.places]
    return next(iter([*options, *(e.name for e in meant if "[engine]" in e.places)]), "")


def _setting(text: str) -> tuple[str, Any]:
    """Return key and value of one `--engine-setting`; dashes as in flags ("--max-num-seqs=64") do not matter."""
    key, equals, value = text.partition("=")
    key = key.strip().lstrip("-").replace("-", "_")
    if not equals or not key:
        lacks = "value" if key else "key"
        raise InputError(f"--engine-setting {text!r} has no {lacks}; write KEY=VALUE, as in chunked_prefill=false")
    return key, _value(value.strip())


def _value(text: str) -> bool | int | float | str:
    """Return the value of an engine setting as TOML has it: true or false, a number, or else text."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text.strip("\"'")


@dataclass(frozen=True)
class PoolOptions:
    """Two pools of workers, one for prefill and one for decode; the deployment options describe a decode worker."""

    section: ClassVar[str] = "Disaggregated prefill and decode"

    prefill_workers: Annotated[int | None, typer.Option(metavar=COUNT, help="Workers of the prefill pool.")] = None
    decode_workers: Annotated[int | None, typer.Option(metavar=COUNT, help="Workers of the decode pool.")] = None
    prefill_device: Annotated[
        str, typer.Option(metavar=NAME, help="Device of the prefill pool (default: --device).")
    ] = ""
    prefill_tp: Annotated[
        int | None, typer.Option(metavar=COUNT, help="Tensor parallelism of a prefill worker (default: --tp).")
    ] = None
    prefill_pp: Annotated[
        int | None, typer.Option(metavar=COUNT, help="Pipeline parallelism of a prefill worker (default: --pp).")
    ] = None
    prefill_ep: Annotated[
        int | None, typer.Option(metavar=COUNT, help="Expert parallelism of a prefill worker (default: --ep).")
    ] = None
    prefill_dp_attention: Annotated[
        int | None,
        typer.Option(metavar=COUNT, help="Attention data parallelism of a prefill worker (default: --dp-attention)."),
    ] = None
    prefill_cp: Annotated[
        int | None, typer.Option(metavar=COUNT, help="Context parallelism of a prefill worker (default: --cp).")
    ] = None
    prefill_weights: Annotated[
        str, typer.Option(metavar="FORMAT", help="Format of a prefill worker's weights (default: --weights).")
    ] = ""
    prefill_activations: Annotated[
        str, typer.Option(metavar="FORMAT", help="Format of a prefill worker's arithmetic (default: --activations).")
    ] = ""
    prefill_max_num_batched_tokens: Annotated[
        float | None,
        typer.Option(metavar=TOKENS, help="Token budget of a prefill worker (default: --max-num-batched-tokens)."),
    ] = None
    prefill_max_num_seqs: Annotated[
        float | None,
        typer.Option(metavar=COUNT, help="As --max-num-seqs, of a prefill worker (default: --max-num-seqs)."),
    ] = None

    kv_link: Annotated[
        str,
        typer.Option(
            metavar="LINK", help="Link of the KV cache: node, rack, network (default: auto, where pools fit)."
        ),
    ] = "auto"
    kv_link_gbs: Annotated[
        float | None, typer.Option(metavar="GB/S", help="Rate of that link per device (default: the hardware's).")
    ] = None
    hand_over_ms: Annotated[
        float | None,
        typer.Option(metavar="MS", help="Time per request between pools besides the transfer (default: 20 or 100)."),
    ] = None
    layerwise: Annotated[
        bool, typer.Option("--layerwise", help="The KV cache of a layer leaves as soon as it is computed.")
    ] = False

    def hand_over(self) -> HandOver:
        """Return how KV cache moves between the pools. Raises `InputError` for values that mean nothing."""
        from typing import cast

        from perfmodel.deployment import HandOver, Place

        stated = {"bandwidth": (self.kv_link_gbs, 1e9), "delay": (self.hand_over_ms, 1e-3)}
        numbers = {name: value * unit for name, (value, unit) in stated.items() if value is not None}
        return HandOver(place=cast("Place", self.kv_link), layerwise=self.layerwise, **numbers)

    def columns(self) -> dict[str, float]:
        """Return what is given of a prefill worker, by the names of the columns of a deployment."""
        from perfmodel.dtypes import FORMAT_CODE, storage

        weight = FORMAT_CODE[storage(self.prefill_weights).name] if self.prefill_weights else None
        act = _compute_code(self.prefill_activations) if self.prefill_activations else None
        given = {**self._numbers(), "weight": weight, "act": act}
        for name in ("max_num_batched_tokens", "max_num_seqs"):
            if (limit := given[name]) is not None:
                _at_least_one(f"prefill_{name}", limit)
        return {name: float(value) for name, value in given.items() if value is not None}

    def _numbers(self) -> dict[str, float | None]:
        """Return the degrees and limits of a prefill worker, None where not given."""
        return {
            "tp": self.prefill_tp,
            "pp": self.prefill_pp,
            "ep": self.prefill_ep,
            "dp": self.prefill_dp_attention,
            "cp": self.prefill_cp,
            "max_num_batched_tokens": self.prefill_max_num_batched_tokens,
            "max_num_seqs": self.prefill_max_num_seqs,
        }

    def workers(self) -> tuple[int, int] | None:
        """Return the numbers of workers of the prefill pool and of the decode pool; None where no pool is asked for.

        Raises `InputError` where one of the numbers is missing or below 1.
        """
        numbers = {"prefill-workers": self.prefill_workers, "decode-workers": self.decode_workers}
        if all(n is None for n in numbers.values()):
            self._refuse_lone_options()
            return None
        for name, count in numbers.items():
            if count is None:
                raise InputError(f"--{name} is missing; give 1 or more")
            if count < 1:
                raise InputError(f"--{name} {count} is too few; give 1 or more")
        return int(self.prefill_workers or 0), int(self.decode_workers or 0)

    def _refuse_lone_options(self) -> None:
        """Raise `InputError` for options of a prefill worker without any pools."""
        formats = {"weights": self.prefill_weights or None, "activations": self.prefill_activations or None}
        given = {"device": self.prefill_device or None, **self._numbers(), **formats}
        for name, value in given.items():
            if value is not None:
                flag = {"dp": "dp-attention"}.get(name, name).replace("_", "-")
                raise InputError(f"--prefill-{flag} needs two pools; give --prefill-workers and --decode-workers")
        links = {
            "kv-link": self.kv_link != "auto",
            "kv-link-gbs": self.kv_link_gbs is not None,
            "hand-over-ms": self.hand_over_ms is not None,
            "layerwise": self.layerwise,
        }
        for flag, is_given in links.items():
            if is_given:
                raise InputError(f"--{flag} needs two pools; give --prefill-workers and --decode-workers")
