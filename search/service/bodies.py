"""Define what may be asked of the server: one model per operation, from which its schemas are made."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

#: Text of a scenario, a name, and a change. chosen: far above what people write.
MOST_TEXT, MOST_NAME, MOST_CHANGE, MOST_VALUES = 200_000, 200, 500, 200

Name = Annotated[str, StringConstraints(min_length=1, max_length=MOST_NAME)]
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Change = Annotated[str, StringConstraints(min_length=1, max_length=MOST_CHANGE)]
Number = Annotated[float, Field(strict=True)]
Numbers = Number | Annotated[list[Number], Field(min_length=1, max_length=MOST_VALUES)]
Names = Name | Annotated[list[Name], Field(min_length=1, max_length=MOST_VALUES)]
#: A row of a plan: column -> value.
Row = dict[str, str | float | int | bool | None]


class Body(BaseModel):
    """What all requests have in common: no field that is not known, and no number that is not finite."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class WithHardware(Body):
    """A request that may bring hardware of its own."""

    hardware_files: Annotated[
        dict[FileName, str],
        Field(description="Your own devices, nodes and prices: file name -> content of the TOML file."),
    ] = {}


class Estimate(WithHardware):
    """Estimate one deployment, or every combination of lists of devices, degrees, formats and loads."""

    model: Annotated[
        Name | dict[str, Any], Field(description="Hugging Face name of a model, or the content of its config.json.")
    ]
    device: Annotated[Names, Field(description="Device, as the operation hardware lists them, or a list.")]
    isl: Annotated[Numbers, Field(description="Prompt tokens per request.")] = 1024.0
    osl: Annotated[Numbers, Field(description="Output tokens per request.")] = 256.0
    prefix_hit: Annotated[Numbers, Field(description="Share of prompt tokens in the prefix cache, 0 to 1.")] = 0.0
    concurrency: Annotated[
        Numbers | None, Field(description="Requests in flight. Give one load; without any it is 1.")
    ] = None
    batch: Annotated[Numbers | None, Field(description="Sequences that start together.")] = None
    request_rate_rps: Annotated[Numbers | None, Field(description="Requests per second that arrive.")] = None
    tp: Annotated[Numbers, Field(description="Tensor parallelism: devices that split each layer.")] = 1.0
    pp: Annotated[Numbers, Field(description="Pipeline parallelism: stages of layers.")] = 1.0
    ep: Annotated[Numbers, Field(description="Expert parallelism: devices that split the experts.")] = 1.0
    dp_attention: Annotated[Numbers, Field(description="Attention data parallelism: copies of attention.")] = 1.0
    cp: Annotated[Numbers, Field(description="Context parallelism: groups that split a long prompt.")] = 1.0
    replicas: Annotated[Numbers, Field(description="Equal replicas that share the load.")] = 1.0
    weights: Annotated[Names | None, Field(description="Format of the weights: bf16, fp8, int4, ...")] = None
    kv: Annotated[Names | None, Field(description="Format of the KV cache: bf16, fp8, ...")] = None
    max_num_seqs: Annotated[Numbers | None, Field(description="Most sequences that run at once.")] = None
    max_num_batched_tokens: Annotated[Numbers | None, Field(description="Token budget per step.")] = None
    power_cap_w: Annotated[Numbers | None, Field(description="Power limit set on each device, W.")] = None
    engine: Annotated[Names, Field(description="Serving engine: vllm, sglang, trtllm, ...")] = "vllm"
    slo: Annotated[
        dict[Name, Number], Field(description='Bounds in ms, such as {"ttft_ms_p95": 500}; slo_chance is their chance.')
    ] = {}
    usd_per_hour: Annotated[dict[Name, Number], Field(description="Your price of a device: name -> USD per hour.")] = {}
    allow_long_context: Annotated[bool, Field(description="Allow requests beyond the model's context.")] = False
    explain: Annotated[
        int | None, Field(ge=0, description="Also return the operators of the row of this number, from 0.")
    ] = None


class ScenarioBody(WithHardware):
    """A request about a scenario."""

    scenario: Annotated[
        Annotated[str, StringConstraints(min_length=1, max_length=MOST_TEXT)] | dict[str, Any],
        Field(
            description="The scenario: text of a TOML file, or an object with the same tables (model, workload, ...)."
        ),
    ]
    files: Annotated[
        dict[FileName, str],
        Field(description="Files that the scenario names, such as a trace or a config.json: name -> content."),
    ] = {}


class PlanBody(ScenarioBody):
    """Rank the configurations that serve a scenario within its SLOs."""

    top: Annotated[int, Field(ge=1, le=500, description="Candidates that qualify.")] = 10
    misses: Annotated[int, Field(ge=0, le=100, description="Candidates that do not qualify, nearest first.")] = 3
    explain: Annotated[bool, Field(description="Also return the operators of the best candidate.")] = False


class WhatIf(ScenarioBody):
    """Plan a scenario with something different, and say what that changes."""

    set: Annotated[
        list[Change],
        Field(
            max_length=50, description="Changes that hold together: slo.ttft_ms_p95=300, device.h100-sxm.power.tdp*=2"
        ),
    ] = []
    grid: Annotated[
        list[Change], Field(max_length=2, description="KEY=LOW:HIGH:COUNT or KEY=A,B,C: a plan for each value.")
    ] = []


class Compare(Body):
    """Compare the best candidates of two plans."""

    before: Annotated[list[Row], Field(min_length=1, max_length=500, description="Rows of a plan.")]
    after: Annotated[list[Row], Field(min_length=1, max_length=500, description="Rows of the other plan.")]


class Fleet(ScenarioBody):
    """Find the least-cost mix of hardware for classes of requests over the day."""


class Report(ScenarioBody):
    """Make the report of a plan: one offline page, or the same content in another form."""

    form: Annotated[Literal["html", "md", "json", "csv"], Field(description="Form of the report.")] = "html"


class Models(Body):
    """List models of the catalogue, or show one."""

    like: Annotated[str, Field(max_length=MOST_NAME, description="Only names that contain this text.")] = ""
    name: Annotated[str, Field(max_length=MOST_NAME, description="One model, by its Hugging Face name.")] = ""
    limit: Annotated[int, Field(ge=1, le=1000, description="Most rows.")] = 100


class Hardware(Body):
    """List devices, or show every figure of one with its source."""

    kind: Annotated[str, Field(max_length=MOST_NAME, description="Only devices of this kind: gpu, cpu, tpu, ...")] = ""
    vendor: Annotated[str, Field(max_length=MOST_NAME, description="Only devices of this vendor.")] = ""
    name: Annotated[str, Field(max_length=MOST_NAME, description="One device: its figures and their sources.")] = ""
    limit: Annotated[int, Field(ge=1, le=1000, description="Most rows.")] = 200
